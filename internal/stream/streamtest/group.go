package streamtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/afterimage-dr/afterimage/internal/stream"
)

const session = 6 * time.Second // the least that brokers take by default

// holders notes who works on which partition.
type holders struct {
	mu    sync.Mutex
	by    map[int32]string
	wrong []string
	runs  int
}

func newHolders(e *env) *holders {
	h := &holders{by: map[int32]string{}}
	e.Cleanup(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, w := range h.wrong {
			e.Error(w)
		}
	})
	return h
}

func (h *holders) run(name string) func(context.Context, *stream.Assignment) error {
	return func(ctx context.Context, a *stream.Assignment) error {
		h.mu.Lock()
		h.runs++
		if by, taken := h.by[a.Number]; taken {
			h.wrong = append(h.wrong, fmt.Sprintf("partition %d: %s began while %s held it", a.Number, name, by))
		}
		if !a.Alive() {
			h.wrong = append(h.wrong, fmt.Sprintf("partition %d: not alive at the begin of %s", a.Number, name))
		}
		h.by[a.Number] = name
		h.mu.Unlock()
		a.Commit(a.End)
		<-ctx.Done()
		if a.Alive() {
			h.mu.Lock()
			h.wrong = append(h.wrong, fmt.Sprintf("partition %d: alive after the end of %s", a.Number, name))
			h.mu.Unlock()
		}
		h.mu.Lock()
		delete(h.by, a.Number)
		h.mu.Unlock()
		return nil
	}
}

func (h *holders) count(name string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, by := range h.by {
		if by == name {
			n++
		}
	}
	return n
}

func (h *holders) of(name string) (out map[int32]bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	out = map[int32]bool{}
	for p, by := range h.by {
		if by == name {
			out[p] = true
		}
	}
	return out
}

// serve takes part in the group until the returned function is called.
func (e *env) serve(c *stream.Client, h *holders, name string) (stop func()) {
	return e.serveGroup(&stream.Group{Client: c, Name: e.topic + ".group", Topic: e.topic, InstanceID: name, Session: session, Run: h.run(name)})
}

