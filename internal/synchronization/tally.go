package synchronization

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sync/errgroup"

	"github.com/afterimage-dr/afterimage/consumers/synchronizer"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

// tally is what the outcomes since the start of a pass say: what was done, and
// which heartbeats have come all the way.
type tally struct {
	from []stream.Partition

	mu sync.Mutex
	// done by key, as hashes: 1,000,000 objects take some 20 MB.
	done map[uint64]synchronizer.Result
	// moves counts the outcomes, for who wants to know whether anything moves.
	moves int64
	beats []beat
}

// beat is the newest heartbeat of a partition.
type beat struct{ observed, verified time.Time }

func newTally(from []stream.Partition) *tally {
	return &tally{from: from, done: map[uint64]synchronizer.Result{}, beats: make([]beat, len(from))}
}

// follow reads the outcomes until ctx ends, and returns nil then.
func (t *tally) follow(ctx context.Context, c *stream.Client) error {
	g, gctx := errgroup.WithContext(ctx)
	for i, p := range t.from {
		g.Go(func() error { return t.tail(gctx, c, i, p) })
	}
	if err := g.Wait(); ctx.Err() == nil {
		return err
	}
	return nil
}

func (t *tally) tail(ctx context.Context, c *stream.Client, i int, p stream.Partition) error {
	tail, err := c.TailOf(p, p.End)
	if err != nil {
		return fmt.Errorf("reading outcomes: %w", err)
	}
	defer tail.Close()
	for {
		records, err := tail.Next(ctx)
		if err != nil {
			return fmt.Errorf("reading outcomes: %w", err)
		}
		for _, k := range records {
			// What cannot be read is nothing this pass has written.
			if r, err := topology.Decode(k); err == nil {
				t.take(i, &r)
			}
		}
	}
}

// take counts one record of a partition.
func (t *tally) take(partition int, r *topology.Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch r.Kind {
	case topology.Heartbeat:
		t.beats[partition] = beat{observed: r.ObservedAt, verified: r.VerifiedAt}
	case topology.Object:
		t.moves++
		t.count(xxhash.Sum64String(r.Key), synchronizer.Result(r.Reason))
	}
}

// count notes the result for a key; what counts is what became of it in the end.
func (t *tally) count(key uint64, r synchronizer.Result) {
	switch was := t.done[key]; r {
	case synchronizer.Undone:
		delete(t.done, key)
	case synchronizer.Failed: // what still fails at the end is in the status
	case synchronizer.Updated, synchronizer.Recreated:
		if was != synchronizer.Created { // it was not there before this pass
			t.done[key] = synchronizer.Updated
		}
	case synchronizer.Created:
		if was == synchronizer.Deleted { // it was
			r = synchronizer.Updated
		}
		t.done[key] = r
	default:
		t.done[key] = r
	}
}

// moved is a number that grows with everything that is done.
func (t *tally) moved() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.moves
}

// arrived is the heartbeat that every partition has seen this one or a newer one of.
func (t *tally) arrived() beat {
	t.mu.Lock()
	defer t.mu.Unlock()
	oldest := t.beats[0]
	for _, b := range t.beats {
		if b.observed.Before(oldest.observed) {
			oldest.observed = b.observed
		}
		if b.verified.Before(oldest.verified) {
			oldest.verified = b.verified
		}
	}
	return oldest
}

// result is what the pass has done, of the objects that a status counts.
func (t *tally) result(st *v1alpha1.LiveSynchronizationStatus) v1alpha1.SynchronizationResult {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out v1alpha1.SynchronizationResult
	for _, r := range t.done {
		switch r {
		case synchronizer.Created:
			out.Created++
		case synchronizer.Updated:
			out.Updated++
		case synchronizer.Deleted:
			out.Deleted++
		case synchronizer.Kept, synchronizer.Orphaned:
			out.Skipped++ // deleted in the source, and not ours to delete here
		}
	}
	out.Failed = failed(st)
	out.Unchanged = max(0, st.Objects.Sync-out.Created-out.Updated)
	if st.HeldBack != nil {
		out.Skipped += st.HeldBack.Count
	}
	return out
}
