package zookeeper

import (
	"cmp"
	"slices"
	"sync"

	"github.com/afterimage-dr/afterimage/topology"
)

// Result of what was done about a node.
type Result string

// The results.
const (
	Created Result = "created"
	Updated Result = "updated"
	Deleted Result = "deleted"
	// Unchanged: the destination held it already.
	Unchanged Result = "unchanged"
	// Skipped: left alone as the configuration asks.
	Skipped Result = "skipped"
	Failed  Result = "failed"
)

// Reasons of failures.
const (
	// ReasonRead: the node could not be read in the source.
	ReasonRead = "SourceReadDenied"
	// ReasonDestinationRead: the node could not be read at the destination.
	ReasonDestinationRead = "DestinationReadDenied"
	ReasonParentMissing   = "ParentMissing"
	ReasonDenied          = "NotPermitted"
	ReasonTooLarge        = "TooLarge"
	ReasonMode            = "ModeDiffers"
	ReasonACL             = "ACLRefused"
	ReasonNotEmpty        = "NotEmpty"
	ReasonConflict        = "Conflict"
	ReasonRefused         = "Refused"
	// ReasonDifferent: read back after it was written, it was not what was written.
	ReasonDifferent = "DifferentWhenVerified"
)

// Failure of a node.
type Failure struct {
	Path    string `json:"path"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// MaxFailures are named; all are counted.
const MaxFailures = 50

// Report is what became of the nodes.
type Report struct {
	Created   int64 `json:"created"`
	Updated   int64 `json:"updated"`
	Deleted   int64 `json:"deleted"`
	Unchanged int64 `json:"unchanged"`
	Skipped   int64 `json:"skipped"`
	Failed    int64 `json:"failed"`
	// Verified of what was written: read back and found as written.
	Verified int64     `json:"verified"`
	Failures []Failure `json:"failures,omitempty"`
}

// report counts, one result a node.
type report struct {
	mu sync.Mutex
	Report
	failed, skipped map[string]bool
}

// skip counts a node that is left alone, once.
func (r *report) skip(path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.skipped == nil {
		r.skipped = map[string]bool{}
	}
	if !r.skipped[path] {
		r.skipped[path] = true
		r.Skipped++
	}
}

func (r *report) count(res Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*r.counter(res)++
}

func (r *report) uncount(res Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*r.counter(res)--
}

func (r *report) counter(res Result) *int64 {
	switch res {
	case Created:
		return &r.Created
	case Updated:
		return &r.Updated
	case Deleted:
		return &r.Deleted
	}
	return &r.Unchanged
}

// fail counts a node once, whatever fails of it.
func (r *report) fail(f Failure) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == nil {
		r.failed = map[string]bool{}
	}
	if r.failed[f.Path] {
		return
	}
	r.failed[f.Path] = true
	r.Failed++
	if len(r.Failures) < MaxFailures {
		r.Failures = append(r.Failures, f)
	}
}

// mended forgets the failure of a node.
func (r *report) mended(path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.failed[path] {
		return
	}
	delete(r.failed, path)
	r.Failed--
	r.Failures = slices.DeleteFunc(r.Failures, func(f Failure) bool { return f.Path == path })
}

// reset forgets what failed: everything is compared anew.
func (r *report) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Failed, r.Failures, r.failed = 0, nil, nil
}

func (r *report) fails(path string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed[path]
}

// failing counts the nodes that fail, but for some.
func (r *report) failing(but map[string]bool) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for path := range r.failed {
		if _, counted := but[path]; !counted {
			n++
		}
	}
	return n
}

// snapshot for whoever looks.
func (r *report) snapshot() Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.Report
	out.Failures = slices.SortedFunc(slices.Values(out.Failures), func(a, b Failure) int { return cmp.Compare(a.Path, b.Path) })
	return out
}

// keyOf a node in the log.
func keyOf(path string) string { return topology.NodeKey(path).String() }

// Passing tells whether a failure for that reason may be gone at the next attempt
// without anybody doing anything about it.
func Passing(reason string) bool {
	switch reason {
	case ReasonConflict, ReasonDifferent, ReasonParentMissing, ReasonNotEmpty:
		return true
	}
	return false
}
