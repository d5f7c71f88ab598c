package archiver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/state/bucket"
	"github.com/afterimage-dr/afterimage/topology"
)

// errReconfigured ends a pass: another begins from the start of changes.
var errReconfigured = errors.New("a new configuration was read")

// injected is an error that a test put in place of a crash.
type injected struct{ error }

func errInjected(err error) bool {
	var i injected
	return errors.As(err, &i)
}

// partition is one partition of changes while it is assigned to this process.
type partition struct {
	a          *Archiver
	assignment *stream.Assignment
	number     int32
	log        *slog.Logger
	in         stream.Partition
	id         state.PartitionID

	// rejected is the generation of the last configuration that did not compile.
	rejected int64
	// pending is the configuration that ended a pass.
	pending *topology.Config
	// rules of the configuration in force; nil while none is known.
	rules       atomic.Pointer[topology.Rules]
	leaderEpoch atomic.Int32
	commitNow   chan struct{}
	retryNow    chan struct{}
	// ctx ends with the pass; effects, some time later, so that what has begun is
	// seen to its end.
	ctx, effects context.Context
	cancel       context.CancelCauseFunc
	stretch      stretch
	from         int64 // where the pass began
	// blank: nothing was remembered when the pass began.
	blank bool
	// assigned is when the partition was given to this process: nobody else writes
	// its keys since.
	assigned time.Time

	mu                          sync.Mutex
	room                        *sync.Cond
	memory                      *memory
	track                       tracker
	lanes                       map[string]*lane
	unfinished, unfinishedBytes int
	finished                    int
	// next is the offset up to which everything is committed.
	next, committed, committingAt, stretchEnd int64
	metas                                     map[string][]byte
	caughtUp                                  bool
	index                                     *index
	waiting                                   bool      // for a configuration
	archived                                  time.Time // of the newest heartbeat that was passed
	refused                                   string    // why the last configuration was
}

// assigned works on one partition until it is taken away.
func (a *Archiver) assigned(ctx context.Context, as *stream.Assignment) error {
	p := &partition{
		a: a, assignment: as, number: as.Number, commitNow: make(chan struct{}, 1), retryNow: make(chan struct{}, 1),
		log: a.Logger.With("topic", as.Topic, "partition", as.Number), assigned: time.Now(),
	}
	p.room = sync.NewCond(&p.mu)
	err := p.run(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.parts[as.Number] == p {
		delete(a.parts, as.Number)
	}
	if ctx.Err() != nil {
		delete(a.troubles, as.Number)
		return nil
	}
	if err != nil {
		a.troubles[as.Number] = err.Error()
	}
	return err
}

// run works on the partition until ctx ends.
func (p *partition) run(ctx context.Context) error {
	if err := p.open(ctx); err != nil {
		return err
	}
	for {
		err := p.pass(ctx)
		if !errors.Is(err, errReconfigured) {
			return err
		}
		if err := p.adopt(ctx, p.pending); err != nil {
			return err
		}
	}
}

// open decides what of the state can be used.
func (p *partition) open(ctx context.Context) error {
	if _, err := p.a.partitionCount(ctx); err != nil {
		return fmt.Errorf("counting the partitions: %w", err)
	}
	var err error
	if p.in, err = p.a.Log.Bounds(ctx, p.a.Topics.Changes, p.number); err != nil {
		return fmt.Errorf("reading the bounds of changes: %w", err)
	}
	p.id = state.PartitionID{TopicID: p.in.TopicID, Number: p.number}
	if err := p.a.State.DropOthers(p.in.TopicID); err != nil {
		return fmt.Errorf("forgetting recreated topics: %w", err)
	}
	position, ok, err := p.a.State.Position(p.id)
	if err != nil {
		return fmt.Errorf("reading the position: %w", err)
	}
	of, _, err := p.a.State.Meta(p.id, metaBucket)
	if err != nil {
		return fmt.Errorf("reading the state: %w", err)
	}
	here, why := identity(p.a.Bucket.Load()), ""
	switch {
	case ok && position.Offset > p.in.End:
		why = "the log is shorter than it was"
	case ok && time.Since(position.CommittedAt) > p.a.MaxPositionAge:
		why = "it is too old to trust"
	case len(of) > 0 && string(of) != here:
		why = "the bucket is another one"
	}
	if why != "" {
		p.log.Warn("what is remembered of the bucket is dropped", "reason", why)
		if err := p.a.State.Drop(p.id); err != nil {
			return fmt.Errorf("dropping the state: %w", err)
		}
		ok = false
	}
	p.blank = !ok
	if p.next = p.in.Start; ok {
		p.next = max(position.Offset, p.in.Start)
	}
	c := p.a.State.Change(p.id)
	c.SetMeta(metaBucket, []byte(here))
	if err := c.Commit(nil); err != nil {
		return err
	}
	return p.recallConfig()
}

// identity names the place where the originals are, whoever signs in.
func identity(o bucket.Options) string {
	sum := sha256.Sum256([]byte(o.Endpoint + "\x00" + o.Name + "\x00" + o.Prefix))
	return hex.EncodeToString(sum[:8])
}

// pass folds what there is to read and then follows the partition. It ends with
// errReconfigured when a newer configuration was read.
func (p *partition) pass(parent context.Context) (err error) {
	if p.in, err = p.a.Log.Bounds(parent, p.a.Topics.Changes, p.number); err != nil {
		return fmt.Errorf("reading the bounds of changes: %w", err)
	}
	if p.in.TopicID != p.id.TopicID {
		return fmt.Errorf("%w: %s", stream.ErrTopicRecreated, p.a.Topics.Changes)
	}
	if p.stretch, err = p.readAhead(parent); err != nil {
		return err
	}
	if p.stretch.newest != nil {
		p.pending = p.stretch.newest
		return errReconfigured
	}
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	effects, stop := context.WithCancel(context.WithoutCancel(parent))
	defer stop()
	if err := p.prepare(ctx, effects, cancel); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { p.mu.Lock(); p.room.Broadcast(); p.mu.Unlock() })()
	g, gctx := errgroup.WithContext(ctx)
	// Where one ends all end, also what waits for room or for the gate.
	defer context.AfterFunc(gctx, func() { cancel(context.Cause(gctx)) })()
	g.Go(func() error { return p.read(gctx) })
	if p.rules.Load() != nil {
		g.Go(func() error { return p.commitLoop(gctx) })
		g.Go(func() error { return p.retryLoop(gctx) })
	}
	err = g.Wait()
	cancel(err)
	p.end(stop)
	if cause := context.Cause(ctx); err == nil && cause != nil && parent.Err() == nil {
		err = cause
	}
	return err
}

