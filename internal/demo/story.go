package demo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// story is told step by step.
type story struct {
	out   io.Writer
	began time.Time
}

// say tells one step, with the time since the beginning.
func (s *story) say(format string, args ...any) {
	_, _ = fmt.Fprintf(s.out, "%6.1fs  %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

// quote shows what a command answered.
func (s *story) quote(answer string) {
	_, _ = fmt.Fprintf(s.out, "\n  %s\n\n", strings.ReplaceAll(answer, "\n", "\n  "))
}

// list names what differs, or some of it.
func list[T any](s *story, differences []T) {
	const most = 20
	for i, d := range differences {
		if i == most {
			_, _ = fmt.Fprintf(s.out, "  … and %d more\n", len(differences)-most)
			break
		}
		_, _ = fmt.Fprintf(s.out, "  %v\n", d)
	}
}

// program is the binary to run, this one where none is named.
func program(named string) (string, error) {
	if named != "" {
		return named, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("finding this program: %w", err)
	}
	return self, nil
}

// output runs the program to its end and returns what it answered; what it complained
// about is in the error.
func output(ctx context.Context, binary string, args ...string) (string, error) {
	var out, errOut bytes.Buffer
	c := exec.CommandContext(ctx, binary, args...)
	c.Stdout, c.Stderr = &out, &errOut
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = 15 * time.Second
	err := c.Run()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, errOut.String())
	}
	return strings.TrimSpace(out.String()), err
}

// pause waits for t or the end of ctx.
func pause(ctx context.Context, t time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(t):
	}
}
