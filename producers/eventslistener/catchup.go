package eventslistener

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

type kgoRecord = kgo.Record

// catchUpBatch is how many keys are remembered in one transaction on the way.
const catchUpBatch = 4096

// catchUp brings the memory of a partition to its end, dropping it first where
// it cannot be trusted (guarantee 7), and counts what it holds.
func (p *part) catchUp(ctx context.Context) error {
	b, err := p.m.log.Bounds(ctx, p.m.topic, p.id.Number)
	if err != nil {
		return fmt.Errorf("reading the bounds of %s/%d: %w", p.m.topic, p.id.Number, err)
	}
	if b.TopicID != p.m.topicID {
		return fmt.Errorf("%s was recreated: %w", p.m.topic, errBeginAgain)
	}
	from, err := p.begin(b.Start, b.End)
	if err != nil {
		return err
	}
	c := catchUp{p: p, changed: map[string]state.Entry{}, stale: map[string]int64{}}
	if err := p.m.log.Read(ctx, p.m.topic, p.id.Number, from, b.End, c.record); err != nil {
		return fmt.Errorf("reading %s/%d to its end: %w", p.m.topic, p.id.Number, err)
	}
	for key, offset := range c.stale {
		p.doubt(key, offset)
	}
	if err := c.commit(&state.Position{Offset: p.trusted(b.End), CommittedAt: time.Now()}); err != nil {
		return err
	}
	p.next = b.End
	for key := range c.stale {
		// Guarantee 4: the last record of a key must be its newest.
		p.m.suspect(key)
	}
	return p.m.stage.Each(p.id, "", func(key string, e state.Entry) error {
		p.m.count(key, false, !e.Deleted)
		return nil
	})
}

// begin finds the offset to read from.
func (p *part) begin(start, end int64) (int64, error) {
	pos, ok, err := p.m.stage.Position(p.id)
	if err == nil && ok && pos.Offset <= end && time.Since(pos.CommittedAt) < staleAfter {
		var raw []byte
		if raw, ok, err = p.m.stage.Meta(p.id, metaFacts); err == nil && ok {
			if json.Unmarshal(raw, &p.facts) == nil {
				return max(pos.Offset, start), nil
			}
		}
	}
	if err := p.m.stage.Drop(p.id); err != nil {
		return 0, fmt.Errorf("dropping the memory of %s/%d: %w", p.m.topic, p.id.Number, err)
	}
	p.facts = facts{}
	return start, nil
}

// catchUp takes in a partition's history.
type catchUp struct {
	p       *part
	changed map[string]state.Entry
	// stale keys: their last record is older than one before it.
	stale map[string]int64 // offset of the first such record
}

func (c *catchUp) record(k *kgo.Record) error {
	rec, err := topology.Decode(k)
	if err != nil {
		c.p.m.counts.undecodable.Add(1)
		return nil
	}
	c.p.facts.apply(&rec)
	if rec.Kind != topology.Object {
		return nil
	}
	cur, known := c.changed[rec.Key]
	if !known {
		if cur, known, err = c.p.m.stage.Get(c.p.id, rec.Key); err != nil {
			return err
		}
	}
	if known && rec.Version.Older(cur.Version) {
		if _, ok := c.stale[rec.Key]; !ok {
			c.stale[rec.Key] = rec.Offset
		}
		return nil
	}
	delete(c.stale, rec.Key)
	c.changed[rec.Key] = entryOf(&rec)
	if len(c.changed) >= catchUpBatch {
		// Without the position: what a crash forgets about stale keys is found
		// again by reading the same stretch again.
		return c.commit(nil)
	}
	return nil
}

func (c *catchUp) commit(pos *state.Position) error {
	change := c.p.m.stage.Change(c.p.id)
	for key, e := range c.changed {
		change.Put(key, e)
	}
	if pos != nil {
		change.SetMeta(metaFacts, c.p.facts.encode())
	}
	if err := change.Commit(pos); err != nil {
		return fmt.Errorf("remembering partition %d of %s: %w", c.p.id.Number, c.p.m.topic, err)
	}
	clear(c.changed)
	return nil
}
