package stream

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"
)

type owned struct {
	mu    sync.Mutex
	holds map[int32]int // partition → member
	twice []string
	runs  int
}

func (o *owned) run(member int) func(context.Context, *Assignment) error {
	return func(ctx context.Context, a *Assignment) error {
		o.mu.Lock()
		o.runs++
		if by, taken := o.holds[a.Number]; taken {
			o.twice = append(o.twice, fmt.Sprintf("partition %d held by %d and %d", a.Number, by, member))
		}
		o.holds[a.Number] = member
		o.mu.Unlock()
		a.Commit(7)
		<-ctx.Done()
		o.mu.Lock()
		delete(o.holds, a.Number)
		o.mu.Unlock()
		return nil
	}
}

func (o *owned) count(member int) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range o.holds {
		if m == member {
			n++
		}
	}
	return n
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	began := time.Now()
	for !ok() {
		if time.Since(began) > 30*time.Second {
			t.Fatalf("waited in vain for: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Logf("%s after %v", what, time.Since(began).Round(time.Millisecond))
}

func TestGroupQuick(t *testing.T) {
	ctx := testContext(t)
	_, c := embedded(t)
	if _, err := c.Ensure(ctx, "g", TopicSettings{Partitions: 12, Replication: -1}); err != nil {
		t.Fatal(err)
	}
	o := &owned{holds: map[int32]int{}}
	serve := func(n int, id string) func() {
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan error, 1)
		g := &Group{Client: c, Name: "grp", Topic: "g", InstanceID: id, Session: 6 * time.Second, Run: o.run(n)}
		go func() { done <- g.Serve(ctx) }()
		return func() { cancel(); <-done }
	}
	stop1 := serve(1, "one")
	waitFor(t, "first member has all", func() bool { return o.count(1) == 12 })
	stop2 := serve(2, "two")
	waitFor(t, "they share", func() bool { return o.count(1) == 6 && o.count(2) == 6 })
	waitFor(t, "commits", func() bool { _, n, err := c.GroupLag(ctx, "grp", "g"); return err == nil && n == 84 })
	stop1()
	stop1 = serve(1, "one")
	waitFor(t, "static restart", func() bool { return o.count(1) == 6 && o.count(2) == 6 })
	stop2()
	waitFor(t, "session of the other ends", func() bool { return o.count(1) == 12 })
	stop1()
	if len(o.twice) > 0 {
		t.Error(o.twice)
	}
}
