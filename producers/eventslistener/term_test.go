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
func TestRecordsOnTheirWayOutliveTheRound(t *testing.T) {
	w := newWorld(t, source(t), configMaps)
	writer, err := w.log.Writer()
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	ctx, end := context.WithCancelCause(t.Context())
	m := &memory{
		ctx: ctx, writer: writer, topic: w.topics.Changes, alive: func() bool { return true }, fail: end, counts: &counters{},
	}
	p := &part{m: m, pending: map[string]pendingEntry{}}
	m.parts = []*part{p}
	if err := w.broker.Stop(); err != nil {
		t.Fatal(err)
	}
	round, rewound := context.WithCancelCause(ctx)
	rec := &topology.Record{Key: w.key("configmaps", "a").String(), Kind: topology.Object, Op: topology.Delete}
	if err := p.append(round, rec); err != nil {
		t.Fatal(err)
	}
	rewound(errRewound)
	time.Sleep(200 * time.Millisecond)
	if err := w.broker.Start(); err != nil {
		t.Fatal(err)
	}
	w.eventually("landed", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.acked == 1 || ctx.Err() != nil
	})
	if cause := context.Cause(ctx); cause != nil {
		t.Errorf("the end of the round ended the term: %v", cause)
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
