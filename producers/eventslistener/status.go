package eventslistener

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// Conditions that the listener sets.
const (
	// ConditionSourceChanged: another cluster answers as the source; nothing is
	// read until a person confirms it.
	ConditionSourceChanged = "SourceChanged"
	// ConditionPruneBlocked: deletes concluded from absence are held back.
	ConditionPruneBlocked = "PruneBlocked"
	// ConditionConfigRefused: the configuration cannot be used; the last one is.
	ConditionConfigRefused = "ConfigRefused"
)

type counters struct {
	appended, stale, opaque, undecodable, foreign, repaired atomic.Int64
	reconnects, hung, expired, inferred, epochs             atomic.Int64
}

// Counters count what the listener did since the process began.
type Counters struct {
	// Appended records, control records among them.
	Appended int64
	// Stale states that were dropped because the log holds a newer one.
	Stale int64
	// Opaque resourceVersions that could not be compared; the order of the log decided.
	Opaque int64
	// Undecodable records that were passed over.
	Undecodable int64
	// Foreign records of another writer that landed between our own, and keys
	// that were Repaired because of one.
	Foreign, Repaired int64
	// Reconnects of watches; those that Hung; watches and listings that Expired.
	Reconnects, Hung, Expired int64
	// Inferred deletes: concluded from absence.
	Inferred int64
	// Epochs opened.
	Epochs int64
}

// Counters returns the counts as they stand.
func (l *Listener) Counters() Counters {
	c := &l.counts
	return Counters{
		Appended: c.appended.Load(), Stale: c.stale.Load(), Opaque: c.opaque.Load(), Undecodable: c.undecodable.Load(),
		Foreign: c.foreign.Load(), Repaired: c.repaired.Load(), Reconnects: c.reconnects.Load(), Hung: c.hung.Load(),
		Expired: c.expired.Load(), Inferred: c.inferred.Load(), Epochs: c.epochs.Load(),
	}
}

// Report fills in the listener's parts of a status: its component, the resources
// that are not read, its conditions and the time of the last resync. A member
// that is not elected reports itself ready and nothing else.
func (l *Listener) Report(s *v1alpha1.LiveSynchronizationStatus) {
	l.mu.Lock()
	t, elected := l.term, l.elects
	l.mu.Unlock()
	c := v1alpha1.ComponentStatus{Name: Component}
	defer func() { s.Components = append(s.Components, c) }()
	reason, since := l.health.Reason()
	if t == nil && elected {
		c.Reason, c.Message = cmp.Or(reason, "Starting"), "reading the source begins again"
		return
	}
	if t == nil {
		c.Ready, c.Reason, c.Message = true, "Standby", "another member reads the source, or none is elected yet"
		return
	}
	t.mu.Lock()
	ready, halted := t.ready, t.halted
	t.mu.Unlock()
	condition(s, ConditionSourceChanged, halted != "", "AnotherCluster", halted)
	blocked := t.absence.blockedMessage()
	condition(s, ConditionPruneBlocked, blocked != "", "Breaker", blocked)
	t.config.mu.Lock()
	refused := t.config.refused
	t.config.mu.Unlock()
	condition(s, ConditionConfigRefused, refused != "", "Invalid", refused)

	t.oversize.report(s)
	failing := t.reportResources(s)
	switch {
	case halted != "":
		c.Reason, c.Message = ConditionSourceChanged, halted
	case !ready && reason != "":
		c.Reason, c.Message = reason, "reading the source is interrupted since "+since.UTC().Format(time.RFC3339)
	case !ready:
		c.Reason, c.Message = "Starting", "reading changes to its end"
	case len(failing) > 0:
		c.Reason, c.Message = "ResourcesNotRead", strings.Join(failing, ", ")+" cannot be read"
	default:
		c.Ready = true
	}
}

// reportResources adds a line for every resource and returns those that fail.
// One that the source does not serve is waited for and does not fail.
func (t *term) reportResources(s *v1alpha1.LiveSynchronizationStatus) (failing []string) {
	t.mu.Lock()
	opened := t.opened
	t.mu.Unlock()
	if !opened {
		return nil
	}
	for name, err := range t.resolver.unserved() {
		r := v1alpha1.ResourceStatus{Resource: strings.TrimPrefix(name, "/"), Reason: reasonOf(err)}
		switch {
		case err == nil:
			r.Reason, r.Message = "Resolving", "asking the source for it"
		case r.Reason == "NotServed" && t.resolver.left(name) > 0:
			r.Reason = "NoLongerServed"
			r.Message = fmt.Sprintf("the source does not serve it any more, but the log holds %d of its objects and nobody sees what becomes of them: "+
				"name the version that is served, or take the resource out of the configuration", t.resolver.left(name))
			failing = append(failing, r.Resource)
		case r.Reason == "NotServed":
			r.Message = "the source does not serve it (yet): waited for; if it should be there, look at group and version (kubectl api-resources)"
		default:
			r.Message = err.Error()
			failing = append(failing, r.Resource)
		}
		s.Resources = append(s.Resources, r)
	}
	var listed time.Time
	all := true
	for _, lf := range t.everyLife() {
		r := v1alpha1.ResourceStatus{Resource: lf.subject, Ready: true}
		lf.mu.Lock()
		if lf.problem != nil {
			r.Ready, r.Reason, r.Message = false, lf.message, lf.problem.Error()
			failing = append(failing, lf.subject)
		} else if lf.listed.IsZero() {
			r.Ready, r.Reason, r.Message = false, "Listing", fmt.Sprintf("the first listing is not complete; %s", lf.progress())
		}
		all = all && !lf.listed.IsZero()
		if listed.IsZero() || lf.listed.Before(listed) {
			listed = lf.listed
		}
		lf.mu.Unlock()
		if hung, _ := lf.health.Reason(); r.Ready && hung == watchHung {
			r.Ready, r.Reason, r.Message = false, watchHung, "the watch made no progress and is begun again"
			failing = append(failing, lf.subject)
		}
		s.Resources = append(s.Resources, r)
	}
	if ns := t.namespaces(); ns != nil {
		ns.mu.Lock()
		if ns.problem != nil {
			failing = append(failing, ns.subject+" (to stamp records)")
			s.Resources = append(s.Resources, v1alpha1.ResourceStatus{Resource: ns.subject, Reason: ns.message, Message: "labels of namespaces cannot be read: " + ns.problem.Error()})
		}
		ns.mu.Unlock()
	}
	slices.SortFunc(s.Resources, func(a, b v1alpha1.ResourceStatus) int { return strings.Compare(a.Resource, b.Resource) })
	slices.Sort(failing)
	if all && !listed.IsZero() {
		at := metav1.NewMicroTime(listed)
		s.LastResyncTime = &at
	}
	return failing
}

// progress of the listing; lf.mu must be held.
func (lf *life) progress() string {
	if lf.current == nil {
		return "it will be tried again"
	}
	lf.current.mu.Lock()
	defer lf.current.mu.Unlock()
	return fmt.Sprintf("%d objects so far", len(lf.current.shown))
}

func condition(s *v1alpha1.LiveSynchronizationStatus, name string, on bool, reason, message string) {
	status := metav1.ConditionTrue
	if !on {
		status, reason, message = metav1.ConditionFalse, "AsExpected", ""
	}
	meta.SetStatusCondition(&s.Conditions, metav1.Condition{Type: name, Status: status, Reason: reason, Message: message})
}
