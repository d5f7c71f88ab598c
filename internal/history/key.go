package history

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/topology"
)

// LastState is the last state of an object that the log still has, also of one
// that was deleted since; nil if it has none. Only the object's partition is read.
func (l Log) LastState(ctx context.Context, key string) (rec *topology.Record, deleted bool, err error) {
	parts, err := l.Client.Partitions(ctx, l.Topics.Changes)
	if err != nil {
		return nil, false, err
	}
	p := parts[topology.PartitionOf(key, int32(len(parts)))]
	name := []byte(key)
	err = l.Client.Read(ctx, p.Topic, p.Number, p.Start, p.End, func(k *kgo.Record) error {
		if !bytes.Equal(k.Key, name) {
			return nil
		}
		r, err := topology.Decode(k)
		if err != nil {
			return fmt.Errorf("the log of %s: %w", key, err)
		}
		if deleted = r.Body == nil || r.Op == topology.Delete; !deleted {
			rec = &r
		}
		return nil
	})
	return rec, deleted, err
}

// ChangedSince are the keys of the objects that were changed at a moment or later,
// deletes included.
func (l Log) ChangedSince(ctx context.Context, since time.Time) (map[string]bool, error) {
	parts, err := l.Client.Partitions(ctx, l.Topics.Changes)
	if err != nil {
		return nil, err
	}
	// A record is appended at the moment it is about, or later.
	from, err := l.Client.Since(ctx, l.Topics.Changes, since)
	if err != nil {
		return nil, err
	}
	keys := map[string]bool{}
	for i, p := range parts {
		err := l.Client.Read(ctx, p.Topic, p.Number, max(from[i], p.Start), p.End, func(k *kgo.Record) error {
			if topology.IsControl(string(k.Key)) {
				return nil
			}
			if g, err := topology.GlanceAt(k); err == nil && g.Moment >= since.UnixNano() {
				keys[string(k.Key)] = true
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return keys, nil
}
