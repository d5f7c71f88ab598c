package eventslistener

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// requests answers who doubts a key: components downstream, through the requests
// topic, and our own memory, where another writer's record landed.
type requests struct {
	t    *term
	wake chan struct{}

	mu       sync.Mutex
	suspects map[string]bool
	// answered keys of the last batches, and the end of requests before the source
	// was asked: what was requested below it is answered already.
	answered map[string]int64
	held     map[string]string // requested keys the breaker holds back, and why they were asked for
}

// maxHeld bounds what waits for a person; who asked asks again anyway.
const maxHeld = 100_000

func newRequests(t *term) *requests {
	return &requests{t: t, wake: make(chan struct{}, 1), suspects: map[string]bool{}, held: map[string]string{}, answered: map[string]int64{}}
}

// suspect has a key appended again as the source shows it.
func (q *requests) suspect(key string) {
	q.mu.Lock()
	q.suspects[key] = true
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// retryHeld asks again about what the breaker held back.
func (q *requests) retryHeld() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// run answers requests until ctx ends.
func (q *requests) run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { q.repairs(ctx) })
	defer wg.Wait()
	p := q.t.a.Partition
	id := state.PartitionID{TopicID: p.TopicID, Number: p.Number}
	from := p.Start
	if pos, ok, err := q.t.opts.State.Position(id); err == nil && ok {
		from = pos.Offset
	}
	for {
		err := q.tail(ctx, p, id, from)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, stream.ErrOffsetOutOfRange):
			now, err := q.t.opts.Log.Bounds(ctx, p.Topic, p.Number)
			if err != nil {
				return err
			}
			from = now.Start
		default:
			return err
		}
	}
}

func (q *requests) tail(ctx context.Context, p stream.Partition, id state.PartitionID, from int64) error {
	tail, err := q.t.opts.Log.TailOf(p, from)
	if err != nil {
		return fmt.Errorf("reading requests: %w", err)
	}
	defer tail.Close()
	for {
		asked, next, err := q.gather(ctx, tail)
		if err != nil {
			return fmt.Errorf("reading requests: %w", err)
		}
		// What the breaker holds back is looked at with it, so that a person
		// confirms all of it at once.
		maps.Copy(asked, q.takeHeld())
		if err := q.answer(ctx, asked); err != nil {
			return err
		}
		// Behind the answers: a request is not lost to a crash, only repeated.
		if err := q.t.m.flush(ctx); err != nil {
			return err
		}
		q.mu.Lock()
		maps.DeleteFunc(q.answered, func(_ string, end int64) bool { return end <= next })
		q.mu.Unlock()
		if err := q.t.opts.State.Change(id).Commit(&state.Position{Offset: next, CommittedAt: time.Now()}); err != nil {
			return err
		}
		q.t.a.Commit(next)
	}
}

// gathering is the longest pause between requests that come together; maxGathered
// is how many are answered at once, and gatheredFor how long the first may wait
// for the last.
const (
	gathering   = 300 * time.Millisecond
	gatheredFor = 10 * time.Second
	maxGathered = 20_000
)

// gather takes what was requested together: a comparison that asks for thousands
// reaches us in many fetches, and the breaker must judge it as a whole
// (guarantee 8). It returns the keys, duplicates as one, and the offset behind.
func (q *requests) gather(ctx context.Context, tail *stream.Tail) (asked map[string]string, next int64, err error) {
	asked = map[string]string{}
	var began time.Time
	for first := true; ; first = false {
		var recs []*kgo.Record
		if first {
			recs, err = tail.Next(ctx)
			began = time.Now()
		} else {
			more, cancel := context.WithTimeout(ctx, gathering)
			recs, err = tail.Next(more)
			if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
				cancel()
				return asked, next, nil
			}
			cancel()
		}
		if err != nil {
			return nil, 0, err
		}
		for _, k := range recs {
			next = k.Offset + 1
			rec, err := topology.Decode(k)
			if err != nil || rec.Kind != topology.Object {
				q.t.l.counts.undecodable.Add(1)
				continue
			}
			if !q.isAnswered(rec.Key, rec.Offset) {
				asked[rec.Key] = rec.Reason
			}
		}
		if len(asked) >= maxGathered || time.Since(began) > gatheredFor {
			return asked, next, nil
		}
	}
}

