package eventslistener

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/topology"
)

// consume plays a consumer that has applied everything up to the end.
func (w *world) consume(component, topic string) (stop func()) {
	s := w.settings.Load()
	g := &stream.Group{
		Client: w.log, Name: topology.GroupFor(s.Config.Namespace, s.Config.Name, component), Topic: topic, InstanceID: component, Session: 3 * time.Second,
		Run: func(ctx context.Context, a *stream.Assignment) error {
			for sleep(ctx, 20*time.Millisecond) {
				p, err := w.log.Bounds(ctx, a.Topic, a.Number)
				if err != nil {
					return err
				}
				a.Commit(p.End)
			}
			return nil
		},
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := g.Serve(ctx); err != nil {
			w.t.Error(err)
		}
	})
	return func() { cancel(); wg.Wait() }
}

func TestListingsWaitForConsumers(t *testing.T) {
	w := newWorld(t, source(t))
	e := w.crd()
	w.setResources(e)
	const objects, bound = 60, 20
	for i := range objects {
		w.thing(e, fmt.Sprintf("t-%02d", i))
	}
	stuck := func(d time.Duration) func(*Options) {
		return func(o *Options) { o.MaxUnapplied, o.Stuck = bound, d }
	}
	r := w.start(stuck(time.Hour))
	w.eventually("some logged", func() bool { return len(w.things(e)) > 0 })
	time.Sleep(time.Second)
	if n := len(w.things(e)); n > bound {
		t.Fatalf("%d objects of a listing were appended with nobody to apply them, want at most %d", n, bound)
	}
	// Live events do not wait.
	w.thing(e, "live")
	w.eventually("live event logged", func() bool { return w.things(e)["live"] == "create" })
	if n := len(w.things(e)); n > bound+1 {
		t.Fatalf("%d objects logged", n)
	}
	// Consumers that advance let the listing go on.
	stops := []func(){w.consume("processor", w.topics.Changes), w.consume("synchronizer", w.topics.Desired)}
	w.eventually("all logged", func() bool { return allAre(w.things(e), objects+1, "create") })
	for _, stop := range stops {
		stop()
	}
	r.stop()

	// Consumers that do not advance are not waited for.
	for i := range objects {
		w.thing(e, fmt.Sprintf("u-%02d", i))
	}
	w.start(stuck(time.Second))
	w.eventually("all logged without consumers", func() bool { return len(w.things(e)) == 2*objects+1 })
}
