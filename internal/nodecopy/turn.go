package nodecopy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// DefaultTurn is how long a run waits for its turn: longer than the session of a
// process that was killed while it worked on the tree.
const DefaultTurn = 35 * time.Second

// BusyError says that something else works on the tree.
type BusyError struct {
	Root string
	// Instance that does; empty: it could not be told.
	Instance string
	// Here: it is this process.
	Here   bool
	Waited time.Duration
}

func (e *BusyError) Error() string {
	who := "this process"
	if !e.Here {
		who = "another process, " + cmp.Or(e.Instance, "whose name the log does not tell") + ","
	}
	return fmt.Sprintf("rootPath %s: %s works on it, with a LiveSynchronization or another run, and did for the %s that this one waited: end it, or try again when it has ended", e.Root, who, e.Waited)
}

// Reason is that of a condition.
func (*BusyError) Reason() string { return "TreeBusy" }

// inTurn runs fn alone on the tree, and gives up where that is not possible for too
// long: a LiveSynchronization never ends.
func inTurn(ctx context.Context, o Options, fn func(context.Context) error) error {
	turn := cmp.Or(o.Turn, DefaultTurn)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := time.AfterFunc(turn, func() { cancel(o.busy(ctx, turn)) })
	defer late.Stop()
	err := exclusively(ctx, o, once, func(ctx context.Context) error {
		if !late.Stop() {
			return ctx.Err() // it came too late
		}
		return fn(ctx)
	})
	if busy := (*BusyError)(nil); errors.As(context.Cause(ctx), &busy) {
		return busy
	}
	return err
}

// askWithin bounds the question who has the tree.
const askWithin = 3 * time.Second

func (o Options) busy(ctx context.Context, waited time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	busy := &BusyError{Root: o.Rules.Root, Waited: waited}
	// Without an answer it is refused all the same.
	busy.Instance, _ = o.Log.GroupOwner(ctx, o.group(), o.Topics.Changes, 0)
	busy.Here = busy.Instance == o.InstanceID
	return busy
}
