package pipeline

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

const (
	// verifiedWithin: a destination that was not proved equal for longer is not
	// Ready, whatever its components say. Heartbeats come every 10 s and an idle
	// resource is provably fresh to about 75 s, so this is two misses.
	verifiedWithin = 3 * time.Minute
	// verifiedAhead is by how much the clock of the process that read the source
	// may be ahead of ours. A moment further ahead proves nothing: it would go on
	// looking fresh for that long after everything has stopped.
	verifiedAhead = time.Minute
	// maxFailing objects are named; all are counted.
	maxFailing = 50
)

// halts are the conditions that end replication until a person acts.
var halts = map[string]bool{
	"SourceChanged": true, "PruneBlocked": true, "Fenced": true, "SameCluster": true, "Halted": true,
	"PartitionCountChanged": true,
}

// rejects are the conditions under which what runs is not what was asked for.
var rejects = map[string]bool{"ConfigRefused": true, "ConfigurationRejected": true}

// waiting are the reasons of a resource that is not there yet: it is waited
// for, and what is there is complete without it.
var waiting = map[string]bool{"NotServed": true, "Waiting": true, "WaitingForResource": true}

// facts a status is composed of.
type facts struct {
	now        time.Time
	suspend    bool
	generation int64
	// parts as the components report them, in the order of the pipeline.
	parts []v1alpha1.LiveSynchronizationStatus
	// conditions the pipeline itself knows of (clusters, topics, halts).
	conditions []metav1.Condition
	// before are the conditions as they were, for the times of their transitions.
	before []metav1.Condition
}

// compose makes one status of what everybody knows. What is not known is not Ready.
func compose(f facts) v1alpha1.LiveSynchronizationStatus {
	st := v1alpha1.LiveSynchronizationStatus{ObservedGeneration: f.generation, Conditions: slices.Clone(f.conditions)}
	for _, p := range f.parts {
		merge(&st, p)
	}
	if st.VerifiedAt != nil && st.VerifiedAt.Sub(f.now) <= verifiedAhead {
		rpo := f.now.Sub(st.VerifiedAt.Time).Round(time.Millisecond)
		st.RPO = &metav1.Duration{Duration: max(rpo, 0)}
	}
	state, reason, message := judge(f, &st)
	st.State = state
	ready := metav1.Condition{Type: "Ready", Status: metav1.ConditionFalse, Reason: reason, Message: message, ObservedGeneration: f.generation}
	if state == v1alpha1.StateReady {
		ready.Status = metav1.ConditionTrue
	}
	st.Conditions = append([]metav1.Condition{ready}, st.Conditions...)
	for i := range st.Conditions {
		transition(&st.Conditions[i], f)
	}
	return st
}

// transition dates a condition: it changed when its status did, not when it was
// reported again.
func transition(c *metav1.Condition, f facts) {
	for _, b := range f.before {
		if b.Type == c.Type && b.Status == c.Status {
			c.LastTransitionTime = b.LastTransitionTime
			return
		}
	}
	if c.LastTransitionTime.IsZero() {
		c.LastTransitionTime = metav1.NewTime(f.now)
	}
}

// judge says in which state the whole is, and why.
func judge(f facts, st *v1alpha1.LiveSynchronizationStatus) (state, reason, message string) {
	if f.suspend {
		return v1alpha1.StateSuspended, "Suspended", "spec.suspend is true: changes are logged, nothing is written to the destination"
	}
	for _, c := range st.Conditions {
		if halts[c.Type] && c.Status == metav1.ConditionTrue {
			return v1alpha1.StateFailed, c.Type, c.Message
		}
	}
	for _, c := range st.Components {
		if !c.Ready && halts[c.Reason] {
			return v1alpha1.StateFailed, c.Reason, c.Message
		}
	}
	if reason, message = notReady(f, st); reason != "" {
		return v1alpha1.StateProgressing, reason, message
	}
	return v1alpha1.StateReady, "InSync", "the destination holds everything the source held at verifiedAt"
}

