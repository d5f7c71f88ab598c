package synchronizer

import (
	"fmt"
	"strings"

	"github.com/afterimage-dr/afterimage/internal/owned"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// step is what a job takes next.
type step int

const (
	// stepDrop: stale, or already known; nothing changes.
	stepDrop step = iota
	// stepRemember: nothing to write, but the version is news.
	stepRemember
	// stepHold: the desired state is not known; the object stays as it is.
	stepHold
	// stepCreate posts the object.
	stepCreate
	// stepUpdate applies over the object as it was remembered or read.
	stepUpdate
	// stepLook reads the object first.
	stepLook
	// stepDelete deletes the object that was read.
	stepDelete
	// stepAdoptNewer remembers the newer state found at the destination.
	stepAdoptNewer
	// stepForeign remembers that a foreign object is as desired.
	stepForeign
	// stepGone remembers that the object is not there, as desired.
	stepGone
	// stepKeep forgets an object that is not ours to delete.
	stepKeep
	// stepOrphan forgets an object that the deletion policy leaves alone.
	stepOrphan
	// stepFail puts the key into quarantine.
	stepFail
)

// plan is the first step for a record, from memory alone.
//
// Guarantee 3: what is older than what was applied, or than what waits in
// quarantine, is dropped; equal is not stale.
func plan(j *job, e state.Entry, known bool, q *state.Quarantine) step {
	w := &j.want
	if j.retry && (q == nil || q.Offset != w.offset) {
		return stepDrop // replaced by a newer record, or solved by it
	}
	if known && w.version.Older(e.Version) || q != nil && w.version.Older(q.Version) {
		return stepDrop
	}
	if q != nil && j.tracked && q.Offset == w.offset && q.Version == w.version && !w.verify {
		return stepDrop // already in quarantine: its own retry has the floor
	}
	switch {
	case w.op == topology.Hold:
		return stepHold
	case w.op == topology.Delete:
		if known && e.Deleted && !w.verify && !j.redelete {
			return stepRemember
		}
		return stepLook
	case !known || e.Deleted:
		if w.verify {
			return stepLook
		}
		return stepCreate
	case w.verify || has(e, markUnverified):
		return stepLook
	case e.Hash == w.hash:
		if sameSource(e.Version, w.version) || has(e, markForeign) {
			return stepRemember
		}
		// Others lay between the two versions, which a zombie may still hold: only
		// the version on the object refuses them (guarantee 3).
		return stepUpdate
	case has(e, markForeign) || e.DestinationUID == "":
		return stepLook
	}
	return stepUpdate
}

// judgement is what is to be done about the object that was read.
type judgement struct {
	step            step
	reason, message string
	adopted         bool
}

// judge decides about a record and what the destination holds; live is nil if
// that is nothing.
//
// Guarantee 9: only what carries our marks for this key is written or deleted;
// the exceptions are named here.
func judge(j *job, e state.Entry, known bool, live *owned.Object, owner topology.Owner, p policy) judgement {
	w := &j.want
	if w.op == topology.Delete {
		return judgeDelete(w, live, owner, p)
	}
	if live == nil {
		return judgement{step: stepCreate}
	}
	m := &live.Meta
	whose := owned.OwnershipOf(m, owner, w.key, p.former...)
	if m.DeletionTimestamp != nil {
		return judgement{step: stepFail, reason: ReasonTerminating,
			message: "the object is being deleted at the destination; it is created again when that is done"}
	}
	adopted := m.Annotations[topology.AdoptedAnnotation] != ""
	switch whose {
	case owned.Ours, owned.OursOtherVersion:
		has := owned.AppliedVersion(m)
		if w.version.Older(has) {
			return judgement{step: stepAdoptNewer}
		}
		same := whose == owned.Ours && m.Annotations[topology.SourceClusterAnnotation] == owner.SourceUID && m.Annotations[topology.HashAnnotation] == w.hash && sameSource(has, w.version)
		if same && asApplied(w, e, known, live) {
			return judgement{step: stepRemember, adopted: adopted}
		}
		return judgement{step: stepUpdate, adopted: adopted}
	case owned.Others:
		return judgement{step: stepFail, reason: ReasonNotOwned, message: fmt.Sprintf(
			"the object belongs to LiveSynchronization %s of source cluster %s (key %s)",
			m.Annotations[topology.LiveSynchronizationAnnotation], m.Annotations[topology.SourceClusterAnnotation], m.Annotations[topology.KeyAnnotation])}
	}
	switch {
	case owned.Contains(live.Body, w.body):
		return judgement{step: stepForeign}
	case p.adopt || owned.MadeByEveryCluster(w.key):
		return judgement{step: stepUpdate, adopted: true}
	}
	return judgement{step: stepFail, reason: ReasonNotOwned,
		message: "an object of this name exists at the destination and was not made by Afterimage; adoptExisting: true would take it over"}
}

// asApplied tells whether an object of ours is as our last write left it.
func asApplied(w *want, e state.Entry, known bool, live *owned.Object) bool {
	if live.Meta.Annotations[topology.RecoveredAnnotation] != "" {
		return false // a recovery has changed it, perhaps beside our fields
	}
	fields := owned.FieldsHash(&live.Meta)
	if known && e.FieldsHash != "" && !has(e, markUnverified) && !e.Deleted {
		return fields == e.FieldsHash
	}
	return owned.Contains(live.Body, w.body)
}

func judgeDelete(w *want, live *owned.Object, owner topology.Owner, p policy) judgement {
	if live == nil {
		return judgement{step: stepGone}
	}
	m := &live.Meta
	switch {
	case owned.OwnershipOf(m, owner, w.key, p.former...) != owned.Ours:
		return judgement{step: stepKeep, message: "the object at the destination is not one of ours under this key"}
	case m.Annotations[topology.AdoptedAnnotation] != "":
		return judgement{step: stepKeep, message: "the object was adopted, not created, by Afterimage"}
	case m.Annotations[owned.ForcedNamespaceAnnotation] != "":
		return judgement{step: stepKeep, message: "the namespace was made by forceNamespaceCreation, which never prunes"}
	case w.version.Older(owned.AppliedVersion(m)):
		return judgement{step: stepAdoptNewer}
	case orphans(w.key, p):
		return judgement{step: stepOrphan}
	case m.DeletionTimestamp != nil:
		return judgement{step: stepFail, reason: ReasonTerminating, message: live.Terminating()}
	}
	return judgement{step: stepDelete}
}

// orphans tells whether the policy leaves deleted objects of a key alone.
func orphans(key topology.Key, p policy) bool { return owned.Orphans(key, p.deletion) }

// cascades tells whether deleting the object deletes what others put under it.
func cascades(key topology.Key) bool {
	return key.Group == "" && key.Resource == "namespaces" ||
		key.Group == "apiextensions.k8s.io" && key.Resource == "customresourcedefinitions"
}

// sameSource tells whether two versions are of the same state of the source.
func sameSource(a, b topology.Version) bool { return a.Epoch == b.Epoch && a.RV == b.RV }

// has tells whether an entry carries a mark.
func has(e state.Entry, mark byte) bool { return strings.IndexByte(e.Mark, mark) >= 0 }
