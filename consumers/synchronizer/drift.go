package synchronizer

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/owned"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// drift compares the destination with what was applied: at the start, once a
// resync period, and on demand. It lists metadata only, compares it with memory,
// and looks closer at what differs; what is equal costs no write. What is equal
// is told by the content hash an object carries (a destination restored from a
// backup has an older one) and by the fields that are ours in managedFields (the
// server takes out what anybody else changed).
type drift struct {
	s       *Synchronizer
	trigger chan struct{}
	last    atomic.Int64 // unix nanoseconds of the last complete comparison's end
	newest  atomic.Pointer[comparisonEnd]
	passes  atomic.Int64
	said    logging.State
}

// driftGather is how long a comparison waits for others to ask for it too.
const driftGather = 300 * time.Millisecond

func newDrift(s *Synchronizer) *drift { return &drift{s: s, trigger: make(chan struct{}, 1)} }

func (d *drift) now() {
	select {
	case d.trigger <- struct{}{}:
	default:
	}
}

func (d *drift) run(ctx context.Context) error {
	lastEnd := time.Now()
	for {
		v, changed := d.s.Settings.Get()
		var due <-chan time.Time
		if v.ResyncPeriod > 0 {
			due = time.After(time.Until(lastEnd.Add(v.ResyncPeriod)))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			continue // a new period reschedules at once
		case <-due:
		case <-d.trigger:
			time.Sleep(driftGather)
		}
		// Nothing is repaired while nothing may be written.
		if _, err := d.s.gate.wait(ctx, func() bool { return true }); err != nil {
			return nil
		}
		began := time.Now()
		differences, err := d.pass(ctx)
		lastEnd = time.Now()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			d.said.Failing(d.s.Logger, "resync", logging.ErrListingObjects, logging.DestinationCluster(v.Destination), logging.Err(err))
			time.AfterFunc(10*time.Second, d.now)
			continue
		}
		d.said.Working(d.s.Logger, "comparing the destination works again")
		d.newest.Store(&comparisonEnd{began, differences})
		d.last.Store(lastEnd.UnixNano())
	}
}

// pass is one comparison of the partitions that have caught up.
func (d *drift) pass(ctx context.Context) (differences int, err error) {
	parts := map[int32]*partition{}
	owners := map[topology.Owner][]*partition{}
	for _, p := range d.s.partitions() {
		p.mu.Lock()
		ready := p.caughtUp
		p.mu.Unlock()
		if ready && p.owned.Load() != nil {
			parts[p.id.Number] = p
			owners[p.owner()] = append(owners[p.owner()], p)
		}
	}
	n, err := d.s.partitionCount(ctx)
	if err != nil {
		return 0, err
	}
	for owner, ps := range owners {
		c := comparison{d: d, parts: parts, n: n, seen: map[uint64]struct{}{}, found: map[*partition]*findings{}}
		for _, p := range ps {
			c.found[p] = &findings{repair: map[int64]string{}}
		}
		if err := d.s.eachOwned(ctx, owner, d.s.covered(ps), c.object, func(r kube.Resource) error { return c.listed(ctx, r) }); err != nil {
			return 0, err
		}
		for p, f := range c.found {
			if err := p.settle(ctx, f); err != nil {
				return 0, err
			}
			differences += len(f.repair) + len(f.redelete) + len(f.unknown)
		}
	}
	d.passes.Add(1)
	return differences, nil
}

// comparisonEnd is what the last complete comparison has to say.
type comparisonEnd struct {
	began       time.Time
	differences int
}

// findings of a partition.
type findings struct {
	repair   map[int64]string // offset of the record → key
	redelete []want
	unknown  []string
}

// comparison is one pass over the objects of one owner.
type comparison struct {
	d     *drift
	parts map[int32]*partition
	n     int32
	seen  map[uint64]struct{} // hashes of the keys listed of the current resource
	found map[*partition]*findings
}

func (c *comparison) object(o ownedObject) error {
	p := c.parts[topology.PartitionOf(o.keyText, c.n)]
	if p == nil || c.found[p] == nil {
		return nil
	}
	c.seen[xxhash.Sum64String(o.keyText)] = struct{}{}
	return p.compare(o, c.found[p])
}