// notReady names the first thing that keeps the whole from being Ready.
func notReady(f facts, st *v1alpha1.LiveSynchronizationStatus) (reason, message string) {
	for _, c := range f.conditions {
		if c.Status != metav1.ConditionTrue && !halts[c.Type] {
			// SourceReachable=False, Unreachable reads SourceUnreachable.
			what := strings.TrimSuffix(strings.TrimSuffix(c.Type, "Reachable"), "Ready")
			return what + c.Reason, cmp.Or(c.Message, c.Reason)
		}
	}
	for _, c := range st.Conditions {
		// Replication goes on without it, but what a recovery would read is stale.
		if c.Type == "BucketReady" && c.Status != metav1.ConditionTrue {
			return "Bucket" + c.Reason, cmp.Or(c.Message, c.Reason)
		}
	}
	if len(st.Components) == 0 {
		return "ComponentNotReady", "no component runs yet"
	}
	for _, c := range st.Components {
		if !c.Ready {
			return "ComponentNotReady", c.Name + ": " + cmp.Or(c.Message, c.Reason, "not ready")
		}
	}
	for _, c := range st.Conditions {
		if rejects[c.Type] && c.Status == metav1.ConditionTrue {
			return c.Type, c.Message
		}
	}
	for _, r := range st.Resources {
		if !r.Ready && !waiting[r.Reason] {
			return "ResourceNotReady", r.Resource + ": " + cmp.Or(r.Message, r.Reason, "not ready")
		}
	}
	switch {
	case st.Objects.Failed > 0 || len(st.Failing) > 0:
		return "ObjectsFailing", fmt.Sprintf("objects that cannot be applied: %d; status.failing says why", max(st.Objects.Failed, int64(len(st.Failing))))
	case st.Objects.OutOfSync > 0:
		return "OutOfSync", fmt.Sprintf("%d objects are not yet as they should be", st.Objects.OutOfSync)
	case st.VerifiedAt == nil:
		return "NotVerified", "it is not yet known up to when the destination holds everything"
	case st.VerifiedAt.Sub(f.now) > verifiedAhead:
		return "ClockSkew", fmt.Sprintf("the destination was last proved to hold everything %s in the future: a clock is wrong or was set back", st.VerifiedAt.Sub(f.now).Round(time.Second))
	case f.now.Sub(st.VerifiedAt.Time) > verifiedWithin:
		return "VerifiedTooLongAgo", fmt.Sprintf("the destination is known to hold everything only up to %s ago", f.now.Sub(st.VerifiedAt.Time).Round(time.Second))
	}
	return "", ""
}

// merge adds what one component knows.
func merge(st *v1alpha1.LiveSynchronizationStatus, p v1alpha1.LiveSynchronizationStatus) {
	st.Components = append(st.Components, p.Components...)
	st.Resources = append(st.Resources, p.Resources...)
	for _, c := range p.Conditions {
		st.Conditions = mergeCondition(st.Conditions, c)
	}
	st.Failing = append(st.Failing, p.Failing...)
	st.Failing = st.Failing[:min(len(st.Failing), maxFailing)]
	if h := p.HeldBack; h != nil {
		if st.HeldBack == nil {
			st.HeldBack = &v1alpha1.HeldBackObjects{}
		}
		st.HeldBack.Count += h.Count
		st.HeldBack.Objects = append(st.HeldBack.Objects, h.Objects...)
		st.HeldBack.Objects = st.HeldBack.Objects[:min(len(st.HeldBack.Objects), maxFailing)]
	}
	st.Objects.Total += p.Objects.Total
	st.Objects.Sync += p.Objects.Sync
	st.Objects.OutOfSync += p.Objects.OutOfSync
	st.Objects.Failed += p.Objects.Failed
	st.LastSyncTime = later(st.LastSyncTime, p.LastSyncTime)
	st.LastResyncTime = later(st.LastResyncTime, p.LastResyncTime)
	if p.VerifiedAt != nil && (st.VerifiedAt == nil || p.VerifiedAt.Before(st.VerifiedAt)) {
		st.VerifiedAt = p.VerifiedAt // the most cautious word counts
	}
	if p.Lag != nil && (st.Lag == nil || p.Lag.Duration > st.Lag.Duration) {
		st.Lag = p.Lag
	}
}

// mergeCondition keeps one condition of a type: two components may watch for the
// same thing, and what one of them found is not undone by the other's not finding it.
func mergeCondition(all []metav1.Condition, c metav1.Condition) []metav1.Condition {
	for i := range all {
		if all[i].Type != c.Type {
			continue
		}
		switch {
		case c.Status != metav1.ConditionTrue:
		case all[i].Status != metav1.ConditionTrue:
			all[i] = c
		case c.Message != "" && c.Message != all[i].Message:
			// Each may ask a person something else.
			all[i].Message = strings.TrimPrefix(all[i].Message+"\n"+c.Message, "\n")
		}
		return all
	}
	return append(all, c)
}

func later(a, b *metav1.MicroTime) *metav1.MicroTime {
	if a == nil || (b != nil && a.Before(b)) {
		return b
	}
	return a
}
