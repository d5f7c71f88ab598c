package pipeline

import (
	"context"
	"errors"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// TestPassesAndLiveSynchronizationsOfOneName: they own the same objects, so only one
// of them runs at a time.
func TestPassesAndLiveSynchronizationsOfOneName(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p, err := Start(ctx, Options{DataDir: t.TempDir(), Partitions: 2}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		if err := p.Wait(); err != nil {
			t.Error(err)
		}
	}()
	nowhere := func(l *LiveSync) {
		l.Source, l.Destination = &rest.Config{Host: "http://127.0.0.1:1"}, &rest.Config{Host: "http://127.0.0.1:2"}
	}
	first, err := p.Begin(ctx, sync1("one", nowhere))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(first.Outcomes); n != 2 {
		t.Errorf("%d partitions of outcomes, want 2", n)
	}

	// Another pass waits for the first to stop, but not for longer than it is to.
	hurried, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	if _, err := p.Begin(hurried, sync1("one", nowhere)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("beside a pass of the same name: %v; want it to wait", err)
	}
	second := make(chan *Pass)
	go func() {
		x, err := p.Begin(ctx, sync1("one", nowhere))
		if err != nil {
			t.Error(err)
		}
		second <- x
	}()
	first.Stop()
	x := <-second
	if x == nil {
		t.FailNow()
	}

	// A LiveSynchronization takes the place of a pass, and keeps it.
	stopped := make(chan error)
	go func() {
		<-x.Done()
		x.Stop()
		stopped <- x.Err()
	}()
	if err := p.Apply([]LiveSync{sync1("one", nowhere)}); err != nil {
		t.Fatal(err)
	}
	if err := <-stopped; !errors.Is(err, ErrSameOwner) {
		t.Errorf("the pass ended because of %v, want ErrSameOwner", err)
	}
	if _, err := p.Begin(ctx, sync1("one", nowhere)); !errors.Is(err, ErrSameOwner) {
		t.Errorf("beside a LiveSynchronization of the same name: %v; want it refused", err)
	}
	other, err := p.Begin(ctx, sync1("two", nowhere))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-other.Done()
		other.Stop()
	}()
}
