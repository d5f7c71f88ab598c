package nodecopy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// live runs one until the test ends.
func (e *env) live(change ...func(*LiveOptions)) *Live {
	e.Helper()
	o := LiveOptions{Options: e.o}
	e.incarnations++
	o.Incarnation = fmt.Sprintf("live-%d", e.incarnations)
	for _, c := range change {
		c(&o)
	}
	l := NewLive(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); l.Run(ctx) }()
	e.Cleanup(func() { cancel(); <-done })
	return l
}

func (e *env) eventually(within time.Duration, what string, ok func() bool) {
	e.Helper()
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
	}
	e.Fatalf("not within %v: %s", within, what)
}

// same waits until both sides are.
func (e *env) same(l *Live) {
	e.Helper()
	var d []string
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if d = diff(e.source.dump("/test", false), e.destination.dump("/test", false), nil); len(d) == 0 {
			return
		}
	}
	e.Fatalf("%d differences, the first: %s\nstatus: %+v", len(d), d[0], l.Status())
}

// What happens in the source happens at the destination soon after, in whatever order,
// and it is known how far it has come.
func TestLive(t *testing.T) {
	e := newEnv(t)
	r := rand.New(rand.NewPCG(3, 4))
	paths := e.source.grow("/test", 500, 100, r)
	l := e.live()
	e.same(l)
	e.eventually(10*time.Second, "ready", func() bool { s := l.Status(); return s.Source.Ready && s.Destination.Ready })
	ready := l.Status().Source.Since
	alive := map[string]bool{}
	for _, p := range paths[1:] {
		alive[p] = true
	}
	for i := range 1500 {
		p := paths[1+r.IntN(len(paths)-1)]
		switch n := r.IntN(10); {
		case n < 2 && alive[p]:
			if e.source.stat(p).NumChildren == 0 {
				e.source.remove(p)
				alive[p] = false
			}
		case n < 5 && alive[p]:
			child := fmt.Sprintf("%s/c%d", p, i)
			e.source.put(child, "new")
			paths, alive[child] = append(paths, child), true
		case alive[p]:
			e.source.put(p, fmt.Sprint("changed ", i))
		}
	}
	e.same(l)
	began := time.Now()
	e.source.put("/test/marker", "x")
	e.eventually(5*time.Second, "a new node", func() bool { _, ok := e.destination.get("/test/marker"); return ok })
	t.Logf("one change took %v", time.Since(began))
	at := time.Now()
	e.eventually(15*time.Second, "verified", func() bool { return l.Status().Standing.VerifiedAt.After(at) })
	if s := l.Status(); !s.Source.Ready || !s.Source.Since.Equal(ready) {
		t.Errorf("the source was not followed all the time: %+v", s.Source)
	}
	if s := l.Status(); s.Standing.Failed > 0 || !s.Standing.Behind.IsZero() {
		t.Errorf("status: %+v", s)
	}
}
