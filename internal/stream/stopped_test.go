package stream

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

const (
	stoppedBroker = "AFTERIMAGE_STREAM_STOPPED_BROKER"
	shortSession  = 2 * time.Second
)

func groupFor(c *Client, id string, run func(context.Context, *Assignment) error) *Group {
	return &Group{Client: c, Name: "g", Topic: "t", InstanceID: id, Session: shortSession, Run: run}
}

// TestStoppedChild is the process that the next test stops and continues. It
// tells what Alive says right after each gap in its own life, and when that changes.
func TestStoppedChild(t *testing.T) {
	broker := os.Getenv(stoppedBroker)
	if broker == "" {
		return // nothing to do by itself: TestStoppedProcessIsNotAlive runs it
	}
	c, err := NewClient(Brokers(broker), "child")
	must(t, err)
	g := groupFor(c, "child", func(ctx context.Context, a *Assignment) error {
		said := ""
		for last := time.Now(); ; {
			now := time.Now()
			gap := now.Sub(last) > shortSession/2
			last = now
			is := fmt.Sprint("alive ", a.Alive())
			if gap {
				fmt.Println("gap", is)
			} else if is != said {
				fmt.Println(is)
			}
			said = is
			select {
			case <-ctx.Done():
				fmt.Println("ended", a.Alive())
				return nil
			case <-time.After(time.Millisecond):
			}
		}
	})
	_ = g.Serve(context.Background())
}

// TestStoppedProcessIsNotAlive: a process that was stopped and continued must
// not write before its group has answered it again (guarantee 4).
func TestStoppedProcessIsNotAlive(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"), kfake.GroupMinSessionTimeout(time.Second))
	must(t, err)
	defer cluster.Close()
	cmd := exec.Command(os.Args[0], "-test.run=^TestStoppedChild$")
	cmd.Env = append(os.Environ(), stoppedBroker+"="+cluster.ListenAddrs()[0])
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	}()
	lines := make(chan string, 100)
	go func() {
		for in := bufio.NewScanner(out); in.Scan(); {
			lines <- in.Text()
		}
	}()
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-lines:
			if got != want {
				t.Fatalf("child says %q, want %q", got, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("child is silent, want %q", want)
		}
	}
	pause := func(d time.Duration) {
		must(t, cmd.Process.Signal(syscall.SIGSTOP))
		time.Sleep(d)
		must(t, cmd.Process.Signal(syscall.SIGCONT))
	}
	expect("alive true")
	// Longer than half a session: not alive until the group has answered, which
	// may be before the child looks again.
	pause(shortSession * 6 / 10)
	if got := <-lines; got == "gap alive false" {
		expect("alive true")
	} else if got != "gap alive true" {
		t.Fatalf("child says %q", got)
	}

	// Longer than the session, and another member has the partition meanwhile.
	c, err := NewClient(Brokers(cluster.ListenAddrs()...), "heir")
	must(t, err)
	defer c.Close()
	ctx, cancel := context.WithCancel(testContext(t))
	took, served := make(chan struct{}), make(chan error, 1)
	must(t, cmd.Process.Signal(syscall.SIGSTOP))
	go func() {
		served <- groupFor(c, "heir", func(ctx context.Context, a *Assignment) error {
			close(took)
			<-ctx.Done()
			return nil
		}).Serve(ctx)
	}()
	<-took
	must(t, cmd.Process.Signal(syscall.SIGCONT))
	for {
		select {
		case got := <-lines:
			if strings.Contains(got, "true") {
				t.Fatalf("the former owner says %q", got)
			}
			if strings.HasPrefix(got, "ended") {
				cancel()
				must(t, <-served)
				return
			}
		case <-ctx.Done():
			t.Fatal("the former owner never noticed")
		}
	}
}

func TestAliveRestsOnTheLastAnswer(t *testing.T) {
	r := &runner{}
	m := &member{session: 10 * time.Second}
	for _, c := range []struct {
		what  string
		heard time.Time
		ended bool
		want  bool
	}{
		{"never heard", time.Time{}, false, false},
		{"just heard", time.Now(), false, true},
		{"heard within half a session", time.Now().Add(-4900 * time.Millisecond), false, true},
		{"heard half a session ago", time.Now().Add(-5 * time.Second), false, false},
		{"the partition is gone", time.Now(), true, false},
		// While the machine slept the monotonic clock stood still.
		{"slept", time.Now().Round(0).Add(-time.Hour), false, false},
		// The wall clock was set back: the monotonic one still tells.
		{"clock set back", time.Now().Add(-6 * time.Second), false, false},
	} {
		m.heard, r.ended = c.heard, c.ended
		if got := m.alive(r); got != c.want {
			t.Errorf("%s: alive %v, want %v", c.what, got, c.want)
		}
	}
}
