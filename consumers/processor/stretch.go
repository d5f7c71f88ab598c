package processor

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/topology"
)

// readAhead folds from the position to the current end. It says true when a
// newer configuration was found on the way and put in force.
func (w *partition) readAhead(ctx context.Context) (bool, error) {
	var newest *configured
	last := w.next
	unreadable := map[string]int64{}
	fold, err := w.Log.Fold(ctx, w.Topics.Changes, w.number, w.next, w.in.End, func(rec *kgo.Record) {
		last = rec.Offset + 1
		r, err := topology.Decode(rec)
		if err != nil {
			unreadable[string(rec.Key)] = noOffset // counted when it is read
			return
		}
		if c := configuration(&r); c != nil && w.supersedes(c) && (newest == nil || c.Generation > newest.Generation) {
			newest = c
		}
	})
	if err != nil {
		return false, fmt.Errorf("folding changes: %w", err)
	}
	// What lies between the last record and the end was compacted away.
	w.fold, w.stretchEnd = fold, last
	if err := w.findReadable(ctx, unreadable); err != nil {
		return false, err
	}
	if newest == nil {
		return false, nil
	}
	return w.adopt(ctx, newest, w.in.Start)
}

// findReadable finds the last readable record of the stretch for keys that also
// have unreadable ones: being passed over, these must not hide what came before.
func (w *partition) findReadable(ctx context.Context, keys map[string]int64) error {
	w.readable = keys
	if len(keys) == 0 {
		return nil
	}
	err := w.Log.Read(ctx, w.Topics.Changes, w.number, w.next, w.stretchEnd, func(rec *kgo.Record) error {
		if _, ok := keys[string(rec.Key)]; ok {
			if _, err := topology.Decode(rec); err == nil {
				keys[string(rec.Key)] = rec.Offset
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading changes past what is unreadable: %w", err)
	}
	return nil
}

// lastOfKey tells whether a record is the last readable one of its key in the
// stretch, or lies behind it. Guarantee 3 on replay: a create must not resurrect
// what its own later delete removed.
func (w *partition) lastOfKey(rec *kgo.Record) bool {
	if rec.Offset >= w.stretchEnd {
		return true
	}
	if last, ok := w.readable[string(rec.Key)]; ok {
		return rec.Offset == last
	}
	return w.fold.Last(rec.Key, rec.Offset)
}

// supersedes tells whether a configuration is newer than the one in force.
func (w *partition) supersedes(c *configured) bool {
	if c.Generation <= w.rejected {
		return false
	}
	return w.rules == nil || c.Generation > w.rules.Config().Generation
}
