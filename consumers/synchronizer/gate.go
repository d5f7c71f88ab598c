package synchronizer

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/afterimage-dr/afterimage/internal/settings"
)

// gate stands before every write: nothing begins while suspended, while the
// fence does not allow it or was not read of late, or while the group has not
// been heard of.
type gate struct {
	settings *settings.Live
	fence    *barrier
	writing  atomic.Int64 // writes under way
}

func newGate(s *settings.Live, f *barrier) *gate { return &gate{settings: s, fence: f} }

// wait returns when a write may begin, with the time at which that was so.
func (g *gate) wait(ctx context.Context, alive func() bool) (time.Time, error) {
	for {
		if err := ctx.Err(); err != nil {
			return time.Time{}, err
		}
		v, suspended := g.settings.Get()
		open, fenced := g.fence.open()
		var poll <-chan time.Time
		switch {
		case v.Suspend:
			fenced = nil
		case !open:
			suspended = nil
			poll = time.After(g.fence.s.FenceEvery)
		case !alive():
			poll = time.After(50 * time.Millisecond)
		default:
			return time.Now(), nil
		}
		select {
		case <-suspended:
		case <-fenced:
		case <-poll:
		case <-ctx.Done():
		}
	}
}

// enter waits like wait, and counts the write that now begins: whoever closes
// the gate and then sees no write under way knows that none will begin.
func (g *gate) enter(ctx context.Context, alive func() bool) (time.Time, error) {
	for {
		checked, err := g.wait(ctx, alive)
		if err != nil {
			return checked, err
		}
		g.writing.Add(1)
		if open, _ := g.fence.open(); open {
			return checked, nil
		}
		g.leave()
	}
}

// leave counts the end of a write.
func (g *gate) leave() { g.writing.Add(-1) }

// idle waits until no write is under way; false: some still is after that time.
func (g *gate) idle(within time.Duration) bool {
	for deadline := time.Now().Add(within); g.writing.Load() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}