// answer looks at the source for each key: what exists is appended again, what
// does not, looked at twice, is appended as deleted through the breaker.
func (q *requests) answer(ctx context.Context, asked map[string]string) error {
	end := q.end(ctx)
	missing := map[topology.Key][]candidate{} // by resource: a key without namespace and name
	for _, key := range slices.Sorted(maps.Keys(asked)) {
		c, err := q.look(ctx, key, asked[key])
		if err != nil {
			return err
		}
		if c == nil {
			q.note(key, end)
		} else {
			k, _ := topology.ParseKey(key) // look has parsed it
			k.Namespace, k.Name = "", ""
			missing[k] = append(missing[k], *c)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if !sleep(ctx, q.t.opts.SecondLook) {
		return context.Cause(ctx)
	}
	end = q.end(ctx)
	for k, candidates := range missing {
		if err := q.bury(ctx, k, candidates); err != nil {
			return err
		}
		for i := range candidates {
			q.note(candidates[i].key, end)
		}
	}
	return nil
}

// end is where the next request will land, 0 when it is not known.
func (q *requests) end(ctx context.Context) int64 {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	p, err := q.t.opts.Log.Bounds(ctx, q.t.a.Topic, q.t.a.Number)
	if err != nil || p.TopicID != q.t.a.TopicID {
		return 0
	}
	return p.End
}

// note remembers that requests for a key below end are answered.
func (q *requests) note(key string, end int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.answered[key] = max(q.answered[key], end)
}

// isAnswered tells whether a request was answered with one before it. Answers
// that all requests from here on are behind are forgotten.
func (q *requests) isAnswered(key string, offset int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	done := offset < q.answered[key]
	if !done {
		delete(q.answered, key)
	}
	return done
}

// look answers for one key if it exists; else it returns it as a candidate. What
// cannot be answered now is dropped: whoever asked asks again at its next resync.
func (q *requests) look(ctx context.Context, key, reason string) (*candidate, error) {
	k, err := topology.ParseKey(key)
	if err != nil {
		return nil, nil
	}
	wait := backoff{max: q.t.opts.Retry}
	for tries := 0; ; tries++ {
		c, err := q.lookOnce(ctx, k, key, reason)
		if err == nil {
			return c, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if !kube.Unavailable(err) && !apierrors.IsTooManyRequests(err) && tries > 2 {
			q.t.log.WarnContext(ctx, "a request about an object cannot be answered", q.t.cluster(), logging.SourceObject(k, "", ""), "reason", reason, logging.Err(err))
			return nil, nil
		}
		wait.after(ctx, err)
	}
}

func (q *requests) lookOnce(ctx context.Context, k topology.Key, key, reason string) (*candidate, error) {
	r, err := q.t.resolver.lookup(ctx, k.GVR())
	if err != nil {
		return nil, err
	}
	// The moment of absence, from before the object is looked for.
	page, err := q.t.source.ListPage(ctx, r, kube.ListOptions{Limit: 1})
	if err != nil {
		return nil, err
	}
	raw, err := q.t.get(ctx, r, key)
	if apierrors.IsNotFound(err) {
		cur, known, err := q.t.m.partOf(key).lookup(key)
		if err != nil {
			return nil, err
		}
		return &candidate{key: key, entry: cur, known: known, rv: page.ResourceVersion, requested: true, reason: reason}, nil
	}
	if err != nil {
		return nil, err
	}
	o, err := decode(r, raw)
	if err != nil {
		return nil, err
	}
	_, err = q.t.observe(ctx, &o, cause{observed: time.Now(), requested: true, reason: reason})
	return nil, err
}

// bury takes a second look at candidates of one resource and appends deletes
// through the breaker.
func (q *requests) bury(ctx context.Context, of topology.Key, candidates []candidate) error {
	r, err := q.t.resolver.lookup(ctx, of.GVR())
	if err == nil {
		var gone []candidate
		if gone, err = q.t.absence.secondLook(ctx, &life{t: q.t, r: r}, candidates); err == nil && len(gone) > 0 {
			var blocked bool
			if blocked, err = q.t.absence.settle(ctx, subjectOf(of)+requestedSuffix, gone); blocked {
				q.hold(gone)
			}
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		q.t.log.WarnContext(ctx, "requests about missing objects cannot be answered", q.t.cluster(), "resource", subjectOf(of), logging.Err(err))
	}
	return nil
}

// requestedSuffix keeps what was asked about apart from what a listing misses.
const requestedSuffix = " (asked about by others)"

func (q *requests) hold(gone []candidate) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range gone {
		if len(q.held) < maxHeld {
			q.held[gone[i].key] = gone[i].reason
		}
	}
}

func (q *requests) takeHeld() map[string]string {
	q.mu.Lock()
	defer q.mu.Unlock()
	held := q.held
	q.held = map[string]string{}
	return held
}

// repairs appends suspects again, and asks again about what was held back once a
// person has confirmed.
func (q *requests) repairs(ctx context.Context) {
	wait := backoff{max: q.t.opts.Retry}
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		}
		q.mu.Lock()
		suspects := q.suspects
		q.suspects = map[string]bool{}
		q.mu.Unlock()
		held := q.takeHeld()
		if q.repair(ctx, suspects) {
			wait.reset()
		} else {
			// One that cannot be read now must not keep the others waiting.
			time.AfterFunc(wait.step(), q.retryHeld)
		}
		if len(held) > 0 {
			if err := q.answer(ctx, held); err != nil && ctx.Err() == nil {
				q.t.log.WarnContext(ctx, "requests cannot be answered", logging.Err(err))
			}
		}
	}
}

// repair makes the newest state of each key its last record again (guarantee 4).
// It returns false if some have to be tried again.
func (q *requests) repair(ctx context.Context, suspects map[string]bool) bool {
	var repaired []string
	all := true
	for key := range suspects {
		err := q.repairOnce(ctx, key)
		switch {
		case err == nil:
			q.t.l.counts.repaired.Add(1)
			repaired = append(repaired, key)
		case errors.Is(err, kube.ErrNotServed):
			// Nothing of it can be read; its objects count as unknown.
		default:
			all = false
			q.mu.Lock()
			q.suspects[key] = true
			q.mu.Unlock()
		}
		if ctx.Err() != nil {
			return all
		}
	}
	if len(repaired) > 0 && q.t.m.flush(ctx) == nil {
		q.t.m.settled(repaired)
	}
	return all
}

func (q *requests) repairOnce(ctx context.Context, key string) error {
	k, err := topology.ParseKey(key)
	if err != nil {
		return nil
	}
	r, err := q.t.resolver.lookup(ctx, k.GVR())
	if err != nil {
		return err
	}
	const why = "a record of another writer landed behind ours"
	raw, err := q.t.get(ctx, r, key)
	switch {
	case err == nil:
		o, err := decode(r, raw)
		if err != nil {
			return err
		}
		_, err = q.t.observe(ctx, &o, cause{observed: time.Now(), repair: true, reason: why})
		return err
	case !apierrors.IsNotFound(err):
		return err
	}
	cur, known, err := q.t.m.partOf(key).lookup(key)
	if err != nil || !known {
		return err
	}
	if !cur.Deleted {
		// Whether it is gone is for the second look to say.
		return q.answer(ctx, map[string]string{key: why})
	}
	o := object{key: k, uid: cur.UID, rv: cur.Version.RV, deleted: true}
	_, err = q.t.observe(ctx, &o, cause{observed: time.Now(), repair: true, reason: why})
	return err
}
