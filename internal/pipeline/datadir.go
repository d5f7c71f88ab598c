package pipeline

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unicode"
)

// ErrInUse: another process works on the data directory.
var ErrInUse = errors.New("data directory in use")

// What a data directory holds.
const (
	lockFile     = "lock"
	instanceFile = "instance"
	stateDir     = "state"
	logDir       = "log"
)

// dataDir is a data directory this process holds alone.
type dataDir struct {
	path string
	// instance names the process in consumer groups; it survives restarts.
	instance string
	lock     *os.File
}

// openDataDir makes the directory if need be and takes its lock. The lock is
// the kernel's: it ends with the process, however that ends, so none is ever stale.
func openDataDir(path string) (*dataDir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", path, err)
	}
	// 0700: the log and the memory hold what Secrets hold.
	if err := os.MkdirAll(abs, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w: choose one with --data-dir", err)
	}
	f, err := os.OpenFile(filepath.Join(abs, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w: make it writable, or choose one with --data-dir", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(f.Name())
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			who := strings.TrimSpace(string(holder))
			if who == "" {
				who = "unknown"
			}
			return nil, fmt.Errorf("%w: %s is held by another afterimage (process %s): stop it, or choose another --data-dir", ErrInUse, abs, who)
		}
		return nil, fmt.Errorf("locking data directory %s: %w", abs, err)
	}
	d := &dataDir{path: abs, lock: f}
	if err := d.claim(); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// claim writes who holds the lock, for the message others get, and reads the
// instance name or makes one.
func (d *dataDir) claim() error {
	if err := d.lock.Truncate(0); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if _, err := d.lock.WriteAt([]byte(fmt.Sprintln(os.Getpid())), 0); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	file := filepath.Join(d.path, instanceFile)
	b, err := os.ReadFile(file)
	if id := strings.TrimSpace(string(b)); err == nil && id != "" {
		d.instance = id
		return nil
	}
	host, _ := os.Hostname()
	d.instance = strings.Trim(plain(host)+"-"+random(4), "-")
	// A crash between write and rename leaves no half name behind.
	tmp := file + ".new"
	if err := os.WriteFile(tmp, []byte(d.instance+"\n"), 0o600); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if err := os.Rename(tmp, file); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	return nil
}

func (d *dataDir) close() { _ = d.lock.Close() }

// plain keeps of a host name what a Kafka instance ID may hold.
func plain(host string) string {
	host, _, _ = strings.Cut(host, ".")
	return strings.Map(func(r rune) rune {
		if r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-') {
			return unicode.ToLower(r)
		}
		return -1
	}, host)
}

// random returns n random bytes in hexadecimal.
func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
