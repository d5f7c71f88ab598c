package synchronizer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// positionAge is the age from which a position is not trusted any more: a
// tombstone behind it may have been compacted away (delete.retention.ms is 8 days).
const positionAge = 156 * time.Hour

// Meta of a partition.
const (
	metaDestination = "destination" // UID of the cluster the state is about
	metaSource      = "source"      // UID of the cluster the desired states come from
	metaFormer      = "former"      // UIDs of those they came from before, separated by spaces
	metaListed      = "listed/"     // and a resource: a complete listing of it was passed, under this generation
)

// errStartOver ends a partition's work so that it begins again.
var errStartOver = errors.New("start over")

// partition is one partition of desired while it is assigned to this process.
type partition struct {
	s          *Synchronizer
	assignment *stream.Assignment
	id         state.PartitionID
	log        *slog.Logger
	// destination is the UID of the cluster that is written.
	destination string

	// ctx ends when the partition is given up; effects, some time later, so that
	// what has begun is seen to its end.
	ctx, effects context.Context
	cancel       context.CancelCauseFunc
	owned        atomic.Pointer[topology.Owner]
	leaderEpoch  atomic.Int32
	newest       int64 // generation of a configuration that was seen; only begin and read use it
	commitNow    chan struct{}
	retryNow     chan struct{}
	unread       atomic.Int64 // records that could not be decoded

	mu                          sync.Mutex
	room, idle                  *sync.Cond
	impatient                   bool
	memory                      *memory
	track                       tracker
	lanes                       map[string]*lane
	unfinished, unfinishedBytes int
	finished, superseded        int
	committed, committingAt     int64
	passed                      []func()
	foldEnd                     int64
	caughtUp                    bool
	recovered                   int // objects that the census found
	counted                     bool
	listed                      map[string]int64 // resources with a complete listing before the watermark, and the configuration's generation then
	generation                  int64            // of the last configuration that was read
	former                      []string         // sources of it that a person confirmed to have changed
	metas                       map[string][]byte
	verifiedAt                  time.Time
	early                       *topology.Record // the last heartbeat of the folded stretch, while it is not done
	gvrs                        map[schema.GroupVersionResource]bool
}

// runPartition works on a partition until ctx ends.
func (s *Synchronizer) runPartition(ctx context.Context, a *stream.Assignment) error {
	for {
		p := newPartition(s, a)
		err := p.run(ctx)
		s.mu.Lock()
		if s.parts[a.Number] == p {
			delete(s.parts, a.Number)
		}
		s.mu.Unlock()
		if ctx.Err() != nil {
			return nil
		}
		if !errors.Is(err, errStartOver) {
			return err
		}
	}
}

func newPartition(s *Synchronizer, a *stream.Assignment) *partition {
	p := &partition{
		s: s, assignment: a, lanes: map[string]*lane{}, gvrs: map[schema.GroupVersionResource]bool{},
		listed: map[string]int64{}, metas: map[string][]byte{}, commitNow: make(chan struct{}, 1), retryNow: make(chan struct{}, 1),
		log: s.Logger.With("topic", a.Topic, "partition", a.Number),
	}
	p.room, p.idle = sync.NewCond(&p.mu), sync.NewCond(&p.mu)
	return p
}

func (p *partition) owner() topology.Owner { return *p.owned.Load() }

// alive tells whether the partition is ours as far as the group was heard of.
func (p *partition) alive() bool { return p.assignment.Alive() }

// fail ends the partition's work with an error.
func (p *partition) fail(err error) { p.cancel(err) }

// run reads the partition from its position on.
func (p *partition) run(parent context.Context) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	effects, stop := context.WithCancel(context.WithoutCancel(parent))
	defer stop()
	p.ctx, p.effects, p.cancel = ctx, effects, cancel
	defer context.AfterFunc(ctx, func() { p.mu.Lock(); p.room.Broadcast(); p.mu.Unlock() })()

	destination, err := p.s.identity.await(ctx)
	if err != nil {
		return err
	}
	if _, err := p.s.partitionCount(ctx); err != nil {
		return err
	}
	from, fold, err := p.begin(ctx, destination)
	if err != nil {
		return err
	}
	p.s.mu.Lock()
	p.s.parts[p.id.Number] = p
	p.s.mu.Unlock()

	g, gctx := errgroup.WithContext(ctx)
	// Where one ends all end, also what waits for room or for the gate.
	defer context.AfterFunc(gctx, func() { cancel(context.Cause(gctx)) })()
	g.Go(func() error { return p.read(gctx, from, fold) })
	g.Go(func() error { return p.commitLoop(gctx) })
	g.Go(func() error { return p.retryLoop(gctx) })
	g.Go(func() error { return p.s.identity.other(gctx, destination) })
	err = g.Wait()
	cancel(err)
	// What has begun ends by itself within a request's time; then it is remembered.
	p.drain(p.s.RequestTimeout + 2*time.Second)
	if p.commit() != nil {
		p.log.Warn("the last commit failed: what was done since the one before is looked at again")
	}
	if cause := context.Cause(ctx); cause != nil && parent.Err() == nil && err == nil {
		err = cause
	}
	return err
}

