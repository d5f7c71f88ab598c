package synchronization

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// missingRoot is an error of a plugin that knows its reason.
type missingRoot struct{}

func (missingRoot) Error() string  { return "/test is not there" }
func (missingRoot) Reason() string { return "RootMissing" }

// wanted is a Synchronization with its limits.
func wanted(name string, retries int32, deadline int64) *v1alpha1.Synchronization {
	s := &v1alpha1.Synchronization{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Generation: 3}}
	s.Spec.Plugin, s.Spec.BackoffLimit = "zookeeper-to-zookeeper-nodes", &retries
	if deadline > 0 {
		s.Spec.ActiveDeadlineSeconds = &deadline
	}
	return s
}

func TestExecute(t *testing.T) {
	type step struct {
		takes   time.Duration
		outcome Outcome
		err     error
	}
	good := Outcome{Result: v1alpha1.SynchronizationResult{Created: 3, Unchanged: 2}}
	partial := Outcome{
		Result:   v1alpha1.SynchronizationResult{Created: 1, Failed: 1},
		Failures: []v1alpha1.Failure{{Object: "/test/a", Reason: "NoAuth", Message: "may not be read"}},
	}
	lost := errors.New("the ensemble cannot be reached")
	for name, c := range map[string]struct {
		reason   string
		retries  int32
		deadline int64
		steps    []step
		state    string
		why      string
		message  string
		attempts int32
		result   v1alpha1.SynchronizationResult
		// least and most that it takes: the pauses are spread by a quarter.
		least, most time.Duration
	}{
		"complete": {
			steps: []step{{takes: time.Minute, outcome: good}},
			state: v1alpha1.StateComplete, why: "Synchronized", attempts: 1, result: good.Result, least: time.Minute, most: time.Minute,
		},
		"complete at the third": {
			reason:  "10 s and 20 s lie between",
			retries: 3, steps: []step{{err: lost}, {err: lost}, {outcome: good}},
			state: v1alpha1.StateComplete, why: "Synchronized", attempts: 3, result: good.Result, least: 22 * time.Second, most: 38 * time.Second,
		},
		"no attempt left": {
			retries: 1, steps: []step{{err: lost}, {err: lost, outcome: Outcome{Result: v1alpha1.SynchronizationResult{Created: 9}}}},
			state: v1alpha1.StateFailed, why: ReasonBackoffLimitExceeded, message: "attempt 2 of 2: the ensemble cannot be reached", attempts: 2,
			result: v1alpha1.SynchronizationResult{Created: 9}, least: 7 * time.Second, most: 13 * time.Second,
		},
		"the pause grows to six minutes": {
			retries: 10, steps: []step{{err: lost}, {err: lost}, {err: lost}, {err: lost}, {err: lost}, {err: lost}, {err: lost}, {err: lost}, {err: lost}, {outcome: good}},
			state: v1alpha1.StateComplete, why: "Synchronized", attempts: 10, result: good.Result,
			// 10+20+40+80+160+320+360+360+360 s
			least: 1282 * time.Second, most: 2138 * time.Second,
		},
		"partial": {
			reason: "an attempt that left something undone has failed, and is made again",
			steps:  []step{{outcome: partial}},
			state:  v1alpha1.StateFailed, why: ReasonBackoffLimitExceeded, message: "attempt 1 of 1: 1 failures, the first: /test/a: may not be read", attempts: 1, result: partial.Result,
		},
		"permanent": {
			reason:  "is not tried again",
			retries: 6, steps: []step{{err: fmt.Errorf("run: %w", Permanent(missingRoot{}))}},
			state: v1alpha1.StateFailed, why: "RootMissing", message: "run: /test is not there", attempts: 1,
		},
		"permanent without a reason": {
			retries: 6, steps: []step{{err: Permanent(lost)}},
			state: v1alpha1.StateFailed, why: ReasonPermanent, message: lost.Error(), attempts: 1,
		},
		"deadline within an attempt": {
			retries: 6, deadline: 90, steps: []step{{takes: time.Hour}},
			state: v1alpha1.StateFailed, why: ReasonDeadlineExceeded, message: "spec.activeDeadlineSeconds, 90 s", attempts: 1, least: 90 * time.Second, most: 90 * time.Second,
		},
		"deadline between attempts": {
			retries: 6, deadline: 5, steps: []step{{err: lost}},
			state: v1alpha1.StateFailed, why: ReasonDeadlineExceeded, attempts: 2, least: 5 * time.Second, most: 5 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				attempt := func(ctx context.Context, progress func(v1alpha1.SynchronizationResult)) (Outcome, error) {
					s := c.steps[calls]
					calls++
					select {
					case <-ctx.Done():
						return s.outcome, ctx.Err()
					case <-time.After(s.takes):
						return s.outcome, s.err
					}
				}
				began := time.Now()
				got := Execute(t.Context(), wanted("a", c.retries, c.deadline), attempt, ExecuteOptions{})
				took := time.Since(began)
				if took < c.least || took > max(c.least, c.most) {
					t.Errorf("%s: took %s, want %s to %s", c.reason, took, c.least, c.most)
				}
				if got.State != c.state || got.Attempts != c.attempts || got.Result != c.result || got.ObservedGeneration != 3 {
					t.Errorf("%s: %+v", c.reason, got)
				}
				condition := v1alpha1.ConditionFailed
				if c.state == v1alpha1.StateComplete {
					condition = v1alpha1.ConditionComplete
				}
				if len(got.Conditions) != 1 || got.Conditions[0].Type != condition || got.Conditions[0].Status != "True" ||
					got.Conditions[0].Reason != c.why || !strings.Contains(got.Conditions[0].Message, c.message) {
					t.Errorf("%s: conditions %+v, want %s because of %s: %s", c.reason, got.Conditions, condition, c.why, c.message)
				}
				if got.StartTime == nil || got.CompletionTime == nil || got.CompletionTime.Sub(got.StartTime.Time) != took {
					t.Errorf("times %v to %v, want %s between", got.StartTime, got.CompletionTime, took)
				}
			})
		})
	}
}

