package restorer

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Action is what was done with an object, or would be.
type Action string

// The actions.
const (
	// Restored: created, or replaced by its original or by its logged state.
	Restored Action = "restored"
	// Patched: fromPatch was applied to the object as it was.
	Patched Action = "patched"
	// Unchanged: it is as it must be already.
	Unchanged Action = "unchanged"
	// Deleted: it is later than the moment that was asked for.
	Deleted Action = "deleted"
	// Kept: it is later than that moment and not to be deleted.
	Kept Action = "kept"
	// Failed: see Reason.
	Failed Action = "failed"
)

// Result of one object.
type Result struct {
	Key     string `json:"object"`
	Action  Action `json:"action"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// Note is worth knowing of an object that was restored all the same.
	Note string `json:"note,omitempty"`
}

// Reasons of failures that are the restorer's own; the others are those of
// package owned.
const (
	ReasonPatchFailed    = "PatchFailed"    // a patch cannot be applied to the object
	ReasonDamaged        = "Damaged"        // the original in the bucket is damaged
	ReasonForeignContent = "ForeignContent" // the bucket holds something else there
	ReasonOlder          = "Older"          // the original is older than what the destination holds
	ReasonLost           = "Lost"           // it was written, and is not there any more, or otherwise
	ReasonPruneBlocked   = "PruneBlocked"   // too many deletes at once
	ReasonNotEmpty       = "NotEmpty"       // it still holds what Afterimage did not put there
	ReasonUnverified     = "Unverified"     // whether it is at the destination cannot be read
)

// Summary counts results.
type Summary struct {
	Total     int `json:"total"`
	Restored  int `json:"restored"`
	Patched   int `json:"patched"`
	Unchanged int `json:"unchanged"`
	Deleted   int `json:"deleted"`
	Kept      int `json:"kept"`
	Failed    int `json:"failed"`
}

// Report of a recovery.
type Report struct {
	Mode   Mode `json:"mode"`
	DryRun bool `json:"dryRun,omitempty"`
	// Term of the fence; 0 where none was raised.
	Term int64 `json:"term,omitempty"`
	// Originals says where they were read, in words.
	Originals string `json:"originals"`
	// DataAsOf is up to when the log, or the bucket, knew the source; nil: unknown.
	DataAsOf *time.Time `json:"dataAsOf,omitempty"`
	// Started, Writing (the fence was closed, the first write could begin) and Ended.
	Started time.Time `json:"started"`
	Writing time.Time `json:"writing"`
	Ended   time.Time `json:"ended"`
	// Silent writers did not acknowledge the fence; they were waited for until they
	// could not write any more.
	Silent []string `json:"silentWriters,omitempty"`
	// AtRisk are keys whose newest change had not reached the destination when the
	// recovery began; the recovery brings them.
	AtRisk  int      `json:"atRisk"`
	Summary Summary  `json:"summary"`
	Results []Result `json:"objects"`
	// Warnings about the recovery as a whole.
	Warnings []string `json:"warnings,omitempty"`
	// Stopped: an error ended it before its end.
	Stopped bool `json:"stopped,omitempty"`
	// Blocked says why later objects were not deleted; empty: they were.
	Blocked string `json:"blocked,omitempty"`
}

// Complete tells whether every object is as it must be.
func (r *Report) Complete() bool {
	return r.Summary.Failed == 0 && r.Blocked == "" && !r.Stopped && !r.Ended.IsZero()
}

// RTO is how long it took.
func (r *Report) RTO() time.Duration { return r.Ended.Sub(r.Started) }

// RPO is by how much what was restored may be behind the source as it was when
// the recovery began to write; ok is false where that is not known.
func (r *Report) RPO() (rpo time.Duration, ok bool) {
	if r.DataAsOf == nil {
		return 0, false
	}
	return max(0, r.begun().Sub(*r.DataAsOf)), true
}

// begun is when nobody else wrote any more; as good as that where it was never so.
func (r *Report) begun() time.Time {
	if r.Writing.IsZero() {
		return r.Started
	}
	return r.Writing
}

// finish counts and sorts.
func (r *Report) finish() {
	slices.SortFunc(r.Results, func(a, b Result) int { return cmp.Compare(a.Key, b.Key) })
	s := Summary{Total: len(r.Results)}
	for i := range r.Results {
		switch r.Results[i].Action {
		case Restored:
			s.Restored++
		case Patched:
			s.Patched++
		case Unchanged:
			s.Unchanged++
		case Deleted:
			s.Deleted++
		case Kept:
			s.Kept++
		case Failed:
			s.Failed++
		}
	}
	r.Summary = s
	r.Ended = time.Now()
	slices.SortFunc(r.Warnings, strings.Compare)
	r.Warnings = slices.Compact(r.Warnings)
}
