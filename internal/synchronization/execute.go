package synchronization

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// Reasons of the condition Failed, as of a Job where it has the same; permanent
// errors may bring their own.
const (
	ReasonBackoffLimitExceeded = "BackoffLimitExceeded"
	ReasonDeadlineExceeded     = "DeadlineExceeded"
	ReasonPermanent            = "PermanentError"
	// ReasonReplaced: the next run was due, and the plan's concurrencyPolicy is Replace.
	ReasonReplaced = "Replaced"
)

// reasonSynchronized of the condition Complete.
const reasonSynchronized = "Synchronized"

// The pauses before another attempt, as those of a Job.
const (
	backoffFirst = 10 * time.Second
	backoffMost  = 6 * time.Minute
)

// errDeadline and errReplaced are why the context of an attempt ended.
var (
	errDeadline = errors.New("activeDeadlineSeconds have passed")
	errReplaced = errors.New("the next run was due")
)

// ExecuteOptions of Execute; the zero value is the default.
type ExecuteOptions struct {
	// Report, if set, is told the status whenever it changes, from one goroutine at
	// a time. It must not block.
	Report func(v1alpha1.SynchronizationStatus)
	// Logger for attempts that failed; nil: none.
	Logger *slog.Logger
}

// Execute runs a Synchronization to its end, from the status it has: one that was
// cut off goes on with the attempt that was cut off and the start time it had. It
// returns the status at the end, Complete or Failed; where ctx ended before, the
// status is that of a run that goes on, and Execute may be called with it again.
func Execute(ctx context.Context, s *v1alpha1.Synchronization, attempt Attempt, o ExecuteOptions) v1alpha1.SynchronizationStatus {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	r := run{spec: s.Spec, status: begun(s, time.Now()), attempt: attempt, report: o.Report, log: o.Logger}
	if r.report == nil {
		r.report = func(v1alpha1.SynchronizationStatus) {}
	}
	limited := ctx
	if seconds := s.Spec.ActiveDeadlineSeconds; seconds != nil {
		var cancel context.CancelFunc
		limited, cancel = context.WithDeadlineCause(ctx, r.status.StartTime.Add(time.Duration(*seconds)*time.Second), errDeadline)
		defer cancel()
	}
	r.loop(limited)
	return r.status
}

// begun is the status of a run that begins, or goes on, now.
func begun(s *v1alpha1.Synchronization, now time.Time) v1alpha1.SynchronizationStatus {
	status := *s.Status.DeepCopy()
	status.State, status.ObservedGeneration = v1alpha1.StateRunning, s.Generation
	if status.StartTime == nil {
		status.StartTime = &metav1.Time{Time: now}
	}
	// One that was cut off did not fail.
	status.Attempts = max(status.Attempts, 1)
	return status
}

// run is a Synchronization while it runs.
type run struct {
	spec    v1alpha1.SynchronizationSpec
	status  v1alpha1.SynchronizationStatus
	attempt Attempt
	report  func(v1alpha1.SynchronizationStatus)
	log     *slog.Logger
}

// loop makes attempts until the run has ended or ctx has.
func (r *run) loop(ctx context.Context) {
	for pause := backoffFirst; ; pause = min(2*pause, backoffMost) {
		r.say()
		var outcome Outcome
		err := context.Cause(ctx)
		if err == nil {
			outcome, err = r.attempt(ctx, r.progress)
			r.status.Result = outcome.Result
			r.status.Failures = outcome.Failures[:min(len(outcome.Failures), v1alpha1.MaxFailures)]
		}
		switch done := err == nil && outcome.Result.Failed == 0 && len(outcome.Failures) == 0; {
		case done:
			// Also where ctx ended in that moment: it is done.
			r.end(v1alpha1.StateComplete, reasonSynchronized, "the destination is equal to the source")
			return
		case r.stopped(ctx):
			return
		case isPermanent(err):
			r.end(v1alpha1.StateFailed, reasonOf(err, ReasonPermanent), err.Error())
			return
		}
		why := reasonFor(outcome, err)
		if r.status.Attempts > r.spec.Retries() {
			r.end(v1alpha1.StateFailed, ReasonBackoffLimitExceeded, fmt.Sprintf("attempt %d of %d: %s", r.status.Attempts, r.spec.Retries()+1, why))
			return
		}
		wait := pause*3/4 + rand.N(pause/2) // not all at once that failed at once
		r.log.Warn("attempt failed, another follows", slog.Int("attempt", int(r.status.Attempts)), slog.Duration("after", wait), logging.Err(why))
		r.status.Attempts++
		r.say()
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// stopped tells whether ctx has ended, and ends the run where that is the run's own
// end and not that of the process.
func (r *run) stopped(ctx context.Context) bool {
	switch cause := context.Cause(ctx); {
	case cause == nil:
		return false
	case errors.Is(cause, errDeadline):
		r.end(v1alpha1.StateFailed, ReasonDeadlineExceeded, fmt.Sprintf("stopped after spec.activeDeadlineSeconds, %d s", *r.spec.ActiveDeadlineSeconds))
	case errors.Is(cause, errReplaced):
		r.end(v1alpha1.StateFailed, ReasonReplaced, cause.Error())
	}
	return true
}

// reasonFor says why an attempt failed.
func reasonFor(o Outcome, err error) error {
	n := max(o.Result.Failed, int64(len(o.Failures)))
	switch {
	case n == 0:
		return err
	case err != nil:
		return fmt.Errorf("%w; %d failures", err, n)
	case len(o.Failures) == 0:
		return fmt.Errorf("%d failures", n)
	}
	return fmt.Errorf("%d failures, the first: %s: %s", n, o.Failures[0].Object, o.Failures[0].Message)
}

func (r *run) progress(result v1alpha1.SynchronizationResult) {
	r.status.Result = result
	r.say()
}

func (r *run) say() { r.report(*r.status.DeepCopy()) }

// end makes the status that of a run that has ended.
func (r *run) end(state, reason, message string) {
	now := metav1.Now()
	condition := v1alpha1.ConditionFailed
	if state == v1alpha1.StateComplete {
		condition = v1alpha1.ConditionComplete
	}
	r.status.State, r.status.CompletionTime = state, &now
	r.status.Conditions = []metav1.Condition{{
		Type: condition, Status: metav1.ConditionTrue, Reason: reason, Message: message,
		LastTransitionTime: now, ObservedGeneration: r.status.ObservedGeneration,
	}}
	r.say()
}

// finished tells whether a run has ended.
func finished(s *v1alpha1.Synchronization) bool {
	return s.Status.State == v1alpha1.StateComplete || s.Status.State == v1alpha1.StateFailed
}