// read takes the records one by one and hands them to their lanes.
func (p *partition) read(ctx context.Context, from int64, fold *stream.Fold) error {
	tail, err := p.s.Log.TailOf(stream.Partition{Topic: p.s.Topics.Desired, TopicID: p.id.TopicID, Number: p.id.Number}, from)
	if err != nil {
		return err
	}
	defer tail.Close()
	for {
		records, err := tail.Next(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, stream.ErrTopicRecreated) || errors.Is(err, stream.ErrOffsetOutOfRange) {
				p.log.Warn("the partition begins anew", logging.Err(err))
				return errStartOver
			}
			return fmt.Errorf("reading %s/%d: %w", p.s.Topics.Desired, p.id.Number, err)
		}
		for _, k := range records {
			if err := p.take(ctx, k, fold.Last(k.Key, k.Offset)); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return err
			}
		}
	}
}

// take takes one record. last: no later one of its key lies in the folded stretch
// (a replayed create must not resurrect what its own later delete removed).
func (p *partition) take(ctx context.Context, k *kgo.Record, last bool) error {
	p.leaderEpoch.Store(k.LeaderEpoch)
	if !last {
		p.skip(k.Offset, nil)
		return nil
	}
	r, err := topology.Decode(k)
	if err != nil {
		p.unread.Add(1)
		p.log.Error("a record cannot be read and is passed over", "offset", k.Offset, logging.Err(err))
		p.skip(k.Offset, nil)
		return nil
	}
	switch r.Kind {
	case topology.Object:
		if p.owned.Load() == nil {
			if err := p.own(ctx, "", true); err != nil {
				return err
			}
			if err := p.settleOwner(ctx); err != nil {
				return err
			}
		}
		w, err := wantOf(&r)
		if err != nil {
			return err // Decode checked the key
		}
		p.sawResource(w.key)
		return p.submit(ctx, &job{want: w, tracked: true})
	case topology.Configured:
		c, err := configOf(&r)
		if err != nil {
			p.log.Error("a configuration cannot be read and is passed over", "offset", k.Offset, logging.Err(err))
			p.skip(k.Offset, nil)
			return nil
		}
		if c.Generation < p.newest {
			p.skip(k.Offset, nil) // a zombie's: nobody repairs it
			return nil
		}
		p.newest = c.Generation
		p.comesAfter(c.FormerSourceUIDs)
		if err := p.own(ctx, c.SourceUID, false); err != nil {
			return err
		}
		if err := p.settleOwner(ctx); err != nil {
			return err
		}
		p.mu.Lock()
		p.generation = c.Generation
		p.track.skipRemembering(k.Offset, func() { p.metas[metaGeneration] = strconv.AppendInt(nil, c.Generation, 10) }, nil)
		p.mu.Unlock()
	case topology.Listed:
		_, subject, _ := strings.Cut(r.Key, "/")
		p.mu.Lock()
		generation := p.generation
		p.track.skipRemembering(k.Offset, func() { p.rememberListed(subject, generation) }, p.onListed)
		p.mu.Unlock()
	case topology.Heartbeat:
		p.skip(k.Offset, func() { p.onHeartbeat(r) })
	default:
		p.skip(k.Offset, nil)
	}
	return nil
}

func (p *partition) skip(offset int64, passed func()) {
	p.mu.Lock()
	p.track.skip(offset, passed)
	p.mu.Unlock()
}

func (p *partition) sawResource(key topology.Key) {
	p.mu.Lock()
	p.gvrs[key.GVR()] = true
	p.mu.Unlock()
}

// settleOwner does what had to wait for the owner.
func (p *partition) settleOwner(ctx context.Context) error {
	if p.counted {
		return nil
	}
	if err := p.takeCensus(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.memory.load()
}

// rememberListed is called when everything before the marker of a complete
// listing is done: from now on a key that desired does not have is one the source
// lacked. p.mu is held.
func (p *partition) rememberListed(subject string, generation int64) {
	p.listed[subject] = generation
	p.metas[metaListed+subject] = strconv.AppendInt(nil, generation, 10)
}

// onListed is called when that is durable.
func (p *partition) onListed() {
	p.s.releaseMoved()
	p.mu.Lock()
	compare := p.recovered > 0
	p.mu.Unlock()
	if compare {
		p.s.drift.now()
	}
}

// onHeartbeat is called when everything before a heartbeat is done. In the folded
// stretch that is not all of it: the one record of a key that counts may stand
// behind the heartbeat, and until it is applied the key is older than verified.
func (p *partition) onHeartbeat(r topology.Record) {
	p.mu.Lock()
	if !p.caughtUp {
		p.early = &r
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	p.forward(p.effects, r)
}

// complete tells whether a complete listing of a key's resource lies before the
// watermark. p.mu is held.
func (p *partition) complete(key string) (bool, error) {
	k, err := topology.ParseKey(key)
	if err != nil {
		return false, nil
	}
	subject := strings.TrimSuffix(topology.ResourcePrefix(k.GVR()), "/")
	if _, ok := p.listed[subject]; ok {
		return true, nil
	}
	_, ok, err := p.s.State.Meta(p.id, metaListed+subject)
	return ok, err
}

// onCaughtUp is called once, when everything that was there at the beginning is
// done: now the destination can be compared with it.
func (p *partition) onCaughtUp() { p.s.drift.now() }

// appended adapts a callback of the writer.
func appended(f func(error)) func(*kgo.Record, error) {
	return func(_ *kgo.Record, err error) { f(err) }
}
