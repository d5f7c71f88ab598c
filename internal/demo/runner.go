package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/afterimage-dr/afterimage/internal/status"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// runner runs the real program as a child.
type runner struct {
	binary, manifests, dataDir, logs string
	kills                            int

	cmd    *exec.Cmd
	exited chan struct{}
}

func (r *runner) start() error {
	logs, err := os.OpenFile(r.logs, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("log of afterimage: %w", err)
	}
	defer func() { _ = logs.Close() }() // the child has its own
	cmd := exec.Command(r.binary, "run", "-f", r.manifests, "--data-dir", r.dataDir)
	cmd.Stdout, cmd.Stderr = logs, logs
	cmd.SysProcAttr = childAttributes()
	r.cmd, r.exited = cmd, make(chan struct{})
	started := make(chan error)
	go func(exited chan struct{}) {
		// Linux takes the end of the thread that forked for the parent's: this one
		// lives as long as the child.
		runtime.LockOSThread()
		defer close(exited)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in its log
		}
	}(r.exited)
	if err := <-started; err != nil {
		r.cmd = nil
		return fmt.Errorf("starting afterimage: %w", err)
	}
	return nil
}

// kill ends the child as a crash would.
func (r *runner) kill() error {
	if err := r.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("killing afterimage: %w", err)
	}
	<-r.exited
	r.kills++
	return nil
}

// stop asks the child to stop and waits for it.
func (r *runner) stop() {
	if r.cmd == nil {
		return
	}
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-r.exited:
	case <-time.After(15 * time.Second):
		_ = r.cmd.Process.Kill()
		<-r.exited
	}
}

// awaitReady waits until every LiveSynchronization is Ready and was proved to
// hold what the source held at a moment not before since.
func (r *runner) awaitReady(ctx context.Context, since time.Time, patience time.Duration) error {
	if _, err := r.await(ctx, patience, func(p status.Process) error { return ready(p, since) }); err != nil {
		return fmt.Errorf("not Ready: %w", err)
	}
	return nil
}

// final is an error of await's question that waiting does not mend.
type final struct{ error }

// await waits until the child's status is as wanted, and returns it.
func (r *runner) await(ctx context.Context, patience time.Duration, want func(status.Process) error) (status.Process, error) {
	last := errors.New("no answer yet")
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); pause(ctx, 200*time.Millisecond) {
		if err := ctx.Err(); err != nil {
			return status.Process{}, err
		}
		select {
		case <-r.exited:
			return status.Process{}, fmt.Errorf("afterimage ended by itself:\n%s", r.tail())
		default:
		}
		p, err := status.Get(ctx, r.dataDir)
		if err != nil {
			last = err
			continue
		}
		if last = want(p); last == nil || errors.As(last, &final{}) {
			return p, last
		}
	}
	return status.Process{}, fmt.Errorf("not within %s: %w", patience, last)
}

// ready says what keeps everything from being ready; nil: nothing.
func ready(p status.Process, since time.Time) error {
	if len(p.LiveSynchronizations) == 0 {
		return errors.New("no LiveSynchronization runs")
	}
	for _, l := range p.LiveSynchronizations {
		s := l.Status
		switch {
		case s.State != v1alpha1.StateReady:
			why := ""
			for _, c := range s.Conditions {
				if c.Type == "Ready" {
					why = c.Reason + ": " + c.Message
				}
			}
			return fmt.Errorf("%s/%s is %s (%s)", l.Namespace, l.Name, s.State, why)
		case s.VerifiedAt == nil || s.VerifiedAt.Time.Before(since):
			return fmt.Errorf("%s/%s is verified only up to %v", l.Namespace, l.Name, s.VerifiedAt)
		}
	}
	return nil
}

// trouble is what there is to say when it did not work.
func (r *runner) trouble(ctx context.Context) string {
	var b bytes.Buffer
	if p, err := status.Get(ctx, r.dataDir); err == nil {
		_ = status.Table(&b, p)
	} else {
		_, _ = fmt.Fprintln(&b, err)
	}
	return b.String() + r.tail()
}

// tail is the end of the child's log.
func (r *runner) tail() string {
	content, err := os.ReadFile(r.logs)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	const most = 15
	return strings.Join(lines[max(0, len(lines)-most):], "\n") + "\n"
}
