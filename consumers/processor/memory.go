package processor

import (
	"context"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// Names of what is kept per partition beside the memory of keys. All of it is
// kept under the ID of the desired topic: when that is recreated, everything is
// gone and changes is read from its start.
const (
	metaInput    = "input"    // topic ID of changes: whose offsets the position counts
	metaKnown    = "known"    // desired is known up to this offset
	metaConfig   = "config"   // the configuration in force
	metaRun      = "run"      // the run over the whole of changes
	metaHeld     = "held"     // how many keys are held
	metaConflict = "conflict" // a key that several entries take
	metaDeferred = "deferred" // control records that wait for the end of the stretch
)

// noOffset is the offset of an entry that was learned from desired: which
// record of changes it was computed from is not known.
const noOffset = -1

// chunk is how many records are committed together at most.
const chunk = 500

// batch is a set of changes to the memory together with the records to append;
// commit makes them one.
type batch struct {
	change *state.Change
	// fresh are the entries changed in this batch.
	fresh map[string]state.Entry
	// records to append, in order.
	records []*topology.Record
	held    int64
}

func (w *partition) batch() *batch {
	return &batch{change: w.State.Change(w.id), fresh: map[string]state.Entry{}, held: w.held}
}

// get returns what desired holds of a key as far as is known.
func (w *partition) get(b *batch, key string) (state.Entry, bool, error) {
	if e, ok := b.fresh[key]; ok {
		return e, true, nil
	}
	e, ok, err := w.State.Get(w.id, key)
	if err != nil {
		return e, ok, fmt.Errorf("reading the state of %s: %w", key, err)
	}
	return e, ok, nil
}

// put remembers a key; old is what get returned for it.
func (w *partition) put(b *batch, key string, old, e state.Entry) {
	if old.Held != e.Held {
		if e.Held {
			b.held++
		} else {
			b.held--
		}
	}
	if w.heldBack(&old) != w.heldBack(&e) {
		w.recount = true
	}
	b.fresh[key] = e
	b.change.Put(key, e)
}

// catchUp brings the memory up to the end of desired: what this or another
// incarnation appended and did not live to commit, and what a zombie did.
func (w *partition) catchUp(ctx context.Context, end int64) error {
	b := w.batch()
	err := w.Log.Read(ctx, w.Topics.Desired, w.number, w.known, end, func(rec *kgo.Record) error {
		if err := w.learn(b, rec, nil); err != nil {
			return err
		}
		if len(b.fresh) < chunk {
			return nil
		}
		w.known = rec.Offset + 1
		err := w.commit(ctx, b, nil)
		b = w.batch()
		return err
	})
	if err != nil {
		return fmt.Errorf("reading what desired holds: %w", err)
	}
	w.known = max(w.known, end)
	return w.commit(ctx, b, nil)
}

// learn takes a record of desired that this partition's life did not append
// into the memory. own are the offsets at which this batch appended a key: a
// record before ours changes nothing.
//
// Guarantee 4: the last record of a key must be its newest. A record older than
// what we know of its key was appended by an incarnation that had lost the
// partition; the key is doubted, and ours is appended again behind it.
func (w *partition) learn(b *batch, rec *kgo.Record, own map[string]int64) error {
	r, err := topology.Decode(rec)
	if err != nil {
		w.undecodable(err)
		return nil
	}
	if offset, ok := own[r.Key]; ok && offset > r.Offset {
		return nil
	}
	old, known, err := w.get(b, r.Key)
	if err != nil {
		return err
	}
	if r.Kind != topology.Object {
		return w.learnControl(b, &r, old, known)
	}
	if known && r.Version.Older(old.Version) {
		w.doubts[r.Key] = r.Offset
		return nil
	}
	delete(w.doubts, r.Key)
	e := state.Entry{Version: r.Version, UID: r.UID, Hash: r.Hash, Offset: noOffset, Mark: old.Mark, Withheld: old.Withheld}
	switch {
	case r.Op == topology.Hold:
		e.Held, e.Hash = true, heldHash(r.Reason)
	case r.Op == topology.Delete || r.Body == nil:
		e.Deleted, e.Hash = true, ""
	}
	if known && sameOutput(old, e) && old.Version == e.Version {
		return nil // ours, or equal to it: keep where it was computed from
	}
	w.put(b, r.Key, old, e)
	return nil
}

func sameOutput(a, b state.Entry) bool {
	return a.Deleted == b.Deleted && a.Held == b.Held && a.Hash == b.Hash
}

// lookBehind checks that desired ends where we believe it does, and takes in
// what others appended.
func (w *partition) lookBehind(ctx context.Context) error {
	out, err := w.Log.Bounds(ctx, w.Topics.Desired, w.number)
	if err != nil {
		return fmt.Errorf("looking at the end of desired: %w", err)
	}
	if out.TopicID != w.id.TopicID || out.End < w.known {
		return fmt.Errorf("desired: %w", errRecreated)
	}
	if out.End > w.known {
		if err := w.catchUp(ctx, out.End); err != nil {
			return err
		}
	}
	return w.repair(ctx)
}

// repair appends again what is right for the keys behind whose record an older
// one landed.
func (w *partition) repair(ctx context.Context) error {
	if len(w.doubts) == 0 || w.rules == nil {
		return nil
	}
	b := w.batch()
	missing := map[string]*topology.Record{}
	for key := range w.doubts {
		e, _, err := w.get(b, key)
		if err != nil {
			return err
		}
		if e.Deleted {
			b.records = append(b.records, &topology.Record{Key: key, Kind: topology.Object, Op: topology.Delete, Version: e.Version, UID: e.UID, Repair: true})
			continue
		}
		rec, err := w.source(ctx, key, e.Offset)
		if err != nil {
			return err
		}
		if rec == nil {
			missing[key] = nil
		} else if err := w.recompute(b, rec); err != nil {
			return err
		}
	}
	if err := w.findLast(ctx, missing); err != nil {
		return err
	}
	for key, rec := range missing {
		before := len(b.records)
		if rec != nil {
			if err := w.recompute(b, rec); err != nil {
				return err
			}
		}
		if len(b.records) == before {
			// Whatever ours was computed from is still to be read, or was replaced by
			// something that is; what was read of the key is older. Until then desired
			// is not what the memory says.
			if err := w.distrust(b, key); err != nil {
				return err
			}
		}
	}
	w.Logger.Warn("older records of another incarnation landed behind ours: appended ours again", "partition", w.number, "keys", len(w.doubts))
	w.count(func(c *Counts) { c.Repaired += int64(len(w.doubts)) })
	clear(w.doubts)
	return w.commit(ctx, b, nil)
}

// distrusted is the hash of what desired holds where that is not ours.
const distrusted = "distrusted"

// distrust makes the next record of a key be appended whatever it computes.
func (w *partition) distrust(b *batch, key string) error {
	e, _, err := w.get(b, key)
	if err != nil {
		return err
	}
	old := e
	e.Hash, e.Held, e.Offset = distrusted, false, noOffset
	w.put(b, key, old, e)
	return nil
}

// source returns the record of changes at an offset, if it is still there.
func (w *partition) source(ctx context.Context, key string, offset int64) (*topology.Record, error) {
	if offset < 0 {
		return nil, nil
	}
	rec, ok, err := w.Log.At(ctx, w.Topics.Changes, w.number, offset, key)
	if err != nil {
		return nil, fmt.Errorf("reading %s again: %w", key, err)
	}
	if !ok {
		return nil, nil
	}
	r, err := topology.Decode(rec)
	if err != nil {
		return nil, nil //nolint:nilerr // counted when it was first read; here it is as good as gone
	}
	return &r, nil
}

// findLast finds the last record before the position of each of the keys.
func (w *partition) findLast(ctx context.Context, keys map[string]*topology.Record) error {
	if len(keys) == 0 {
		return nil
	}
	in, err := w.Log.Bounds(ctx, w.Topics.Changes, w.number)
	if err != nil {
		return fmt.Errorf("looking for changes again: %w", err)
	}
	err = w.Log.Read(ctx, w.Topics.Changes, w.number, in.Start, min(in.End, w.next), func(rec *kgo.Record) error {
		if _, ok := keys[string(rec.Key)]; !ok {
			return nil
		}
		if r, err := topology.Decode(rec); err == nil {
			keys[r.Key] = &r
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("looking for changes again: %w", err)
	}
	return nil
}

// recompute appends what is right for a key again, whatever the memory says.
func (w *partition) recompute(b *batch, rec *topology.Record) error {
	before := len(b.records)
	if err := w.object(b, rec, true); err != nil {
		return err
	}
	for _, r := range b.records[before:] {
		r.Repair = true
	}
	return nil
}

// load reads what is kept beside the keys.
func (w *partition) load() error {
	number := func(name string) (int64, error) {
		v, ok, err := w.State.Meta(w.id, name)
		if err != nil || !ok {
			return 0, err
		}
		return strconv.ParseInt(string(v), 10, 64)
	}
	var err error
	if w.known, err = number(metaKnown); err != nil {
		return fmt.Errorf("reading the state: %w", err)
	}
	if w.held, err = number(metaHeld); err != nil {
		return fmt.Errorf("reading the state: %w", err)
	}
	if err := w.loadJSON(metaRun, &w.fullRun); err != nil {
		return err
	}
	if err := w.loadJSON(metaDeferred, &w.deferred); err != nil {
		return err
	}
	if err := w.loadBaseline(); err != nil {
		return err
	}
	w.recount = w.fullRun.Holding
	if err := w.loadWithheld(); err != nil {
		return err
	}
	conflict, _, err := w.State.Meta(w.id, metaConflict)
	if err != nil {
		return fmt.Errorf("reading the state: %w", err)
	}
	w.note(func(s *status) { s.held, s.conflict = w.held, string(conflict) })
	return nil
}

func (w *partition) undecodable(err error) {
	w.count(func(c *Counts) { c.Undecodable++ })
	w.Logger.Error("a record cannot be read and is passed over", logging.Err(err))
}
