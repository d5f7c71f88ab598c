package reconciler

import (
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// Conditions this component sets, both when replication waits for a person.
const (
	ConditionSourceChanged = "SourceChanged"
	ConditionPruneBlocked  = "PruneBlocked"
)

// Counters of the last comparison, and of all.
type Counters struct {
	// Owned objects compared, LeftAlone under our label but not ours to doubt,
	// and Orphans, which exist only in the destination: of the last comparison.
	Owned, LeftAlone, Orphans int
	// Requested, Comparisons (complete ones) and Failures since the start.
	Requested, Comparisons, Failures int
}

// LastComparison is when the last complete one began, and how many objects it
// found only in the destination; zero: there was none yet.
func (r *Reconciler) LastComparison() (began time.Time, orphans int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status.comparedAt, r.status.counters.Orphans
}

// status is what is known to Report.
type status struct {
	elected bool
	// next comparison; off: none is due.
	next time.Time
	off  bool
	// lastResync is when the last complete comparison ended, comparedAt when it began.
	lastResync, comparedAt time.Time
	// err of the last comparison, since when.
	err      error
	errSince time.Time
	blocked  string
	since    time.Time // of blocked
	counters Counters
}

func (r *Reconciler) update(fn func(*status)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fn(&r.status)
}

// Counters returns what was counted.
func (r *Reconciler) Counters() Counters {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status.counters
}

// note takes the result of a comparison into the status.
func (t *term) note(p *pass, err error, began time.Time) {
	if err == nil {
		err = p.firstError()
	}
	now := time.Now()
	t.update(func(s *status) {
		if err != nil && s.err == nil {
			s.errSince = began
		}
		s.err = err
		if p.blocked != "" && s.blocked == "" {
			s.since = now
		}
		c := &s.counters
		c.Owned, c.LeftAlone, c.Orphans = 0, 0, 0
		for _, t := range p.tallies {
			c.Owned += t.owned
			c.LeftAlone += t.leftAlone
			c.Orphans += t.orphans
		}
		c.Requested += p.requested
		if err != nil {
			c.Failures++
			return
		}
		s.blocked = p.blocked
		if !p.more {
			c.Comparisons++
			s.lastResync, s.comparedAt = now, began
		}
	})
}

// Report adds what the reconciler knows to a status: its component, the time of
// the last complete comparison, and what it waits for a person to confirm.
func (r *Reconciler) Report(out *v1alpha1.LiveSynchronizationStatus) {
	r.mu.Lock()
	s := r.status
	r.mu.Unlock()
	c := v1alpha1.ComponentStatus{Name: Component, Ready: s.err == nil}
	switch {
	case s.err != nil:
		c.Reason, c.Message = reasonOf(s.err), s.err.Error()
	case !s.elected:
		c.Reason = "Standby"
	case s.off:
		c.Reason = "NotDue"
	case s.lastResync.IsZero():
		c.Reason, c.Message = "Waiting", "the first comparison is due at "+s.next.UTC().Format(time.RFC3339)
	}
	out.Components = append(out.Components, c)
	if !s.lastResync.IsZero() && (out.LastResyncTime == nil || out.LastResyncTime.Time.Before(s.lastResync)) {
		at := metav1.NewMicroTime(s.lastResync)
		out.LastResyncTime = &at
	}
	var changed *sourceChangedError
	if errors.As(s.err, &changed) {
		out.Conditions = append(out.Conditions, metav1.Condition{Type: ConditionSourceChanged, Status: metav1.ConditionTrue,
			Reason: "AnotherCluster", Message: changed.Error(), LastTransitionTime: metav1.NewTime(s.errSince)})
	}
	if s.blocked != "" {
		out.Conditions = append(out.Conditions, metav1.Condition{Type: ConditionPruneBlocked, Status: metav1.ConditionTrue,
			Reason: "MoreThanHalfAbsent", Message: s.blocked, LastTransitionTime: metav1.NewTime(s.since)})
	}
}

// reasonOf is a constant word for the cause of an error, for status and for
// saying it once.
func reasonOf(err error) string {
	side := "Destination"
	var of *sideError
	if errors.As(err, &of) && of.source {
		side = "Source"
	}
	var changed *sourceChangedError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &changed):
		return ConditionSourceChanged
	case of == nil:
		return "Error"
	case kube.Unavailable(err):
		return side + "Unavailable"
	case apierrors.ReasonForError(err) != "":
		return side + string(apierrors.ReasonForError(err))
	}
	return side + "Error"
}

func metaOf(object []byte) (kube.Meta, error) {
	m, err := kube.MetaOf(object)
	if err != nil {
		return m, &sideError{false, fmt.Errorf("object read again: %w", err)}
	}
	return m, nil
}
