package synchronization

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/internal/live"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

// The condition Ready of a plan, and its reasons.
const (
	conditionReady        = "Ready"
	reasonScheduled       = "Scheduled"
	reasonSuspended       = "Suspended"
	reasonInvalidSchedule = "InvalidSchedule"
)

// planner runs a plan while elected.
type planner struct {
	wanted *live.Value[*v1alpha1.SynchronizationPlan]
	log    *slog.Logger

	// Of a term; its loop alone uses them.
	settled time.Time
	// written is what the log holds of the plan; nil: nothing.
	written *v1alpha1.SynchronizationPlan
	// noted is the time that was said to wait.
	noted time.Time

	mu     sync.Mutex
	status v1alpha1.SynchronizationPlanStatus
}

func (p *planner) key() string { return topology.RunsPlanKey(p.wanted.Load().Name) }

func (p *planner) changed() <-chan struct{} {
	_, changed := p.wanted.Get()
	return changed
}

func (p *planner) open(l *ledger, now time.Time) map[string]*v1alpha1.Synchronization {
	name := p.wanted.Load().Name
	runs := l.runsOf(name)
	p.written = l.plan(name)
	p.noted = time.Time{}
	p.settled = now // one that is new has missed nothing
	var status v1alpha1.SynchronizationPlanStatus
	if p.written != nil {
		status = *p.written.Status.DeepCopy()
		if at, ok := settledOf(p.written); ok {
			p.settled = at
		}
	}
	for _, s := range runs {
		// Begun just before the process ended, and before that was noted here.
		if at, err := time.Parse(time.RFC3339, s.Annotations[annotationScheduled]); err == nil && at.After(p.settled) {
			p.settled, status.LastScheduleTime = at, &metav1.Time{Time: at}
		}
	}
	p.set(status)
	return runs
}

func (p *planner) step(ctx context.Context, t *term, now time.Time) (wake time.Time, err error) {
	plan := p.wanted.Load()
	status := p.load()
	status.ObservedGeneration = plan.Generation
	timing, err := timingOf(&plan.Spec)
	if err != nil { // the manifests were checked: another version of the program wrote them
		p.ready(&status, metav1.ConditionFalse, reasonInvalidSchedule, err.Error())
		return time.Time{}, p.save(ctx, t, plan, status)
	}
	if w := p.written; w != nil && (w.Spec.Schedule != plan.Spec.Schedule || w.Spec.TimeZone != plan.Spec.TimeZone) && now.After(p.settled) {
		p.settled = now // the times of another schedule were not missed
	}
	d := timing.decide(p.settled, now, len(t.unfinished()))
	p.settled = d.settled
	if d.missed > 0 {
		status.MissedRuns += d.missed
		p.log.Warn("scheduled runs were missed", slog.String("missed", atLeast(d.missed, d.more)), slog.String("until", d.settled.UTC().Format(time.RFC3339)))
	}
	if !d.waits.IsZero() {
		p.wait(t, plan, d.waits)
	}
	if !d.start.IsZero() {
		if err := p.start(ctx, t, plan, d.start, &status); err != nil {
			return time.Time{}, err
		}
	}
	for _, s := range t.snapshot() {
		if s.Status.State == v1alpha1.StateComplete && (status.LastSuccessfulTime == nil || s.Status.CompletionTime.After(status.LastSuccessfulTime.Time)) {
			status.LastSuccessfulTime = s.Status.CompletionTime
		}
	}
	wake, err = p.clean(ctx, t, plan, now)
	if err != nil {
		return time.Time{}, err
	}
	status.NextScheduleTime = nil
	p.ready(&status, metav1.ConditionTrue, reasonScheduled, "")
	switch {
	case timing.suspend:
		p.ready(&status, metav1.ConditionFalse, reasonSuspended, "spec.suspend is true: no run is started")
	case !d.next.IsZero():
		status.NextScheduleTime = &metav1.Time{Time: d.next}
	}
	status.Active = nil
	for _, name := range t.unfinished() {
		status.Active = append(status.Active, corev1.LocalObjectReference{Name: name})
	}
	return earlier(wake, d.wake), p.save(ctx, t, plan, status)
}

