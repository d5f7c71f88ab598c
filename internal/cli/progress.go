package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/afterimage-dr/afterimage/internal/status"
)

const (
	progressPeriod = 500 * time.Millisecond
	logFile        = "afterimage.log"
	// logFileMost is the size at which a log file is put aside; one is kept.
	logFileMost = 16 << 20
)

// progress shows a status line that rewrites itself until ctx ends.
func progress(ctx context.Context, w io.Writer, say func() status.Process) {
	tick := time.NewTicker(progressPeriod)
	defer tick.Stop()
	for {
		line := status.Line(say())
		if width := widthOf(w); width > 1 && len(line) >= width {
			line = line[:width-1] // a wrapped line could not be rewritten
		}
		_, _ = fmt.Fprintf(w, "\r\x1b[K%s", line)
		select {
		case <-ctx.Done():
			_, _ = fmt.Fprint(w, "\r\x1b[Kstopping\n")
			return
		case <-tick.C:
		}
	}
}

func widthOf(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// rotated is a log file that never grows beyond twice logFileMost.
type rotated struct {
	mu   sync.Mutex
	path string
	file *os.File
	size int64
}

func openLogFile(dataDir string) (*rotated, error) {
	if err := os.MkdirAll(dataDir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w: choose one with --data-dir", err)
	}
	r := &rotated{path: filepath.Join(dataDir, logFile)}
	return r, r.open()
}

func (r *rotated) open() error {
	f, err := os.OpenFile(r.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("log file: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return fmt.Errorf("log file: %w", err)
	}
	r.file, r.size = f, info.Size()
	return nil
}

// Write implements [io.Writer].
func (r *rotated) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.size > 0 && r.size+int64(len(p)) > logFileMost {
		_ = r.file.Close()
		_ = os.Rename(r.path, r.path+".1")
		if err := r.open(); err != nil {
			return 0, err
		}
	}
	n, err := r.file.Write(p)
	r.size += int64(n)
	return n, err
}

// Close implements [io.Closer].
func (r *rotated) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.file.Close()
}