func (e *env) serveGroup(g *stream.Group) (stop func()) {
	ctx, cancel := context.WithCancel(e.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := g.Serve(ctx); err != nil {
			e.Error(err)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	e.Cleanup(stop)
	return stop
}

func groupShares(e *env) {
	e.create(6)
	w := e.writer()
	for p := range int32(6) {
		e.fill(w, p, 0, 10, 10)
	}
	h := newHolders(e)
	stopA := e.serve(e.c, h, "a")
	e.eventually("a to have all", func() bool { return h.count("a") == 6 })
	stopB := e.serve(e.client("b"), h, "b")
	e.eventually("a and b to share", func() bool { return h.count("a") == 3 && h.count("b") == 3 })
	e.eventually("the commits of all", func() bool {
		lag, committed, err := e.c.GroupLag(e.ctx, e.topic+".group", e.topic)
		e.must(err)
		return lag == 0 && committed == 60
	})
	e.fill(w, 2, 10, 5, 10)
	e.eventually("the lag", func() bool {
		lag, committed, err := e.c.GroupLag(e.ctx, e.topic+".group", e.topic)
		e.must(err)
		return lag == 5 && committed == 60
	})
	if lag, committed, err := e.c.GroupLag(e.ctx, e.topic+".nobody", e.topic); err != nil || lag != 65 || committed != 0 {
		e.Errorf("lag of a group that never was: %d %d %v", lag, committed, err)
	}
	// A static member that restarts finds its partitions; the other keeps its own.
	had, kept := h.of("a"), h.of("b")
	stopA()
	stopA = e.serve(e.client("a2"), h, "a")
	e.eventually("a to have its share again", func() bool { return h.count("a") == 3 })
	if got := h.of("a"); fmt.Sprint(got) != fmt.Sprint(had) {
		e.Errorf("a had %v, restarted it has %v", had, got)
	}
	if got := h.of("b"); fmt.Sprint(got) != fmt.Sprint(kept) {
		e.Errorf("b had %v, has %v after the restart of a", kept, got)
	}
	// A member that stays away loses its partitions when its session is over.
	stopB()
	e.eventually("a to inherit", func() bool { return h.count("a") == 6 })
	stopA()
}

// groupKilledMember: a process dies without a word and comes back under its name.
func groupKilledMember(e *env) {
	e.create(3)
	h1, h2 := newHolders(e), newHolders(e)
	dying, err := stream.NewClient(e.target.Dial, "dying")
	e.must(err)
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	g := &stream.Group{Client: dying, Name: e.topic + ".group", Topic: e.topic, InstanceID: "x", Session: session, Run: h1.run("x")}
	done := make(chan struct{})
	go func() { defer close(done); _ = g.Serve(ctx) }()
	e.eventually("the first life", func() bool { return h1.count("x") == 3 })
	dying.Close() // only the connections for questions; the group's go on until:
	cancel()
	<-done
	began := time.Now()
	stop := e.serve(e.c, h2, "x")
	e.eventually("the second life", func() bool { return h2.count("x") == 3 })
	if took := time.Since(began); took > session*3/4 {
		e.Errorf("took %v: it waited for the session of its former self", took)
	}
	stop()
}

func groupRunAgain(e *env) {
	e.create(1)
	runs := make(chan int, 10)
	n := 0
	stop := e.serveGroup(&stream.Group{
		Client: e.c, Name: e.topic + ".group", Topic: e.topic, InstanceID: "a", Session: session,
		Run: func(ctx context.Context, a *stream.Assignment) error {
			n++
			runs <- n
			if n < 3 {
				return errors.New("failed on purpose")
			}
			<-ctx.Done()
			return ctx.Err()
		},
	})
	for want := 1; want <= 3; want++ {
		if got := <-runs; got != want {
			e.Fatalf("run %d, want %d", got, want)
		}
	}
	stop()
}

// groupOfARecreatedTopic: the work is told, and begins again on the new topic.
func groupOfARecreatedTopic(e *env) {
	e.create(2)
	type life struct {
		a  stream.Partition
		by int32
	}
	lives := make(chan life, 100)
	stop := e.serveGroup(&stream.Group{
		Client: e.c, Name: e.topic + ".group", Topic: e.topic, InstanceID: "a", Session: session,
		Run: func(ctx context.Context, a *stream.Assignment) error {
			lives <- life{a.Partition, a.Number}
			t, err := e.c.TailOf(a.Partition, a.Start)
			if err != nil {
				return err
			}
			defer t.Close()
			for {
				recs, err := t.Next(ctx)
				if err != nil {
					return err
				}
				if !a.Alive() {
					e.Error("not alive")
				}
				a.Commit(recs[len(recs)-1].Offset + 1)
			}
		},
	})
	first := <-lives
	<-lives
	w := e.writer()
	e.fill(w, 0, 0, 3, 3)
	lag := func(what string, want int64) {
		e.Helper()
		e.eventually(what, func() bool {
			_, committed, err := e.c.GroupLag(e.ctx, e.topic+".group", e.topic)
			return err == nil && committed == want
		})
	}
	lag("the commit on the old topic", 3)
	e.must(e.c.Delete(e.ctx, e.topic))
	e.create(2)
	w2 := e.writer()
	e.fill(w2, 0, 0, 1, 1)
	e.fill(w2, 1, 0, 1, 1)
	again := map[int32]bool{}
	for len(again) < 2 {
		select {
		case l := <-lives:
			if l.a.TopicID != first.a.TopicID {
				again[l.by] = true
			}
		case <-e.ctx.Done():
			e.Fatalf("only %v began again on the new topic", again)
		}
	}
	lag("the commits on the new topic", 2)
	stop()
}

func groupInstanceIDTwice(e *env) {
	e.create(1)
	troubles := make(chan error, 100)
	group := func(c *stream.Client) *stream.Group {
		return &stream.Group{
			Client: c, Name: e.topic + ".group", Topic: e.topic, InstanceID: "same", Session: session,
			Run:       func(ctx context.Context, a *stream.Assignment) error { <-ctx.Done(); return nil },
			OnTrouble: func(err error) { troubles <- err },
		}
	}
	stopA := e.serveGroup(group(e.c))
	time.Sleep(time.Second)
	stopB := e.serveGroup(group(e.client("other")))
	for {
		select {
		case err := <-troubles:
			if errors.Is(err, stream.ErrInstanceIDInUse) {
				if !strings.Contains(err.Error(), "same") {
					e.Errorf("the error does not name the instance ID: %v", err)
				}
				stopA()
				stopB()
				return
			}
		case <-e.ctx.Done():
			e.Fatal("nobody noticed")
		}
	}
}