// wait says once that a time waits for the run that is active, and stops that one
// where the plan wants it.
func (p *planner) wait(t *term, plan *v1alpha1.SynchronizationPlan, at time.Time) {
	replace := plan.Spec.ConcurrencyPolicy == v1alpha1.ConcurrencyReplace
	active := t.unfinished()
	if !at.Equal(p.noted) {
		p.noted = at
		msg := "a run is due while another runs: it is started when that has ended"
		if replace {
			msg = "a run is due while another runs: that one is stopped"
		}
		p.log.Info(msg, slog.String("scheduledTime", at.UTC().Format(time.RFC3339)), slog.Any("active", active))
	}
	if replace {
		for _, name := range active {
			t.stop(name, fmt.Errorf("%w, and concurrencyPolicy is Replace", errReplaced))
		}
	}
}

// start makes the run of a time and launches it.
func (p *planner) start(ctx context.Context, t *term, plan *v1alpha1.SynchronizationPlan, at time.Time, status *v1alpha1.SynchronizationPlanStatus) error {
	s := runFor(plan, at, time.Now())
	status.LastScheduleTime = &metav1.Time{Time: at}
	if other := t.ledger.run(s.Name); other != nil {
		if planOf(other) != plan.Name {
			status.MissedRuns++
			p.log.Error("a scheduled run is missed: there is a Synchronization of its name that is not of this plan", slog.String("synchronization", s.Name))
		}
		return nil
	}
	p.log.Info("synchronization begins", slog.String("synchronization", s.Name), slog.String("scheduledTime", at.UTC().Format(time.RFC3339)))
	return t.launch(ctx, s)
}

// clean removes the runs that are not remembered any longer, and says when the next
// one's time is over.
func (p *planner) clean(ctx context.Context, t *term, plan *v1alpha1.SynchronizationPlan, now time.Time) (time.Time, error) {
	runs := t.snapshot()
	for _, name := range t.unfinished() {
		delete(runs, name)
	}
	names, next := expired(&plan.Spec, runs, now)
	for _, name := range names {
		if err := t.forget(ctx, name); err != nil {
			return time.Time{}, err
		}
	}
	return next, nil
}

// save puts the plan into the log if that holds something else.
func (p *planner) save(ctx context.Context, t *term, plan *v1alpha1.SynchronizationPlan, status v1alpha1.SynchronizationPlanStatus) error {
	p.set(status)
	now := progressOf(plan, status, p.settled)
	if p.written != nil && equality.Semantic.DeepEqual(now, p.written) {
		return nil
	}
	if err := t.put(ctx, topology.RunsPlanKey(plan.Name), now); err != nil {
		return err
	}
	p.written = now
	return nil
}

func (p *planner) ready(status *v1alpha1.SynchronizationPlanStatus, is metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&status.Conditions, metav1.Condition{
		Type: conditionReady, Status: is, Reason: reason, Message: message, ObservedGeneration: status.ObservedGeneration,
	})
	if is != metav1.ConditionTrue && reason == reasonInvalidSchedule {
		p.log.Error("the schedule cannot be read", logging.Err(fmt.Errorf("%s", message)))
	}
}

func (p *planner) load() v1alpha1.SynchronizationPlanStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	return *p.status.DeepCopy()
}

func (p *planner) set(status v1alpha1.SynchronizationPlanStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status = *status.DeepCopy()
}

// earlier of two moments; a zero one is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func atLeast(n int64, more bool) string {
	if more {
		return "more than " + strconv.FormatInt(n, 10)
	}
	return strconv.FormatInt(n, 10)
}

// Now is the run of a plan that is made by hand, now.
func Now(plan *v1alpha1.SynchronizationPlan) *v1alpha1.Synchronization {
	now := time.Now()
	return runFor(plan, now, now)
}
