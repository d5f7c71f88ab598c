package processor

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// commit appends the records of a batch, waits until all are acknowledged, and
// makes the memory of them durable together with the position (nil: it stays).
func (w *partition) commit(ctx context.Context, b *batch, position *state.Position) error {
	if len(b.records) > 0 {
		if err := w.awaitAlive(ctx); err != nil {
			return err
		}
		if err := w.step("before-produce"); err != nil {
			return err
		}
		acknowledged, err := w.append(ctx, w.Topics.Desired, w.number, b.records)
		if err != nil {
			return fmt.Errorf("appending to desired: %w", err)
		}
		w.count(func(c *Counts) { c.Appended += int64(len(acknowledged)) })
		if err := w.step("after-produce"); err != nil {
			return err
		}
		if err := w.betweenOurs(ctx, b, acknowledged); err != nil {
			return err
		}
	}
	// Guarantee 1: only now is the position advanced; guarantee 2: together with
	// the memory, in one transaction.
	b.change.SetMeta(metaKnown, []byte(strconv.FormatInt(w.settled(), 10)))
	b.change.SetMeta(metaHeld, []byte(strconv.FormatInt(b.held, 10)))
	if err := w.step("before-commit"); err != nil {
		return err
	}
	if err := b.change.Commit(position); err != nil {
		return err
	}
	if err := w.step("after-commit"); err != nil {
		return err
	}
	w.held = b.held
	w.trackWithheld(b)
	w.note(func(s *status) { s.held = b.held })
	if position != nil {
		w.next = position.Offset
		w.assignment.Commit(position.Offset)
	}
	return nil
}

// settled is the offset of desired below which nothing is left to look at: a
// record that made us doubt a key is looked at again after a crash, until the
// key is repaired.
func (w *partition) settled() int64 {
	settled := w.known
	for _, offset := range w.doubts {
		settled = min(settled, offset)
	}
	return settled
}

// append appends records in order and waits for all; it returns them as
// acknowledged, with their offsets.
func (w *partition) append(ctx context.Context, topic string, number int32, records []*topology.Record) ([]*kgo.Record, error) {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		first error
	)
	out := make([]*kgo.Record, len(records))
	for i, r := range records {
		r.Writer = w.Incarnation
		wg.Add(1)
		w.writer.Append(ctx, r.Encode(topic, number), func(rec *kgo.Record, err error) {
			defer wg.Done()
			mu.Lock()
			defer mu.Unlock()
			out[i] = rec
			if err != nil && first == nil {
				first = err
			}
		})
	}
	wg.Wait()
	return out, first
}

// betweenOurs looks at the offsets our records got: where they leave a gap,
// somebody else appended.
func (w *partition) betweenOurs(ctx context.Context, b *batch, ours []*kgo.Record) error {
	last := make(map[string]int64, len(ours))
	for _, rec := range ours {
		if rec.Offset < w.known {
			// Another topic of the same name, or one cut back by an unclean leader:
			// what the memory says is there may be gone (guarantee 7).
			if err := w.State.Drop(w.id); err != nil {
				return fmt.Errorf("dropping the state: %w", err)
			}
			return fmt.Errorf("desired: a record landed at %d, before %d: %w", rec.Offset, w.known, errRecreated)
		}
		last[string(rec.Key)] = max(last[string(rec.Key)], rec.Offset)
	}
	for _, rec := range ours {
		if rec.Offset > w.known {
			err := w.Log.Read(ctx, w.Topics.Desired, w.number, w.known, rec.Offset, func(other *kgo.Record) error {
				return w.learn(b, other, last)
			})
			if err != nil {
				return fmt.Errorf("reading what others appended to desired: %w", err)
			}
		}
		w.known = max(w.known, rec.Offset+1)
	}
	// Ours landed behind what made us doubt these keys.
	for key, offset := range w.doubts {
		if last[key] > offset {
			delete(w.doubts, key)
		}
	}
	return nil
}

// awaitAlive waits until the group has been heard from: a member that has not
// must not write.
func (w *partition) awaitAlive(ctx context.Context) error {
	for !w.assignment.Alive() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return ctx.Err()
}