// listed looks for what should have been in a complete listing.
func (c *comparison) listed(ctx context.Context, r kube.Resource) error {
	defer clear(c.seen)
	for p, f := range c.found {
		var missing, theirs []string
		err := p.s.State.Each(p.id, topology.ResourcePrefix(r.GroupVersionResource), func(key string, e state.Entry) error {
			if _, ok := c.seen[xxhash.Sum64String(key)]; ok || e.Deleted {
				return nil
			}
			if has(e, markForeign) {
				theirs = append(theirs, key)
			} else {
				missing = append(missing, key)
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, key := range missing {
			if err := p.doubt(key, f); err != nil {
				return err
			}
		}
		for _, key := range theirs {
			if err := p.compareForeign(ctx, r, key, f); err != nil {
				return err
			}
		}
	}
	return nil
}

// compare compares one object of ours with what is remembered of it.
func (p *partition) compare(o ownedObject, f *findings) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, busy := p.lanes[o.keyText]; busy {
		return nil
	}
	e, known, err := p.memory.get(o.keyText)
	if err != nil {
		return err
	}
	m := &o.meta
	q, failing := p.memory.quarantined[o.keyText]
	switch {
	case !known && failing:
		return nil // its own retry deals with it
	case !known, has(e, markUnverified):
		// Absence in desired is evidence only behind a complete listing.
		complete, err := p.complete(o.keyText)
		if complete {
			f.unknown = append(f.unknown, o.keyText)
		}
		return err
	case e.Deleted:
		if !has(e, markOrphaned) && !failing {
			if key, err := topology.ParseKey(o.keyText); err == nil {
				f.redelete = append(f.redelete, want{
					key: key, keyText: o.keyText, op: topology.Delete, version: e.Version, uid: e.UID, offset: e.Offset, observed: time.Now(),
				})
			}
		}
		return nil
	}
	fields := owned.FieldsHash(m)
	same := m.UID == e.DestinationUID && m.Annotations[topology.HashAnnotation] == e.Hash && fields == e.FieldsHash && fields != "" &&
		m.DeletionTimestamp == nil && m.Annotations[topology.RecoveredAnnotation] == ""
	switch {
	case !same && !failing:
		p.findDrift(o.keyText, e, f)
	case same && m.ResourceVersion != e.DestinationRV:
		e.DestinationRV = m.ResourceVersion // so that the next update need not look
		c := &change{entry: &e, release: failing && q.Reason == ReasonOverridden}
		if failing && !c.release {
			c.quarantine = &q
		}
		p.memory.put(o.keyText, c)
	case same && failing && q.Reason == ReasonOverridden:
		p.memory.put(o.keyText, &change{release: true})
	}
	return nil
}

// findDrift notes that an object is not as its entry says. p.mu is held.
func (p *partition) findDrift(key string, e state.Entry, f *findings) {
	if e.Offset < 0 {
		f.unknown = append(f.unknown, key) // no record at hand: the source is asked
		return
	}
	f.repair[e.Offset] = key
}

// doubt notes an object that is remembered as applied and was not listed.
func (p *partition) doubt(key string, f *findings) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, busy := p.lanes[key]
	_, failing := p.memory.quarantined[key]
	e, known, err := p.memory.get(key)
	if err == nil && known && !e.Deleted && !busy && !failing {
		p.findDrift(key, e, f)
	}
	return err
}

// compareForeign looks whether a foreign object is still what it was found to be.
func (p *partition) compareForeign(ctx context.Context, r kube.Resource, keyText string, f *findings) error {
	key, err := topology.ParseKey(keyText)
	if err != nil {
		return nil
	}
	object, err := p.s.kube.Metadata().Get(ctx, r, key)
	var m kube.Meta
	if err == nil {
		m, err = kube.MetaOf(object)
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	e, known, err := p.memory.get(keyText)
	_, failing := p.memory.quarantined[keyText]
	if err == nil && known && has(e, markForeign) && !failing && (m.UID != e.DestinationUID || m.ResourceVersion != e.DestinationRV) {
		p.findDrift(keyText, e, f)
	}
	return err
}

// settle has what was found dealt with.
func (p *partition) settle(ctx context.Context, f *findings) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	defer context.AfterFunc(ctx, func() { p.mu.Lock(); p.room.Broadcast(); p.mu.Unlock() })()
	for _, w := range f.redelete {
		if err := p.submit(ctx, &job{want: w, redelete: true}); err != nil {
			return ignoreEnd(p.ctx, err)
		}
	}
	if len(f.repair) > 0 {
		p.log.Info("the destination differs from what was applied", "objects", len(f.repair))
		err := p.replay(ctx, f.repair, func(w want) *job {
			w.verify = true
			return &job{want: w, drifted: true}
		})
		if err != nil {
			return ignoreEnd(p.ctx, err)
		}
	}
	for _, key := range f.unknown {
		p.request(ctx, key, "unknown at destination")
	}
	return nil
}

// ignoreEnd is no error where the partition ended.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// request asks the eventslistener to look at a key in the source.
func (p *partition) request(ctx context.Context, key, reason string) {
	rec := topology.Record{
		Key: key, Kind: topology.Object, Op: topology.Update, Reason: reason, Writer: p.s.Incarnation, ObservedAt: time.Now().UTC(),
	}
	p.s.writer.Append(ctx, rec.Encode(p.s.Topics.Requests, 0), appended(func(err error) {
		if err != nil && ctx.Err() == nil {
			p.log.Warn("asking about an object failed", "key", key, logging.Err(err))
		}
	}))
}
