package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/maphash"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/topology"
)

// part goes along one partition of changes.
type part struct {
	s  *session
	at stream.Partition
	// next is the offset to go on at, end where to stop, seen the end at the last look.
	next, end, seen int64
	// all keys must be known beforehand, not only those met first: it is followed.
	all bool
	// before tells that what is before next has been looked at for previous states.
	before bool
	// control: gaps and epochs are told from this partition.
	control bool
	prev    map[uint64]int64 // offset of the last record of a key, by hash
	states  *cache
}

// cachedBytes of bodies are kept over all partitions of the topic.
const cachedBytes = 64 << 20

func newPart(s *session, p stream.Partition, partitions int, from int64, follow bool) *part {
	return &part{
		s: s, at: p, next: from, end: p.End, seen: p.End, all: follow,
		prev: map[uint64]int64{}, states: newCache(cachedBytes / partitions),
	}
}

func keyHash(key []byte) uint64 { return maphash.Bytes(seed, key) }

// tell sends what the partition holds from where it stands to its end.
func (p *part) tell(ctx context.Context, o *outcomes, out chan<- *Change) error {
	if err := p.lookBack(ctx); err != nil {
		return err
	}
	done, err := p.done(ctx, o)
	if err != nil {
		return err
	}
	err = p.read(ctx, p.next, p.end, func(k *kgo.Record) error {
		c, err := p.change(ctx, k, func(r *topology.Record) Applied { return o.of(r, r.Offset < done) })
		if c == nil || err != nil {
			return err
		}
		select {
		case out <- c:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	p.next = max(p.next, p.end)
	return err
}

func (p *part) read(ctx context.Context, from, to int64, fn func(*kgo.Record) error) error {
	if from >= to {
		return nil
	}
	return p.s.a.Client.Read(ctx, p.at.Topic, p.at.Number, from, to, fn)
}

// done is the offset up to which everything is applied or in quarantine.
func (p *part) done(ctx context.Context, o *outcomes) (int64, error) {
	if o.passed.IsZero() {
		return 0, nil
	}
	// The heartbeat was appended after it was made: what was appended before that
	// is before it.
	offsets, err := p.s.a.Client.Since(ctx, p.at.Topic, o.passed)
	if err != nil || int(p.at.Number) >= len(offsets) {
		return 0, err
	}
	return offsets[p.at.Number], nil
}

// lookBack finds the last record, before the stretch that is asked for, of each key
// in it: what its first change is compared with.
func (p *part) lookBack(ctx context.Context) error {
	if p.before {
		return nil
	}
	p.before = true
	if p.next <= p.at.Start {
		return nil
	}
	wanted := map[uint64]bool{}
	if !p.all {
		err := p.read(ctx, p.next, p.end, func(k *kgo.Record) error {
			if p.s.q.record(k) {
				wanted[keyHash(k.Key)] = true
			}
			return nil
		})
		if err != nil || len(wanted) == 0 {
			return err
		}
	}
	return p.read(ctx, p.at.Start, p.next, func(k *kgo.Record) error {
		if !p.s.q.key(k.Key) {
			return nil
		}
		if h := keyHash(k.Key); p.all || wanted[h] {
			p.prev[h] = k.Offset
		}
		return nil
	})
}

// change is what a record tells; nil if it is not asked for.
func (p *part) change(ctx context.Context, k *kgo.Record, applied func(*topology.Record) Applied) (*Change, error) {
	if !p.s.q.key(k.Key) {
		if p.control && topology.IsControl(string(k.Key[:min(1, len(k.Key))])) {
			return p.controlRecord(k), nil
		}
		return nil, nil
	}
	g, err := topology.GlanceAt(k)
	if err != nil || g.Kind != topology.Object {
		return nil, nil // not ours
	}
	h := keyHash(k.Key)
	before, known := p.prev[h]
	p.prev[h] = k.Offset
	if !p.s.q.moment(g.Moment) {
		p.states.drop(h)
		return nil, nil
	}
	now, err := topology.Decode(k)
	if err != nil {
		p.states.drop(h)
		return nil, nil
	}
	var old *topology.Record
	if known {
		if old, err = p.state(ctx, h, before, now.Key); err != nil {
			return nil, err
		}
	}
	p.states.put(h, &now)
	c := changeOf(&now, old, p.s.q)
	if !p.s.q.change(c) {
		return nil, nil
	}
	c.Applied = applied(&now)
	return c, nil
}

// state is the record of a key at an offset, from the cache or the log; nil when it
// is gone from there.
func (p *part) state(ctx context.Context, h uint64, offset int64, key string) (*topology.Record, error) {
	if r := p.states.get(h, offset); r != nil {
		return r, nil
	}
	var found *topology.Record
	err := p.read(ctx, offset, offset+1, func(k *kgo.Record) error {
		// Another one where the cleaner was here meanwhile; unreadable is as good as gone.
		if r, err := topology.Decode(k); err == nil && r.Offset == offset && r.Key == key {
			found = &r
		}
		return nil
	})
	return found, err
}

// controlRecord tells a gap or an epoch.
func (p *part) controlRecord(k *kgo.Record) *Change {
	r, err := topology.Decode(k)
	if err != nil {
		return nil
	}
	c := &Change{AppendedAt: r.AppendedAt.UTC(), Partition: r.Partition, Offset: r.Offset, Epoch: r.Version.Epoch, Reason: r.Reason}
	switch r.Kind {
	case topology.Gap:
		var b topology.GapBody
		if json.Unmarshal(r.Body, &b) != nil {
			return nil
		}
		if s := p.s.q; !s.Since.IsZero() && b.To.Before(s.Since) || !s.Until.IsZero() && b.From.After(s.Until) {
			return nil
		}
		c.Kind, c.From, c.To = OfGap, &b.From, &b.To
		c.Reason = "nobody watched the source: what came and went meanwhile is not known"
	case topology.EpochOpened:
		if !p.s.q.moment(r.AppendedAt.UnixNano()) {
			return nil
		}
		c.Kind = OfEpoch
	default:
		return nil
	}
	return c
}

// changeOf tells a record beside the one before it.
func changeOf(now, old *topology.Record, q *Query) *Change {
	key, _ := topology.ParseKey(now.Key) // Decode has parsed it
	c := &Change{
		Kind: OfObject, Key: now.Key, Op: now.Op, UID: now.UID, ResourceVersion: now.Version.RV, Epoch: now.Version.Epoch,
		AppendedAt: now.AppendedAt.UTC(), Inferred: now.Inferred, Reason: now.Reason,
		Partition: now.Partition, Offset: now.Offset,
	}
	path, node := key.Node()
	if node {
		c.Path = path
	} else {
		c.Group, c.Version, c.Resource, c.Namespace, c.Name = key.Group, key.Version, key.Resource, key.Namespace, key.Name
	}
	if !now.ObservedAt.IsZero() {
		c.ObservedAt = &now.ObservedAt
	}
	if old == nil && now.Op == topology.Update {
		c.Unknown = true
	}
	compared := old
	if old != nil && now.Op == topology.Create {
		compared = nil // of an object that is gone; or it was never told to be
	}
	fields, err := fieldsOf(key, compared, now, q.Values)
	if err != nil {
		c.Unknown, c.Reason = true, fmt.Sprintf("it cannot be compared: %v", err)
	}
	c.Fields = fields
	c.Again = (now.Requested || now.Repair) && now.Op == topology.Update && !c.Unknown && len(fields) == 0
	switch {
	case node:
		c.ChangedAt = nodeChangedAt(c, now)
	case now.Op != topology.Delete && (now.Op == topology.Create || c.Unknown || changesObject(fields)):
		c.By, c.ChangedAt = who(compared, now)
	}
	return c
}

// changesObject tells whether anything but the labels of the namespace changed.
func changesObject(fields []Field) bool {
	for _, f := range fields {
		if f.Path == "" || f.Path[0] == '/' {
			return true
		}
	}
	return false
}
