package status

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// planned is a process that has plans and runs alone.
func planned() Process {
	at := time.Date(2026, 11, 25, 4, 30, 0, 0, time.UTC)
	moment := func(d time.Duration) *metav1.Time { return &metav1.Time{Time: at.Add(d)} }
	ready := func(status metav1.ConditionStatus, reason, message string) []metav1.Condition {
		return []metav1.Condition{{Type: "Ready", Status: status, Reason: reason, Message: message}}
	}
	return Process{
		At: at, Stream: Stream{Kind: "embedded", Ready: true},
		SynchronizationPlans: []SynchronizationPlan{{
			Namespace: "default", Name: "hourly", Schedule: "@hourly", TimeZone: "Europe/Berlin",
			Status: v1alpha1.SynchronizationPlanStatus{
				LastScheduleTime: moment(-30 * time.Minute), NextScheduleTime: moment(30 * time.Minute), MissedRuns: 2,
				Active: []corev1.LocalObjectReference{{Name: "hourly-1"}}, Conditions: ready("True", "Scheduled", ""),
			},
		}, {
			Namespace: "default", Name: "resting", Schedule: "0 3 * * *", Suspend: true,
			Status: v1alpha1.SynchronizationPlanStatus{Conditions: ready("False", "Suspended", "spec.suspend is true: no run is started")},
		}, {
			Namespace: "other", Name: "new", Schedule: "0 3 * * *",
			Status: v1alpha1.SynchronizationPlanStatus{Conditions: ready("False", "Starting", "no broker answers")},
		}},
		Synchronizations: []Synchronization{{
			Namespace: "default", Name: "hourly-1", Plan: "hourly", CreatedAt: at.Add(-30 * time.Minute),
			Status: v1alpha1.SynchronizationStatus{State: v1alpha1.StateRunning, StartTime: moment(-30 * time.Minute), Result: v1alpha1.SynchronizationResult{Created: 7, Unchanged: 900}},
		}, {
			Namespace: "default", Name: "once", CreatedAt: at.Add(-time.Hour), Refused: "spec: cannot be changed",
			Status: v1alpha1.SynchronizationStatus{
				State: v1alpha1.StateFailed, StartTime: moment(-time.Hour), CompletionTime: moment(-time.Hour + 90*time.Second),
				Result:     v1alpha1.SynchronizationResult{Created: 1, Updated: 2, Deleted: 3, Unchanged: 4, Skipped: 5, Failed: 6},
				Conditions: []metav1.Condition{{Type: "Failed", Status: "True", Reason: "BackoffLimitExceeded", Message: "attempt 4 of 4: 6 failures"}},
				Failures:   []v1alpha1.Failure{{Object: "/test/a", Reason: "NoAuth", Message: "may not be written"}},
			},
		}, {
			Namespace: "default", Name: "waiting", Status: v1alpha1.SynchronizationStatus{State: v1alpha1.StatePending},
		}},
	}
}

func TestTableOfRuns(t *testing.T) {
	var out bytes.Buffer
	if err := Table(&out, planned()); err != nil {
		t.Fatal(err)
	}
	want := `NAMESPACE   NAME      SCHEDULE    TIMEZONE        SUSPEND   ACTIVE   LAST SCHEDULE   NEXT SCHEDULE   MISSED
default     hourly    @hourly     Europe/Berlin   false     1        30m0s ago       in 30m0s        2
default     resting   0 3 * * *   <none>          true      0        <none>          <none>          0
other       new       0 3 * * *   <none>          false     0        <none>          <none>          0

NAMESPACE   NAME       STATE     CREATED   UPDATED   DELETED   UNCHANGED   SKIPPED   FAILED   DURATION   AGE
default     hourly-1   Running   7         0         0         900         0         0        30m0s      30m0s
default     once       Failed    1         2         3         4           5         6        1m30s      1h0m
default     waiting    Pending   0         0         0         0           0         0        <none>     <none>

plan other/new
  not ready: Starting: no broker answers

synchronization default/once
  refused: spec: cannot be changed
  failed: BackoffLimitExceeded: attempt 4 of 4: 6 failures
  failed /test/a: NoAuth: may not be written
  and 5 more failures
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

func TestLineOfRuns(t *testing.T) {
	p := planned()
	if got, want := Line(p), "plans: 3, runs: 1 Failed, 1 Pending, 1 Running"; got != want {
		t.Errorf("line %q, want %q", got, want)
	}
	p.LiveSynchronizations = sample().LiveSynchronizations[:1]
	if got, want := Line(p), "Progressing  312 objects, 0 out of sync, 1 failed, lag 1.5s, verified 4s ago  plans: 3, runs: 1 Failed, 1 Pending, 1 Running"; got != want {
		t.Errorf("line beside a LiveSynchronization %q, want %q", got, want)
	}
}

func TestReady(t *testing.T) {
	complete := Synchronization{Status: v1alpha1.SynchronizationStatus{State: v1alpha1.StateComplete}}
	plan := func(i int) SynchronizationPlan { return planned().SynchronizationPlans[i] }
	live := func(state string) LiveSynchronization {
		return LiveSynchronization{Status: v1alpha1.LiveSynchronizationStatus{State: state}}
	}
	refused := complete
	refused.Refused = "spec: cannot be changed"
	for name, c := range map[string]struct {
		p    Process
		want bool
	}{
		"nothing":               {Process{}, false},
		"live":                  {Process{LiveSynchronizations: []LiveSynchronization{live("Ready")}}, true},
		"live, one not":         {Process{LiveSynchronizations: []LiveSynchronization{live("Ready"), live("Progressing")}}, false},
		"plan":                  {Process{SynchronizationPlans: []SynchronizationPlan{plan(0)}}, true},
		"plan that rests":       {Process{SynchronizationPlans: []SynchronizationPlan{plan(1)}}, true},
		"plan that starts":      {Process{SynchronizationPlans: []SynchronizationPlan{plan(2)}}, false},
		"a run of a plan":       {Process{SynchronizationPlans: []SynchronizationPlan{plan(0)}, Synchronizations: planned().Synchronizations[:1]}, true},
		"complete":              {Process{Synchronizations: []Synchronization{complete}}, true},
		"one of them pending":   {Process{Synchronizations: []Synchronization{complete, planned().Synchronizations[2]}}, false},
		"failed":                {Process{Synchronizations: planned().Synchronizations[1:2]}, false},
		"refused":               {Process{Synchronizations: []Synchronization{refused}}, false},
		"complete, live is not": {Process{Synchronizations: []Synchronization{complete}, LiveSynchronizations: []LiveSynchronization{live("Progressing")}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.p.Ready(); got != c.want {
				t.Errorf("ready: %v, want %v", got, c.want)
			}
		})
	}
}
