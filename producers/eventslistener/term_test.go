package eventslistener

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

func (r *running) current() *term {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.term
}

// A source that went back ends the round while records are on their way to the
// log. They must not take the term with them, or the epoch is never opened: the
// next term may find a source that has written its way past what was seen.
func TestEpochIsOpenedBehindRecordsOnTheirWay(t *testing.T) {
	w := newWorld(t, source(t), configMaps)
	r := w.start()
	w.configMap("a", map[string]string{"a": "1"})
	w.becomes("configmaps", "a", "create")
	before := r.current()
	if err := w.broker.Stop(); err != nil {
		t.Fatal(err)
	}
	w.configMap("b", map[string]string{"a": "1"})
	w.eventually("a record on its way", func() bool {
		p := before.m.partOf(w.key("configmaps", "b").String())
		_, known, err := p.lookup(w.key("configmaps", "b").String())
		return known && err == nil
	})
	before.interrupt(errRewound)
	time.Sleep(100 * time.Millisecond)
	if err := w.broker.Start(); err != nil {
		t.Fatal(err)
	}
	w.eventually("an epoch", func() bool { return len(w.ofKind(topology.EpochOpened)) == testPartitions })
	w.becomes("configmaps", "b", "create")
	if r.current() != before || r.Counters().Epochs != 1 {
		t.Errorf("%d epochs, the same term %v", r.Counters().Epochs, r.current() == before)
	}
}

// What could not be remembered must not be passed over by the next commit.
func TestFailedCommitEndsTheTerm(t *testing.T) {
	store, err := state.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	stage := store.Stage(Component)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	m := &memory{ctx: ctx, stage: stage, fail: cancel, counts: &counters{}}
	p := &part{m: m, pending: map[string]pendingEntry{}, given: 1}
	m.parts = []*part{p}
	p.land(&topology.Record{Key: "core/v1/configmaps/a/b", Kind: topology.Object}, 0, 1)
	if err := m.flush(ctx); err == nil || errors.Is(err, context.Canceled) {
		t.Fatalf("flush to a closed store: %v", err)
	}
	if context.Cause(ctx) == nil {
		t.Error("the term goes on, though what landed is not remembered")
	}
}

// A listing that was under way when something was missed may have passed it: only
// the next one makes the resource sure, and its probes count.
func TestListingUnderWayEndsNoDoubt(t *testing.T) {
	tm := &term{}
	tm.absence = newAbsence(tm)
	lf := &life{t: tm, again: make(chan struct{}, 1)}
	under := lf.newListing()
	lf.doubt()
	lf.finished(under)
	if lf.sure || !lf.verified.IsZero() {
		t.Errorf("sure %v, verified %v by a listing from before the doubt", lf.sure, lf.verified)
	}
	select {
	case <-lf.again:
	default:
		t.Fatal("nobody asked for another listing")
	}
	next := lf.newListing()
	lf.finished(next)
	if !lf.sure || !lf.verified.Equal(next.began) {
		t.Errorf("sure %v, verified %v after a new listing", lf.sure, lf.verified)
	}
}
