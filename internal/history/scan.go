package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/topology"
)

// newest is the moment that every record is before.
const newest = math.MaxInt64

// scan is what one pass over a partition finds.
type scan struct {
	part   stream.Partition
	choice *choice // nil: only what the control records say
	facts  facts
	next   int64
	// whole: every record that was ever appended is still there.
	whole bool
	// unreadable records are not ours.
	unreadable int
}

// scanned are the partitions of a log, read to their ends.
type scanned struct {
	parts []scannedPart
	facts facts
	// whole: nothing was ever cleaned away.
	whole      bool
	live       int
	unreadable int
	stamps     stamps
	// end is when the reading was over.
	end time.Time
}

type scannedPart struct {
	part  stream.Partition
	picks []pick
}

// scan reads changes once; at is the moment whose records are chosen, nil for none.
func (l Log) scan(ctx context.Context, at *int64) (*scanned, error) {
	parts, err := l.Client.Partitions(ctx, l.Topics.Changes)
	if err != nil {
		return nil, err
	}
	scans := make([]*scan, len(parts))
	out := &scanned{parts: make([]scannedPart, len(parts)), stamps: stamps{}, whole: true}
	lives := make([]int, len(parts))
	err = each(ctx, len(parts), func(ctx context.Context, i int) error {
		s := &scan{part: parts[i], whole: parts[i].Start == 0, facts: newFacts()}
		if at != nil {
			s.choice = newChoice(*at)
		}
		if err := l.Client.Read(ctx, s.part.Topic, s.part.Number, s.part.Start, s.part.End, s.record); err != nil {
			return err
		}
		s.whole = s.whole && s.next == s.part.End
		out.parts[i].part = s.part
		scans[i] = s
		if s.choice != nil {
			out.parts[i].picks, lives[i] = s.choice.picks()
			s.choice.keys, s.choice.odd = nil, nil // not needed any more, and most of what is held
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the log: %w", err)
	}
	out.end = time.Now()
	out.facts = newFacts()
	for i, s := range scans {
		out.facts.merge(s.facts, i == 0)
		out.whole = out.whole && s.whole
		out.live += lives[i]
		out.unreadable += s.unreadable
		if s.choice != nil {
			out.stamps.merge(s.choice.stamps)
		}
	}
	return out, nil
}

// each does a piece of work for every partition, as many at a time as there are
// processors, and one more for when a broker is waited for.
func each(ctx context.Context, n int, fn func(context.Context, int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0) + 1)
	for i := range n {
		g.Go(func() error { return fn(ctx, i) })
	}
	return g.Wait()
}

func (s *scan) record(k *kgo.Record) error {
	s.whole = s.whole && k.Offset == s.next
	s.next = k.Offset + 1
	g, err := topology.GlanceAt(k)
	if err != nil {
		if newer := (*topology.NewerSchemaError)(nil); errors.As(err, &newer) {
			return err // nobody knows what would be missed
		}
		s.unreadable++
		return nil
	}
	if g.Kind != topology.Object {
		return s.control(k)
	}
	if s.choice != nil {
		s.choice.take(k, &g)
	}
	return nil
}

func (s *scan) control(k *kgo.Record) error {
	r, err := topology.Decode(k)
	if err != nil {
		s.unreadable++
		return nil
	}
	switch r.Kind {
	case topology.Configured:
		c, err := topology.ConfigIn(&r)
		if err != nil {
			s.unreadable++
			return nil
		}
		s.facts.configured(c)
	case topology.Listed:
		var b topology.ListedBody
		if subject := topology.ListedSubject(r.Key); subject != "" && json.Unmarshal(r.Body, &b) == nil && b.Fresh {
			// Brokers round down to milliseconds: what was seen within the same one
			// as the marker was appended must be before it.
			s.facts.complete(subject, r.AppendedAt.Add(time.Millisecond))
		}
	case topology.Heartbeat:
		s.facts.heartbeat(&r)
	case topology.Gap:
		var b topology.GapBody
		if json.Unmarshal(r.Body, &b) == nil {
			s.facts.gap(b)
		}
	}
	return nil
}
