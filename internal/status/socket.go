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
	"time"

	"github.com/afterimage-dr/afterimage/internal/socket"
)

// ErrNotRunning: nothing answers in the data directory.
var ErrNotRunning = errors.New("no afterimage is running")

const (
	socketFile = "status.sock"
	statusPath = "/status"
)

// Server answers in a data directory.
type Server struct {
	http   *http.Server
	socket *socket.Listener
	done   chan struct{}
}

// Serve begins to answer with what say returns. The caller holds the data
// directory alone: a socket that is there already is a dead process's.
func Serve(dataDir string, say func() Process) (*Server, error) {
	l, err := socket.Listen(dataDir, socketFile)
	if err != nil {
		return nil, fmt.Errorf("status socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+statusPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(say()) // whoever asked has gone
	})
	s := &Server{http: &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}, socket: l, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		_ = s.http.Serve(l) // always ErrServerClosed after Close
	}()
	return s, nil
}

// Close stops answering and removes the socket.
func (s *Server) Close() {
	_ = s.http.Close()
	<-s.done
	_ = s.socket.Close() // the server has closed it; this removes it
}

// Get asks the process that runs in a data directory. ErrNotRunning: there is none.
func Get(ctx context.Context, dataDir string) (Process, error) {
	abs, err := filepath.Abs(dataDir)
	if err != nil {
		return Process{}, err
	}
	path, err := socket.Path(dataDir, socketFile)
	if err != nil {
		return Process{}, err
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
