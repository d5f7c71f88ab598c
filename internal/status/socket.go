package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// ErrNotRunning: nothing answers in the data directory.
var ErrNotRunning = errors.New("no afterimage is running")

const (
	socketFile = "status.sock"
	// maxSocketPath is what every Unix takes for the path of a socket (Linux 107,
	// macOS 103 bytes).
	maxSocketPath = 100
	// shortPrefix begins the folder of a socket whose data directory is too deep.
	shortPrefix = "afterimage-"
	statusPath  = "/status"
)

// Server answers in a data directory.
type Server struct {
	http  *http.Server
	paths []string
	done  chan struct{}
}

// Serve begins to answer with what say returns. The caller holds the data
// directory alone: a socket that is there already is a dead process's.
func Serve(dataDir string, say func() Process) (*Server, error) {
	path, paths, err := place(dataDir)
	if err != nil {
		return nil, fmt.Errorf("status socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("status socket: %w", err)
	}
	// The directory is its owner's alone, so nobody gets in before the chmod.
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("status socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+statusPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(say()) // whoever asked has gone
	})
	s := &Server{http: &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}, paths: paths, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		_ = s.http.Serve(l) // always ErrServerClosed after Close
	}()
	return s, nil
}

// place finds where the socket goes and removes what an earlier process left
// there. Where the data directory's path is too long for a socket, the socket
// goes to a folder for temporary files and a link in the data directory leads to it.
func place(dataDir string) (path string, paths []string, err error) {
	link := filepath.Join(dataDir, socketFile)
	if old, err := os.Readlink(link); err == nil && strings.HasPrefix(filepath.Base(filepath.Dir(old)), shortPrefix) {
		_ = os.Remove(old)
		_ = os.Remove(filepath.Dir(old))
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", nil, err
	}
	if len(link) <= maxSocketPath {
		return link, []string{link}, nil
	}
	dir, err := os.MkdirTemp("", shortPrefix) // mode 0700
	if err != nil {
		return "", nil, err
	}
	path = filepath.Join(dir, socketFile)
	if err := os.Symlink(path, link); err != nil {
		_ = os.Remove(dir)
		return "", nil, err
	}
	return path, []string{path, dir, link}, nil
}

// Close stops answering and removes the socket.
func (s *Server) Close() {
	_ = s.http.Close()
	<-s.done
	for _, p := range s.paths {
		_ = os.Remove(p)
	}
}

// Get asks the process that runs in a data directory. ErrNotRunning: there is none.
func Get(ctx context.Context, dataDir string) (Process, error) {
	abs, err := filepath.Abs(dataDir)
	if err != nil {
		return Process{}, err
	}
	path := filepath.Join(abs, socketFile)
	if target, err := os.Readlink(path); err == nil {
		path = target
	}
	var d net.Dialer
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return d.DialContext(ctx, "unix", path)
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://afterimage"+statusPath, nil)
	if err != nil {
		return Process{}, err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		if errors.Is(err, os.ErrPermission) {
			return Process{}, fmt.Errorf("asking for the status in %s: only the user that runs afterimage there may: %w", abs, os.ErrPermission)
		}
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" && ctx.Err() == nil {
			return Process{}, fmt.Errorf("%w with data directory %s: start one with \"afterimage run\", or name its --data-dir", ErrNotRunning, abs)
		}
		return Process{}, fmt.Errorf("asking for the status in %s: %w", abs, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return Process{}, fmt.Errorf("asking for the status in %s: HTTP %s", abs, resp.Status)
	}
	var p Process
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
		return Process{}, fmt.Errorf("reading the status of %s: %w", abs, err)
	}
	return p, nil
}