// prepare makes everything ready for a pass.
func (p *partition) prepare(ctx, effects context.Context, cancel context.CancelCauseFunc) error {
	memory, err := load(p.a.State, p.id)
	if err != nil {
		return fmt.Errorf("reading the state: %w", err)
	}
	p.mu.Lock()
	p.ctx, p.effects, p.cancel = ctx, effects, cancel
	p.memory, p.track = memory, tracker{next: p.next}
	p.lanes, p.unfinished, p.unfinishedBytes, p.finished = map[string]*lane{}, 0, 0, 0
	p.archived = time.Time{}
	p.metas, p.caughtUp, p.waiting = map[string][]byte{}, false, p.rules.Load() == nil
	p.from = p.next
	p.committed, p.stretchEnd = -1, p.stretch.end // so that even an empty partition gets a position
	p.mu.Unlock()
	p.a.mu.Lock()
	p.a.parts[p.number] = p
	delete(p.a.troubles, p.number)
	p.a.mu.Unlock()
	return nil
}

// drainTimeout is how long what has begun may take when a pass ends. What is not
// done by then is done again by whoever comes next.
const drainTimeout = 3 * time.Second

// end waits for what has begun, and remembers it.
func (p *partition) end(stop context.CancelFunc) {
	if p.rules.Load() == nil {
		return
	}
	if !p.drain(drainTimeout) {
		stop()
		p.drain(time.Minute) // a request that was given up ends at once
	}
	if p.commit() != nil {
		p.log.Warn("the last commit failed: what was done since the one before is looked at again")
	}
}

// fail ends the pass with an error.
func (p *partition) fail(err error) { p.cancel(err) }

// read takes the records one by one and hands them to their lanes.
func (p *partition) read(ctx context.Context) error {
	from := p.from
	if p.rules.Load() == nil {
		p.log.Debug("waiting for a configuration in the log")
		from = p.stretch.end
	}
	tail, err := p.a.Log.TailOf(p.in, from)
	if err != nil {
		return fmt.Errorf("following changes: %w", err)
	}
	defer tail.Close()
	for {
		records, err := tail.Next(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("following changes: %w", err)
		}
		for _, rec := range records {
			if err := p.take(ctx, rec); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return err
			}
		}
	}
}

// take takes one record.
func (p *partition) take(ctx context.Context, rec *kgo.Record) error {
	p.leaderEpoch.Store(rec.LeaderEpoch)
	last := p.stretch.last(rec)
	if _, doubtful := p.stretch.readable[string(rec.Key)]; !last && !doubtful {
		p.skip(rec.Offset, nil) // a later record of the stretch says what became of the key
		return nil
	}
	r, err := topology.Decode(rec)
	if err != nil {
		p.a.count(func(c *Counts) { c.Undecodable++ })
		p.log.Error("a record cannot be read and is passed over", "offset", rec.Offset, logging.Err(err))
	}
	if err != nil || !last {
		p.skip(rec.Offset, nil)
		return nil
	}
	if c := configuration(&r); c != nil && p.supersedes(c) {
		p.pending = c
		return errReconfigured
	}
	switch {
	case p.rules.Load() == nil:
		return nil // nothing is done, and nothing is passed
	case r.Kind == topology.Object:
		key, err := topology.ParseKey(r.Key)
		if err != nil {
			return err // Decode checked the key
		}
		return p.submit(ctx, &job{
			key: key, name: r.Key, record: &r, version: r.Version, offset: r.Offset, tracked: true,
			verify: r.Requested, folded: r.Offset < p.stretch.end,
		})
	case r.Kind == topology.Listed:
		_, subject, _ := strings.Cut(r.Key, "/")
		p.skip(r.Offset, func() { p.metas[metaListed+subject] = []byte{1} })
	case r.Kind == topology.Heartbeat:
		p.skip(r.Offset, func() { p.archived = r.ObservedAt })
	default:
		p.skip(r.Offset, nil)
	}
	return nil
}

func (p *partition) skip(offset int64, remember func()) {
	if p.rules.Load() == nil {
		return
	}
	p.mu.Lock()
	p.track.skip(offset, remember)
	p.mu.Unlock()
}
