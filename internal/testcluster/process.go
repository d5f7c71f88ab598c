package testcluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// process is one child with its output in a file. Its methods are safe for
// concurrent use.
type process struct {
	name    string
	logFile string

	mu     sync.Mutex
	cmd    *exec.Cmd
	exited chan struct{} // closed when the present child has been waited for
	err    error         // valid once exited is closed
	frozen bool
}

// starter runs on one thread that never ends: Linux delivers the parent-death
// signal when the thread that forked ends, not the process, and Go may end any
// other thread.
var starter = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// start runs the command. It is an error if the previous one still runs.
func (p *process) start(environment []string, file string, args ...string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running() {
		return fmt.Errorf("%s runs already", p.name)
	}
	output, err := os.OpenFile(p.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("opening the log of %s: %w", p.name, err)
	}
	cmd := exec.Command(file, args...)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = childAttributes()
	cmd.Env = environment
	started := make(chan error)
	starter() <- func() { started <- cmd.Start() }
	err = <-started
	// The child has its own copy of the descriptor.
	_ = output.Close()
	if err != nil {
		return fmt.Errorf("starting %s: %w", p.name, err)
	}
	exited := make(chan struct{})
	p.cmd, p.exited, p.frozen = cmd, exited, false
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		close(exited)
	}()
	return nil
}

// running says whether a child lives. The caller holds mu.
func (p *process) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// signal reaches the child if it lives.
func (p *process) signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return fmt.Errorf("%s does not run", p.name)
	}
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("sending %s to %s: %w", s, p.name, err)
	}
	switch s {
	case syscall.SIGSTOP:
		p.frozen = true
	case syscall.SIGCONT:
		p.frozen = false
	}
	return nil
}

// kill ends the child at once, as a crash would, and waits for it. It is no
// error if nothing runs.
func (p *process) kill() error {
	return p.end(syscall.SIGKILL, 10*time.Second)
}

// stop asks the child to end and kills it when it has not after the grace.
func (p *process) stop(grace time.Duration) error {
	if err := p.end(syscall.SIGTERM, grace); err == nil {
		return nil
	}
	return p.kill()
}

func (p *process) end(s syscall.Signal, grace time.Duration) error {
	p.mu.Lock()
	running, frozen, exited := p.running(), p.frozen, p.exited
	p.mu.Unlock()
	if !running {
		return nil
	}
	if err := p.signal(s); err != nil && p.alive() {
		return err
	}
	// A stopped process acts on SIGTERM only once it goes on.
	if frozen && s != syscall.SIGKILL {
		if err := p.signal(syscall.SIGCONT); err != nil && p.alive() {
			return err
		}
	}
	select {
	case <-exited:
		return nil
	case <-time.After(grace):
		return fmt.Errorf("%s did not end within %s after %s", p.name, grace, s)
	}
}

func (p *process) alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running()
}

// pid is the process ID of the child, 0 if none runs.
func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return 0
	}
	return p.cmd.Process.Pid
}

// await polls ready until it returns nil, the child ends or ctx does. The error
// carries the end of the child's log.
func (p *process) await(ctx context.Context, ready func(context.Context) error) error {
	p.mu.Lock()
	exited := p.exited
	p.mu.Unlock()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	var last error
	for {
		if last = ready(ctx); last == nil {
			return nil
		}
		select {
		case <-exited:
			return fmt.Errorf("%s ended before it was ready (%v); its log %s ends with:\n%s", p.name, p.exit(), p.logFile, tail(p.logFile))
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w (%w); its log %s ends with:\n%s", p.name, last, ctx.Err(), p.logFile, tail(p.logFile))
		case <-ticker.C:
		}
	}
}

func (p *process) exit() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// tail is the last 3 KiB of a file.
func tail(file string) string {
	const size = 3 << 10
	f, err := os.Open(file)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil && info.Size() > size {
		_, _ = f.Seek(-size, io.SeekEnd)
	}
	content, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(content))
}
