package archiver

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/topology"
)

// resync compares the bucket with the log: when everything that was there at the
// beginning is done, once a resync period, and on demand. It lists the bucket and
// compares what is listed with what must be there; what is missing or different is
// taken from the log and uploaded, and what should not be there is removed.
type resync struct {
	a       *Archiver
	trigger chan struct{}
	last    atomic.Int64 // unix nanoseconds of the last complete comparison's end
	log     logging.State

	mu      sync.Mutex
	blocked blocked
}

const (
	// gather is how long a comparison waits for others to ask for it too.
	gather = 300 * time.Millisecond
	// patience with partitions that have not caught up when one asks: each asks
	// again when it has.
	patience = 10 * time.Second
	// compareAgain after a listing that failed, or left something over.
	compareAgain = 10 * time.Second
)

func newResync(a *Archiver) *resync { return &resync{a: a, trigger: make(chan struct{}, 1)} }

func (r *resync) now() { wake(r.trigger) }

func (r *resync) run(ctx context.Context) error {
	ended, period, prune := time.Now(), time.Duration(-1), ""
	for {
		v, changed := r.a.Settings.Get()
		if v.ResyncPeriod != period {
			period = v.ResyncPeriod // a new one reschedules at once
		}
		if v.ConfirmPrune != prune && r.isBlocked() {
			r.now() // a person may have confirmed
		}
		prune = v.ConfirmPrune
		var due <-chan time.Time
		if period > 0 {
			due = time.After(time.Until(ended.Add(period)))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			continue
		case <-due:
		case <-r.trigger:
			if !sleep(ctx, gather) || !r.caughtUp(ctx) {
				continue
			}
		}
		over, err := r.pass(ctx)
		ended = time.Now()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			r.log.Failing(r.a.Logger, "resync", "comparing the bucket failed, it is tried again", append(logging.Bucket(r.a.asset(), r.a.folder()), logging.Err(err))...)
			time.AfterFunc(compareAgain, r.now)
			continue
		case over:
			time.AfterFunc(compareAgain, r.now)
		}
		r.log.Working(r.a.Logger, "comparing the bucket works again")
		r.last.Store(ended.UnixNano())
	}
}

// caughtUp waits until all partitions of this process have, for a while.
func (r *resync) caughtUp(ctx context.Context) bool {
	for began := time.Now(); ; {
		ps := r.a.working()
		ready := len(ps) > 0
		for _, p := range ps {
			ready = ready && p.isCaughtUp()
		}
		if ready {
			return true
		}
		if time.Since(began) > patience || !sleep(ctx, 50*time.Millisecond) {
			return false
		}
	}
}

func (p *partition) isCaughtUp() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.caughtUp
}

// folder is where everything of the LiveSynchronization is in the bucket.
func (a *Archiver) folder() string { return a.namespace + "/" + a.name + "/" }

// pass is one comparison of the partitions that have caught up. over says that it
// left something for the next.
func (r *resync) pass(ctx context.Context) (over bool, err error) {
	parts := map[int32]*partition{}
	for _, p := range r.a.working() {
		if p.isCaughtUp() {
			parts[p.number] = p
		}
	}
	if len(parts) == 0 {
		return false, nil
	}
	total, err := r.a.partitionCount(ctx)
	if err != nil {
		return false, err
	}
	c := newComparison(r.a, parts, total)
	if err := c.list(ctx); err != nil {
		return false, err
	}
	if err := c.read(ctx); err != nil {
		return false, err
	}
	for p, f := range c.found {
		if err := p.repair(ctx, f); err != nil {
			return false, err
		}
	}
	if err := r.settle(ctx, c); err != nil {
		return false, err
	}
	r.a.count(func(n *Counts) { n.Compared++; n.Foreign = c.foreign })
	return c.over, nil
}

// repair has what is missing or different uploaded again.
func (p *partition) repair(ctx context.Context, f *findings) error {
	if len(f.repair) == 0 {
		return nil
	}
	p.log.Info("the bucket differs from the log", "objects", len(f.repair))
	offsets := make([]int64, 0, len(f.repair))
	for offset := range f.repair {
		offsets = append(offsets, offset)
	}
	err := p.replay(ctx, offsets, func(j *job) { j.listed = f.repair[j.offset] })
	return p.unlessEnded(err)
}

// remove has an original removed that nobody wants.
func (p *partition) remove(ctx context.Context, key topology.Key, version topology.Version) error {
	return p.unlessEnded(p.submit(ctx, &job{key: key, name: key.String(), version: version}))
}

// unlessEnded is no error where the partition ended: whoever has it next compares.
func (p *partition) unlessEnded(err error) error {
	if p.passEnded() {
		return nil
	}
	return err
}

func (p *partition) passEnded() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ctx.Err() != nil
}

// sayListing logs that the bucket is listed.
func (a *Archiver) sayListing() {
	v := a.Settings.Load()
	a.Logger.LogAttrs(context.Background(), slog.LevelDebug, logging.ListingBucket, append(logging.Bucket(v.Bucket, a.folder()), logging.LastUpdate(v))...)
}
