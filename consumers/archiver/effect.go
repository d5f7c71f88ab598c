package archiver

import (
	"context"
	"errors"
	"log/slog"

	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/state/bucket"
	"github.com/afterimage-dr/afterimage/topology"
)

// attempt is one job with what is remembered of its key.
type attempt struct {
	*partition
	j     *job
	rules *topology.Rules
	path  string
	e     state.Entry
	known bool
	q     *state.Quarantine
}

// do does a job and says what is to be remembered of its key.
func (p *partition) do(j *job) result {
	a := attempt{partition: p, j: j, rules: p.rules.Load(), path: bucket.Path(p.a.namespace, p.a.name, j.key)}
	p.mu.Lock()
	var err error
	a.e, a.known, err = p.memory.get(j.name)
	if q, ok := p.memory.quarantined[j.name]; ok {
		a.q = &q
	}
	p.mu.Unlock()
	if err != nil {
		p.fail(err)
		return result{lost: true}
	}
	if j.record == nil {
		return a.conclude()
	}
	return a.follow()
}

// live tells whether the bucket should hold the key, as far as is known.
func (a *attempt) live() bool { return a.known && !a.e.Deleted }

// follow does what a record of changes asks for.
func (a *attempt) follow() result {
	r, generation := a.j.record, a.rules.Config().Generation
	// Guarantee 3: what is done for a key never goes down. What cannot be compared
	// follows the order of the log.
	order, comparable := r.Version.Compare(versionOf(a.e))
	if a.known && comparable && order < 0 {
		a.a.count(func(c *Counts) { c.Stale++ })
		return result{}
	}
	gone := r.Body == nil || r.Op == topology.Delete
	switch {
	case !gone && a.rules.InScope(r):
		return a.store(a.known && comparable && order == 0, generation)
	case gone:
		return a.gone()
	case a.live() && a.e.Version.Generation < generation:
		// It is the configuration that leaves it out: the comparison judges that.
		e := a.e
		if !comparable || order != 0 {
			e.Hash, e.DestinationRV = "", "" // the bucket holds another version than this one
		}
		e.Version, e.UID, e.Mark = r.Version, r.UID, string(markLeftOut)
		e.Version.Generation = a.e.Version.Generation
		return result{entry: &e, release: true}
	case a.live():
		// Its labels or its namespace's changed: the user's act.
		return a.remove(a.entry(markExcluded))
	default:
		e := a.entry(markExcluded)
		return result{entry: &e, release: true}
	}
}

// gone follows a tombstone.
func (a *attempt) gone() result {
	e := a.entry(markGone)
	if !a.j.verify && (a.known && a.e.Deleted || !a.known && a.j.folded) {
		// Not there as far as is known, or not known at all: the comparison that
		// follows the stretch looks, and spares a request for each.
		return result{entry: &e, release: true}
	}
	return a.remove(e)
}

// conclude removes what a comparison found to be there and not to be wanted,
// unless the key has come to life since. What cannot be removed is found again by
// the next comparison.
func (a *attempt) conclude() result {
	if a.live() && !has(a.e, markLeftOut) || a.q != nil {
		return result{}
	}
	e := a.e
	if a.live() {
		e.Mark = string(markExcluded)
	}
	e.Deleted, e.Hash, e.DestinationRV = true, "", ""
	r := a.remove(e)
	if r.quarantine != nil || !a.known {
		return result{lost: r.lost} // nothing in the log stands for it
	}
	return r
}

// entry is what is to be remembered of the record's key when the bucket holds it
// no more.
func (a *attempt) entry(mark rune) state.Entry {
	return state.Entry{Version: a.j.record.Version, UID: a.j.record.UID, Offset: a.j.offset, Deleted: true, Mark: string(mark)}
}

// versionOf an entry, as changes orders it.
func versionOf(e state.Entry) topology.Version {
	e.Version.Generation = 0
	return e.Version
}

// store uploads the original, unless memory knows that it is there.
func (a *attempt) store(same bool, generation int64) result {
	r := a.j.record
	e := state.Entry{Version: r.Version, UID: r.UID, Offset: a.j.offset}
	e.Version.Generation = generation
	// Of what was left out the ETag may be that of an older version, as it was noted once.
	if same && a.live() && a.e.Hash != "" && !has(a.e, markLeftOut) && !a.j.verify {
		e.Hash, e.DestinationRV = a.e.Hash, a.e.DestinationRV
		a.a.count(func(c *Counts) { c.Unchanged++ })
		return result{entry: &e, release: true}
	}
	o, err := bucket.FromRecord(topology.OwnerOf(a.rules.Config()), r)
	if err != nil {
		return a.quarantine(logging.ErrUploadingObject, reasonUnusable, err)
	}
	content, err := o.Content()
	if err != nil {
		return a.quarantine(logging.ErrUploadingObject, reasonUnusable, err)
	}
	e.Hash = bucket.ETagOf(content)
	op := topology.Create
	if a.live() {
		op = topology.Update
	}
	absent, same, err := a.absent(e.Hash)
	if err != nil {
		return result{lost: true}
	}
	stored := false
	if !same {
		r, ok := a.perform("put", logging.ErrUploadingObject, func(ctx context.Context, b store) (err error) {
			a.say(slog.LevelDebug, logging.UploadingObject, op)
			if absent {
				stored, err = b.PutKnown(ctx, o, "") // one request and not two
			} else {
				stored, err = b.Put(ctx, o)
			}
			return err
		})
		if !ok {
			return r
		}
	}
	if stored {
		a.a.count(func(c *Counts) { c.Stored++ })
		a.say(slog.LevelInfo, logging.ObjectUploaded, op)
	} else {
		// Looked at and found to be right: this is how the bucket lists it, whatever
		// the server makes its ETags of.
		e.DestinationRV = a.j.listed
		a.a.count(func(c *Counts) { c.Unchanged++ })
	}
	return result{entry: &e, release: true}
}

