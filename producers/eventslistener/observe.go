package eventslistener

import (
	"context"
	"log/slog"
	"math/big"
	"time"

	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// cause is why an object is looked at.
type cause struct {
	// observed is when the listener learned of it.
	observed time.Time
	// requested and repair append even what the log already holds.
	requested, repair bool
	// inferred marks a delete concluded from absence; reason says from what.
	inferred bool
	reason   string
	// paced waits for consumers before it appends (listings).
	paced bool
	// listing and life, of an item of a complete consistent listing.
	listing *listing
	life    *life
}

func (c cause) forced() bool { return c.requested || c.repair }

// outcome of looking at an object.
type outcome int

const (
	unchanged outcome = iota
	appended
	stale
	skipped
	refused
)

// observe appends a state of an object if the log does not hold it or a newer
// one. It is the only way an object gets into changes.
func (t *term) observe(ctx context.Context, o *object, c cause) (outcome, error) {
	var s stamp
	if o.key.Namespace != "" && !o.deleted {
		var err error
		if s, err = t.stamps.of(ctx, o.key.Namespace); err != nil {
			return stale, err
		}
	}
	key := o.key.String()
	p := t.m.partOf(key)
	cur, known, revision, err := p.look(key)
	if err != nil {
		return stale, err
	}
	if c.listing != nil && known && contradicts(o, c.listing.rv, cur.Version, cur.UID, cur.Deleted, t.epoch.Load()) {
		if err := t.suspectObject(ctx, c.life, o, cur.Version); err != nil {
			return stale, err
		}
	}
	if c.paced && t.decide(o, s, c, cur, known) == appended {
		// Not under the lock: live events of the partition must not wait with us.
		if err := t.pace.wait(ctx); err != nil {
			return stale, err
		}
	}
	p.order.Lock()
	defer p.order.Unlock()
	if p.changedSince(revision) {
		if cur, known, err = p.lookup(key); err != nil {
			return stale, err
		}
	}
	what := t.decide(o, s, c, cur, known)
	if what != appended {
		if what == stale {
			t.l.counts.stale.Add(1)
		} else {
			t.oversize.drop(key)
		}
		return what, nil
	}
	recreated := known && !cur.Deleted && !o.deleted && cur.UID != "" && o.uid != "" && cur.UID != o.uid
	rec := t.record(o, s, c, key, cur, known && !recreated)
	if t.refused(ctx, o, key, rec) {
		return refused, nil
	}
	t.oversize.drop(key)
	if recreated {
		if err := p.append(ctx, t.farewell(o, key, cur, c)); err != nil {
			return stale, err
		}
	}
	t.say(ctx, o, rec.Op, cur, known && !recreated, c)
	if err := p.append(ctx, rec); err != nil {
		return stale, err
	}
	t.m.count(key, known && !cur.Deleted, !o.deleted)
	return appended, nil
}

// version of a state. A delete needs no stamp: the resourceVersion of a delete
// is above that of every state before it.
func (t *term) version(o *object, s stamp, cur state.Entry) topology.Version {
	v := topology.Version{Epoch: t.epoch.Load(), RV: o.rv, NamespaceRV: s.rv}
	if o.deleted {
		v.NamespaceRV = cur.Version.NamespaceRV
	}
	return v
}

// decide compares a state with what the log holds of its key.
func (t *term) decide(o *object, s stamp, c cause, cur state.Entry, known bool) outcome {
	if !known {
		switch {
		case c.requested:
			// Somebody holds it, though the log does not know it.
			return appended
		case o.deleted, t.rules.Load().Skipped(o.key):
			return skipped
		}
		return appended
	}
	v := t.version(o, s, cur)
	if _, ok := v.Compare(cur.Version); !ok {
		t.l.counts.opaque.Add(1) // the order of the log decides
	}
	// Guarantee 3: the log of a key never goes back.
	if v.Older(cur.Version) {
		return stale
	}
	if c.forced() {
		return appended
	}
	switch {
	case o.deleted && cur.Deleted:
		return unchanged
	case !o.deleted && !cur.Deleted && cur.UID == o.uid && cur.Hash == o.hash(s):
		return unchanged
	}
	return appended
}

func (t *term) record(o *object, s stamp, c cause, key string, cur state.Entry, known bool) *topology.Record {
	rec := &topology.Record{
		Key: key, Kind: topology.Object, Op: topology.Update, Version: t.version(o, s, cur), UID: o.uid,
		ObservedAt: c.observed, Requested: c.requested, Repair: c.repair, Inferred: c.inferred, Reason: c.reason,
	}
	switch {
	case o.deleted:
		rec.Op = topology.Delete
		return rec
	case !known || cur.Deleted:
		rec.Op = topology.Create
	}
	rec.Body, rec.Hash, rec.Managers = o.body, o.hash(s), o.managers()
	if o.key.Namespace != "" {
		rec.NamespaceLabels, rec.NamespaceAnnotations = s.labels, s.annotations
	}
	return rec
}

// farewell is the delete of an object whose successor of the same name was seen
// first: the delete precedes the create. Its version is just below the
// successor's, which is at or above that of the real delete and above every
// state of the object that is gone, so the order of the key stays right. Where
// resourceVersions cannot be counted, the order of the log tells.
func (t *term) farewell(o *object, key string, cur state.Entry, c cause) *topology.Record {
	v := topology.Version{Epoch: t.epoch.Load(), RV: precedingRV(o.rv), NamespaceRV: cur.Version.NamespaceRV}
	return &topology.Record{
		Key: key, Kind: topology.Object, Op: topology.Delete, Version: v, UID: cur.UID, ObservedAt: c.observed,
		Inferred: true, Reason: "the source holds another object of this name, with uid " + o.uid,
	}
}

// precedingRV is the resourceVersion before rv, or rv where it is no number.
func precedingRV(rv string) string {
	n, ok := new(big.Int).SetString(rv, 10)
	if !ok || n.Sign() <= 0 {
		return rv
	}
	return n.Sub(n, big.NewInt(1)).String()
}

// say logs what is about to be appended.
func (t *term) say(ctx context.Context, o *object, op topology.Op, cur state.Entry, known bool, c cause) {
	if !t.log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	s := t.settings()
	attrs := []slog.Attr{logging.SourceCluster(s.Source), logging.SourceObject(o.key, o.uid, o.rv), logging.Event(op), logging.LastUpdate(s)}
	if op == topology.Update && known {
		attrs = append(attrs, logging.OldSourceObject(o.key, cur.UID, cur.Version.RV))
	}
	if c.reason != "" {
		attrs = append(attrs, slog.String("reason", c.reason))
	}
	msg := logging.ObjectRead
	if c.inferred {
		msg = logging.ObjectNotFound
	}
	t.log.LogAttrs(ctx, slog.LevelInfo, msg, attrs...)
}
