// Package socket puts Unix sockets into a data directory and finds them there,
// whatever the length of the directory's path. Who may reach them is who may
// enter the directory, which is its owner's alone.
package socket

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
)

const (
	// maxPath is what every Unix takes for the path of a socket (Linux 107, macOS
	// 103 bytes).
	maxPath = 100
	// shortPrefix begins the folder of a socket whose data directory is too deep.
	shortPrefix = "afterimage-"
)

// Listener listens on a socket in a data directory. Close removes it.
type Listener struct {
	net.Listener
	paths []string
}

// Listen makes the socket called name in a data directory. The caller holds the
// directory alone: a socket that is there already is a dead process's.
func Listen(dataDir, name string) (*Listener, error) {
	path, paths, err := place(dataDir, name)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	// The directory is its owner's alone, so nobody gets in before the chmod.
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, err
	}
	return &Listener{Listener: l, paths: paths}, nil
}

// Close stops listening and removes the socket.
func (l *Listener) Close() error {
	err := l.Listener.Close()
	for _, p := range l.paths {
		_ = os.Remove(p)
	}
	return err
}

// Paths are what Close removes.
func (l *Listener) Paths() []string { return l.paths }

// Path of the socket called name, for a dialer.
func Path(dataDir, name string) (string, error) {
	abs, err := filepath.Abs(dataDir)
	if err != nil {
		return "", err
	}
	path := filepath.Join(abs, name)
	if target, err := os.Readlink(path); err == nil {
		path = target
	}
	return path, nil
}

// place finds where the socket goes and removes what an earlier process left
// there. Where the data directory's path is too long for a socket, the socket
// goes to a folder for temporary files and a link in the data directory leads to it.
func place(dataDir, name string) (path string, paths []string, err error) {
	link := filepath.Join(dataDir, name)
	if old, err := os.Readlink(link); err == nil && strings.HasPrefix(filepath.Base(filepath.Dir(old)), shortPrefix) {
		_ = os.Remove(old)
		_ = os.Remove(filepath.Dir(old))
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", nil, err
	}
	if len(link) <= maxPath {
		return link, []string{link}, nil
	}
	dir, err := os.MkdirTemp("", shortPrefix) // mode 0700
	if err != nil {
		return "", nil, err
	}
	path = filepath.Join(dir, name)
	if err := os.Symlink(path, link); err != nil {
		_ = os.Remove(dir)
		return "", nil, err
	}
	return path, []string{path, dir, link}, nil
}