// absent tells, while nothing is remembered of the partition, whether a listing
// shows nothing at the path, or the very content: then no request is needed.
// Later, what memory does not know is not there.
func (a *attempt) absent(etag string) (absent, same bool, err error) {
	if a.known || a.j.verify {
		return false, false, nil
	}
	index, err := a.look()
	if index == nil {
		return true, false, err
	}
	absent, same = index.look(a.path, etag)
	return absent, same, nil
}

// remove deletes the original and remembers e then.
func (a *attempt) remove(e state.Entry) result {
	version := versionOf(e)
	if a.j.record == nil && version.Older(a.j.version) {
		version = a.j.version
	}
	a.say(slog.LevelDebug, logging.DeletingFromBucket, topology.Delete)
	result, ok := a.perform("delete", logging.ErrDeletingFromBucket, func(ctx context.Context, b store) error {
		err := b.Delete(ctx, a.path, version)
		if errors.Is(err, bucket.ErrForeign) || errors.Is(err, bucket.ErrNotFound) {
			return nil // guarantee 9: somebody else's, left alone
		}
		return err
	})
	if !ok {
		if result.quarantine != nil && a.j.record != nil {
			// The tombstone may expire before it can be followed.
			going := e
			going.Deleted, going.Mark = false, string(markGoing)
			result.entry = &going
		}
		return result
	}
	a.a.count(func(c *Counts) { c.Removed++ })
	a.say(slog.LevelInfo, logging.DeletedFromBucket, topology.Delete)
	result.entry, result.release = &e, true
	return result
}

// perform does one operation on the bucket until it succeeds, fails for a reason
// of this object's own, or is given up. ok is false where it did not succeed.
func (a *attempt) perform(name, failure string, operation func(context.Context, store) error) (r result, ok bool) {
	for {
		b, ctx, cancel, err := a.a.health.enter(a.ctx, a.effects, a.assignment.Alive)
		if err != nil {
			return result{lost: true}, false
		}
		if err := a.a.step("before-" + name); err != nil {
			cancel()
			a.fail(err)
			return result{lost: true}, false
		}
		err = operation(ctx, b)
		cause := context.Cause(ctx)
		cancel()
		if err == nil {
			a.a.health.succeeded()
			if err := a.a.step("after-" + name); err != nil {
				a.fail(err)
				return result{lost: true}, false
			}
			return result{}, true
		}
		switch {
		case a.effects.Err() != nil:
			return result{lost: true}, false
		case errors.Is(cause, errStopped):
			continue // unknown whether it took effect: done again when resumed
		case !own(err) && a.a.health.whole(a.effects, err):
			continue
		}
		return a.quarantine(failure, bucket.Reason(err), err), false
	}
}

// own tells errors that are about the object alone, whatever the bucket's health.
func own(err error) bool {
	return errors.Is(err, bucket.ErrForeign) || errors.Is(err, bucket.ErrDamaged)
}

// asset is the bucket, for logs.
func (a *Archiver) asset() settings.Asset { return a.Settings.Load().Bucket }

// say writes a line about the key's original.
func (a *attempt) say(level slog.Level, msg string, op topology.Op, attrs ...slog.Attr) {
	logger := a.a.Logger
	if !logger.Enabled(context.Background(), level) {
		return
	}
	v := a.a.Settings.Load()
	uid, rv := a.e.UID, a.e.Version.RV
	if r := a.j.record; r != nil {
		uid, rv = r.UID, r.Version.RV
	}
	attrs = append(attrs, logging.Event(op), logging.SourceObject(a.j.key, uid, rv))
	if op == topology.Update {
		attrs = append(attrs, logging.OldSourceObject(a.j.key, a.e.UID, a.e.Version.RV))
	}
	attrs = append(append(attrs, logging.Bucket(v.Bucket, a.path)...), logging.LastUpdate(v))
	logger.LogAttrs(context.Background(), level, msg, attrs...)
}