// TestExecuteCutOff: what the end of the process has cut off goes on as it was.
func TestExecuteCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := wanted("a", 1, 600)
		began := time.Now()
		calls := 0
		attempt := func(ctx context.Context, progress func(v1alpha1.SynchronizationResult)) (Outcome, error) {
			calls++
			if calls == 1 {
				return Outcome{}, errors.New("no")
			}
			progress(v1alpha1.SynchronizationResult{Created: 5})
			<-ctx.Done()
			return Outcome{Result: v1alpha1.SynchronizationResult{Created: 6}}, ctx.Err()
		}
		for range 3 { // however often
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Minute, cancel)
			s.Status = Execute(ctx, s, attempt, ExecuteOptions{})
			if s.Status.State != v1alpha1.StateRunning || s.Status.CompletionTime != nil || len(s.Status.Conditions) != 0 || s.Status.Attempts != 2 {
				t.Fatalf("cut off: %+v, want Running at attempt 2", s.Status)
			}
		}
		s.Status = Execute(t.Context(), s, attempt, ExecuteOptions{})
		if s.Status.Conditions[0].Reason != ReasonDeadlineExceeded || time.Since(began) != 10*time.Minute {
			t.Errorf("after %s: %+v, want the deadline, counted from the first start", time.Since(began), s.Status)
		}
	})
}

func TestExecuteReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		attempt := func(_ context.Context, progress func(v1alpha1.SynchronizationResult)) (Outcome, error) {
			progress(v1alpha1.SynchronizationResult{Created: 1})
			if len(got) < 3 {
				return Outcome{}, errors.New("no")
			}
			return Outcome{Result: v1alpha1.SynchronizationResult{Created: 2}}, nil
		}
		Execute(t.Context(), wanted("a", 1, 0), attempt, ExecuteOptions{Report: func(s v1alpha1.SynchronizationStatus) {
			got = append(got, fmt.Sprintf("%s %d %d", s.State, s.Attempts, s.Result.Created))
		}})
		want := []string{"Running 1 0", "Running 1 1", "Running 2 0", "Running 2 0", "Running 2 1", "Complete 2 2"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("state, attempt, created (-want +got):\n%s", diff)
		}
	})
}

func TestExecuteNamesFewFailures(t *testing.T) {
	var o Outcome
	for i := range 200 {
		o.Failures = append(o.Failures, v1alpha1.Failure{Object: fmt.Sprint("/", i)})
	}
	o.Result.Failed = 200
	attempt := func(context.Context, func(v1alpha1.SynchronizationResult)) (Outcome, error) { return o, nil }
	got := Execute(t.Context(), wanted("a", 0, 0), attempt, ExecuteOptions{})
	if len(got.Failures) != v1alpha1.MaxFailures || got.Result.Failed != 200 {
		t.Errorf("%d failures named of %d, want %d of 200", len(got.Failures), got.Result.Failed, v1alpha1.MaxFailures)
	}
}
