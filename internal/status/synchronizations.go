package status

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// synchronizations prints the plans and the runs, each as kubectl get prints them, and
// then what is wrong with any.
func synchronizations(w io.Writer, p Process) error {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	row := func(cells ...string) { _, _ = fmt.Fprintln(t, strings.Join(cells, "\t")) }
	gap := len(p.LiveSynchronizations) > 0 // between this table and the one before
	if len(p.SynchronizationPlans) > 0 {
		if gap {
			row()
		}
		gap = true
		row("NAMESPACE", "NAME", "SCHEDULE", "TIMEZONE", "SUSPEND", "ACTIVE", "LAST SCHEDULE", "NEXT SCHEDULE", "MISSED")
		for _, l := range p.SynchronizationPlans {
			s := l.Status
			row(l.Namespace, l.Name, l.Schedule, cmp.Or(l.TimeZone, none), strconv.FormatBool(l.Suspend), strconv.Itoa(len(s.Active)),
				ago(p.At, s.LastScheduleTime), in(p.At, s.NextScheduleTime), num(s.MissedRuns))
		}
	}
	if err := t.Flush(); err != nil { // the columns of the runs are others
		return err
	}
	if len(p.Synchronizations) > 0 {
		if gap {
			row()
		}
		row("NAMESPACE", "NAME", "STATE", "CREATED", "UPDATED", "DELETED", "UNCHANGED", "SKIPPED", "FAILED", "DURATION", "AGE")
		for _, l := range p.Synchronizations {
			r := l.Status.Result
			row(l.Namespace, l.Name, l.Status.State, num(r.Created), num(r.Updated), num(r.Deleted), num(r.Unchanged), num(r.Skipped), num(r.Failed),
				took(p.At, l.Status), born(p.At, l.CreatedAt))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	var b strings.Builder
	for _, l := range p.SynchronizationPlans {
		if c := l.readiness(); !l.Ready() {
			fmt.Fprintf(&b, "\nplan %s/%s\n  not ready: %s\n", l.Namespace, l.Name, reason(c.Reason, c.Message))
		}
	}
	for _, l := range p.Synchronizations {
		troubles(&b, l)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// none is printed for what there is not.
const none = "<none>"

// troubles prints why a run is not as it should be.
func troubles(b *strings.Builder, l Synchronization) {
	var lines []string
	if l.Refused != "" {
		lines = append(lines, "refused: "+l.Refused)
	}
	for _, c := range l.Status.Conditions {
		if c.Type == v1alpha1.ConditionFailed && c.Status == metav1.ConditionTrue {
			lines = append(lines, "failed: "+reason(c.Reason, c.Message))
		}
	}
	for _, f := range l.Status.Failures {
		lines = append(lines, fmt.Sprintf("failed %s: %s", f.Object, reason(f.Reason, f.Message)))
	}
	if n := l.Status.Result.Failed - int64(len(l.Status.Failures)); n > 0 && len(l.Status.Failures) > 0 {
		lines = append(lines, fmt.Sprintf("and %d more failures", n))
	}
	if len(lines) > 0 {
		fmt.Fprintf(b, "\nsynchronization %s/%s\n  %s\n", l.Namespace, l.Name, strings.Join(lines, "\n  "))
	}
}

// readiness is the condition Ready of a plan.
func (l SynchronizationPlan) readiness() metav1.Condition {
	for _, c := range l.Status.Conditions {
		if c.Type == "Ready" {
			return c
		}
	}
	return metav1.Condition{Reason: unknown}
}

// Ready tells whether a plan runs its schedule, or rests because that is wanted.
func (l SynchronizationPlan) Ready() bool {
	c := l.readiness()
	return c.Status == metav1.ConditionTrue || l.Suspend && c.Reason == "Suspended"
}

func ago(now time.Time, t *metav1.Time) string {
	if t == nil {
		return none
	}
	return age(now.Sub(t.Time)) + " ago"
}

// in is how far off a moment is; one that has passed is about to be acted upon.
func in(now time.Time, t *metav1.Time) string {
	switch {
	case t == nil:
		return none
	case !t.After(now):
		return "now"
	}
	return "in " + age(t.Sub(now))
}

// took is how long a run took, or has taken until now.
func took(now time.Time, s v1alpha1.SynchronizationStatus) string {
	switch {
	case s.StartTime == nil:
		return none
	case s.CompletionTime != nil:
		now = s.CompletionTime.Time
	}
	return age(now.Sub(s.StartTime.Time))
}

func born(now, at time.Time) string {
	if at.IsZero() {
		return none
	}
	return age(now.Sub(at))
}

// runsLine is the plans and runs in a few words; empty where there are none.
func runsLine(p Process) string {
	var parts []string
	if n := len(p.SynchronizationPlans); n > 0 {
		parts = append(parts, fmt.Sprintf("plans: %d", n))
	}
	if len(p.Synchronizations) > 0 {
		var states []string
		for _, l := range p.Synchronizations {
			states = append(states, l.Status.State)
		}
		parts = append(parts, "runs: "+summary(states))
	}
	return strings.Join(parts, ", ")
}
