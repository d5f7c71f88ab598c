package processor

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// outcome is what became of a record of changes.
type outcome int

const (
	appended  outcome = iota // something is to be appended to desired
	unchanged                // desired holds the same already
	stale                    // something newer was computed for the key
)

// computed is the effect of one record: the new memory of its key, and what is
// to be appended, if anything.
type computed struct {
	outcome outcome
	// excluded: the object exists and is left out, and what desired holds of it was
	// computed with an older configuration, or somebody downstream holds it and
	// desired does not.
	excluded     bool
	entry        state.Entry
	record       *topology.Record
	conflict     bool
	incomparable bool
}

// compute turns an object's record into its desired record. It is a pure
// function of the record, the configuration and the memory of the key. force
// appends the output even where desired should hold it.
func compute(rules *topology.Rules, r *topology.Record, old state.Entry, known, force bool) computed {
	config := rules.Config()
	version := r.Version
	version.Generation = config.Generation
	var c computed
	if known {
		order, comparable := version.Compare(old.Version)
		// Guarantee 3: what was computed for a key never goes down. What cannot
		// be compared follows the order of the log.
		if comparable && order < 0 {
			c.outcome = stale
			return c
		}
		c.incomparable = !comparable
	}
	verdict := rules.Apply(r)
	if verdict.Err == nil && verdict.InScope {
		verdict.Err = tooLarge(r, verdict.Body)
	}
	c.conflict = verdict.Conflict
	c.entry = state.Entry{Version: version, UID: r.UID, Offset: r.Offset, Withheld: verdict.HeldBack && verdict.Err == nil}
	out := &topology.Record{
		Key: r.Key, Kind: topology.Object, Version: version, UID: r.UID, ObservedAt: r.ObservedAt,
		Requested: r.Requested, Entry: verdict.Entry,
	}
	live := known && !old.Deleted
	// A request is answered once, however often its record is read again.
	asked := r.Requested && !(known && old.Offset == r.Offset)
	switch {
	case verdict.Err != nil:
		// The destination keeps what it has; the record must not be a tombstone,
		// or the log would forget that the object is held.
		out.Op, out.Reason, out.Body = topology.Hold, verdict.Err.Error(), []byte("{}")
		c.entry.Held, c.entry.Hash = true, heldHash(out.Reason)
	case verdict.InScope:
		out.Op, out.Hash, out.Body = topology.Update, verdict.Hash, verdict.Body
		if !live {
			out.Op = topology.Create
		}
		if config.Replication.ForceNamespaceCreation {
			out.NamespaceLabels, out.NamespaceAnnotations = r.NamespaceLabels, r.NamespaceAnnotations
		}
		c.entry.Hash = verdict.Hash
	default:
		out.Op, out.Inferred = topology.Delete, r.Inferred
		out.Reason = r.Reason
		if verdict.Skip != "" {
			out.Reason = verdict.Skip
		} else if r.Body != nil && r.Op != topology.Delete && uncovered(rules, r.Key) {
			out.Reason = topology.ReasonUncovered
		}
		c.entry.Deleted = true
		exists := r.Body != nil && r.Op != topology.Delete
		c.excluded = exists && (live && old.Version.Generation < config.Generation || !live && asked)
	}
	// A key desired never knew needs no tombstone, unless somebody asked.
	same := known && sameOutput(old, c.entry) || !known && c.entry.Deleted
	if same && !asked && !force {
		c.outcome = unchanged
		return c
	}
	c.record = out
	return c
}

// tooLarge refuses what a patch has made larger than desired takes: the append
// would fail each time, and no other object of the partition would get past it
// (guarantee 5).
func tooLarge(r *topology.Record, body []byte) error {
	const limit = stream.MaxRecordBytes
	if len(body) < limit/4 {
		return nil // Kubernetes limits what headers carry of a namespace to less than the rest
	}
	stamp, _ := json.Marshal([2]map[string]string{r.NamespaceLabels, r.NamespaceAnnotations}) // maps of strings always marshal
	const others = 4 << 10                                                                    // all other headers
	if size := len(r.Key) + len(body) + len(stamp) + others; size > limit {
		return fmt.Errorf("patched object of %d bytes is larger than the %d that the log takes", size, limit)
	}
	return nil
}

func uncovered(rules *topology.Rules, name string) bool {
	key, err := topology.ParseKey(name)
	return err == nil && !rules.Covers(key)
}

// heldHash makes holds with the same reason equal output.
func heldHash(reason string) string {
	sum := sha256.Sum256([]byte(reason))
	return "hold:" + hex.EncodeToString(sum[:16])
}

// object computes an object's record into a batch.
func (w *partition) object(b *batch, r *topology.Record, force bool) error {
	old, known, err := w.get(b, r.Key)
	if err != nil {
		return err
	}
	c := compute(w.rules, r, old, known, force)
	w.count(func(n *Counts) {
		n.Processed++
		if c.incomparable {
			n.Incomparable++
		}
		switch c.outcome {
		case stale:
			n.Stale++
		case unchanged:
			n.Unchanged++
		}
	})
	if c.outcome == stale {
		return nil
	}
	if c.excluded && w.leftOut(r, &old) {
		return w.holdBack(b, r, old, c.entry.Withheld, force || old.Hash == distrusted)
	}
	if c.conflict {
		w.conflict(b, r.Key)
	}
	w.sayHeld(r, old, c)
	w.sayWithheld(r, old, c)
	c.entry.Mark = w.fullRun.ID
	// The newest version is remembered even where nothing is appended: it is
	// what a zombie's record is compared with.
	w.put(b, r.Key, old, c.entry)
	if c.record != nil {
		c.record.Repair = old.Hash == distrusted
		b.records = append(b.records, c.record)
	}
	return nil
}

// sayHeld logs the changes of whether a key can be computed, once each.
func (w *partition) sayHeld(r *topology.Record, old state.Entry, c computed) {
	if old.Held == c.entry.Held && old.Hash == c.entry.Hash || !old.Held && !c.entry.Held {
		return
	}
	key, err := topology.ParseKey(r.Key)
	if err != nil {
		return
	}
	object := logging.SourceObject(key, r.UID, r.Version.RV)
	switch {
	case c.entry.Held:
		w.Logger.Error("object cannot be computed and is left as it is at the destination", object, "error", c.record.Reason)
	case c.entry.Deleted:
		w.Logger.Info("object that could not be computed has left the selection", object)
	default:
		w.Logger.Info("object can be computed again", object)
	}
}

// conflict notes a key that several entries take.
func (w *partition) conflict(b *batch, key string) {
	if w.status().conflict != "" {
		return
	}
	w.note(func(s *status) { s.conflict = key })
	b.change.SetMeta(metaConflict, []byte(key))
	w.Logger.Warn("several resource entries take one object; the first of them is used", "key", key)
}
