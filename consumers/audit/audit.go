package audit

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/topology"
)

// Audit reads the log of one LiveSynchronization.
type Audit struct {
	Client *stream.Client
	Topics topology.Topics
}

// followEvery is how often Follow looks; a change is told one look late, so that
// its outcome is mostly there.
const followEvery = time.Second

// Run calls fn for every change that fits the query, in order, up to the end of
// the log as of now. An error of fn ends it and is returned.
func (a Audit) Run(ctx context.Context, q Query, fn func(*Change) error) error {
	s, err := a.begin(ctx, &q, false)
	if err != nil {
		return err
	}
	return s.round(ctx, s.outcomesFrom, fn)
}

// Follow is Run that goes on with what comes, until ctx ends or fn fails. A change is
// told one to two seconds after it was appended, with the outcome it has by then.
func (a Audit) Follow(ctx context.Context, q Query, fn func(*Change) error) error {
	// Before the ends of changes are noted: outcomes of what comes behind those come
	// behind these.
	last, err := (&session{a: a}).outcomeEnds(ctx)
	if err != nil {
		return err
	}
	s, err := a.begin(ctx, &q, true)
	if err != nil {
		return err
	}
	if err := s.round(ctx, s.outcomesFrom, fn); err != nil {
		return err
	}
	// A round tells what was there at the last look, with the outcomes that came since
	// the look before it.
	for before := last; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(followEvery):
		}
		from := before
		before = last
		if last, err = s.look(ctx); err != nil {
			return err
		}
		if err := s.round(ctx, from, fn); err != nil {
			return err
		}
	}
}

// session goes along the partitions that may hold what is asked for.
type session struct {
	a     Audit
	q     *Query
	parts []*part
	// outcomesFrom are the offsets from which outcomes matter, by partition.
	outcomesFrom map[int32]int64
}

func (a Audit) begin(ctx context.Context, q *Query, follow bool) (*session, error) {
	changes, err := a.Client.Partitions(ctx, a.Topics.Changes)
	if err != nil {
		return nil, err
	}
	s := &session{a: a, q: q, outcomesFrom: map[int32]int64{}}
	from := make([]int64, len(changes))
	if !q.Since.IsZero() {
		// A record is appended after the moment it is dated at.
		if from, err = a.Client.Since(ctx, a.Topics.Changes, q.Since); err != nil {
			return nil, err
		}
		outcomes, err := a.Client.Since(ctx, a.Topics.Outcomes, q.Since)
		switch {
		case errors.Is(err, stream.ErrNoTopic):
		case err != nil:
			return nil, err
		default:
			for i, offset := range outcomes {
				s.outcomesFrom[int32(i)] = offset
			}
		}
	}
	for i, p := range changes {
		if q.Object != "" && topology.PartitionOf(q.Object, int32(len(changes))) != p.Number {
			continue
		}
		s.parts = append(s.parts, newPart(s, p, len(changes), min(max(from[i], p.Start), p.End), follow))
	}
	// Every partition holds every control record: one of them tells.
	s.parts[0].control = q.control()
	return s, nil
}

// look notes the ends of the log as of now, and returns those of outcomes.
func (s *session) look(ctx context.Context) (map[int32]int64, error) {
	ends, err := s.outcomeEnds(ctx)
	if err != nil {
		return nil, err
	}
	changes, err := s.a.Client.Partitions(ctx, s.a.Topics.Changes)
	if err != nil {
		return nil, err
	}
	for _, p := range s.parts {
		if int(p.at.Number) >= len(changes) || changes[p.at.Number].TopicID != p.at.TopicID {
			return nil, fmt.Errorf("%s: %w", p.at.Topic, stream.ErrTopicRecreated)
		}
		p.end, p.seen = p.seen, changes[p.at.Number].End
	}
	return ends, nil
}

func (s *session) outcomeEnds(ctx context.Context) (map[int32]int64, error) {
	ps, err := s.outcomes(ctx)
	ends := make(map[int32]int64, len(ps))
	for _, p := range ps {
		ends[p.Number] = p.End
	}
	return ends, err
}

// outcomes are the partitions of the topic; none if nothing was ever applied.
func (s *session) outcomes(ctx context.Context) ([]stream.Partition, error) {
	ps, err := s.a.Client.Partitions(ctx, s.a.Topics.Outcomes)
	if errors.Is(err, stream.ErrNoTopic) {
		return nil, nil
	}
	return ps, err
}

// round tells what the partitions hold up to their ends.
func (s *session) round(ctx context.Context, outcomesFrom map[int32]int64, fn func(*Change) error) error {
	ps, err := s.outcomes(ctx)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	sources := make([]*source, len(s.parts))
	for i, p := range s.parts {
		c := make(chan *Change, buffered)
		sources[i] = &source{c: c}
		g.Go(func() error {
			defer close(c)
			o := &outcomes{}
			if int(p.at.Number) < len(ps) {
				var err error
				if o, err = readOutcomes(gctx, s.a.Client, ps[p.at.Number], outcomesFrom[p.at.Number], s.q); err != nil {
					return err
				}
			}
			return p.tell(gctx, o, c)
		})
	}
	g.Go(func() error { return merge(gctx, sources, fn) })
	return g.Wait()
}

// buffered changes of each partition wait for their turn.
const buffered = 64

// source is a partition's changes in order.
type source struct {
	c    <-chan *Change
	next *Change
}

// merge calls fn in the order in which the log took the changes.
func merge(ctx context.Context, sources []*source, fn func(*Change) error) error {
	var h sourceHeap
	g := gaps{fn: fn}
	advance := func(s *source) bool {
		select {
		case c, ok := <-s.c:
			s.next = c
			return ok
		case <-ctx.Done():
			return false
		}
	}
	for _, s := range sources {
		if advance(s) {
			h = append(h, s)
		}
	}
	heap.Init(&h)
	for len(h) > 0 && ctx.Err() == nil {
		if err := g.take(h[0].next); err != nil {
			return err
		}
		if advance(h[0]) {
			heap.Fix(&h, 0)
		} else {
			heap.Pop(&h)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return g.end()
}

type sourceHeap []*source

func (h sourceHeap) Len() int { return len(h) }
func (h sourceHeap) Less(i, j int) bool {
	a, b := h[i].next, h[j].next
	if c := a.AppendedAt.Compare(b.AppendedAt); c != 0 {
		return c < 0
	}
	return a.Partition < b.Partition
}
func (h sourceHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *sourceHeap) Push(x any)   { *h = append(*h, x.(*source)) }
func (h *sourceHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
