package status

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// unknown is printed for what is not known: never a zero that was not measured.
const unknown = "unknown"

// Table prints a status for people. The columns are those of kubectl get.
func Table(w io.Writer, p Process) error {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	row := func(cells ...string) { _, _ = fmt.Fprintln(t, strings.Join(cells, "\t")) }
	if len(p.LiveSynchronizations) > 0 || len(p.SynchronizationPlans)+len(p.Synchronizations) == 0 {
		row("NAMESPACE", "NAME", "SUSPENDED", "STATE", "OBJECTS", "OUT OF SYNC", "FAILED", "LAG", "VERIFIED", "AGE")
	}
	for _, l := range p.LiveSynchronizations {
		s := l.Status
		row(l.Namespace, l.Name, strconv.FormatBool(l.Suspend), s.State, num(s.Objects.Total), num(s.Objects.OutOfSync), num(s.Objects.Failed),
			lag(s), verified(s), age(p.At.Sub(l.CreatedAt)))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if err := synchronizations(w, p); err != nil {
		return err
	}
	var b strings.Builder
	for _, l := range p.LiveSynchronizations {
		details(&b, l)
	}
	for _, r := range p.Recoveries {
		recovery(&b, r)
	}
	stream(&b, p)
	_, err := io.WriteString(w, b.String())
	return err
}

// recovery prints how far a Recovery is.
func recovery(b *strings.Builder, r Recovery) {
	s := r.Status
	fmt.Fprintf(b, "\nrecovery %s/%s of %s: %s", r.Namespace, r.Name, r.LiveSynchronization, s.State)
	if s.CompletionTime != nil {
		n := s.Summary
		fmt.Fprintf(b, ", %d restored, %d patched, %d unchanged, %d deleted, %d failed", n.Restored, n.Patched, n.Unchanged, n.Deleted, n.Failed)
	}
	b.WriteByte('\n')
	for _, c := range s.Conditions {
		fmt.Fprintf(b, "  %s: %s\n", c.Reason, c.Message)
	}
	for _, f := range s.Failures {
		fmt.Fprintf(b, "  failed %s: %s\n", strings.Trim(f.Resource+"/"+f.Namespace+"/"+f.Name, "/"), reason(f.Reason, f.Message))
	}
}

// details prints what is not as it should be, with the reason.
func details(b *strings.Builder, l LiveSynchronization) {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for _, c := range l.Status.Conditions {
		if c.Type == "Ready" && c.Status != "True" {
			add("not ready: %s: %s", c.Reason, c.Message)
		}
	}
	for _, c := range l.Status.Components {
		if !c.Ready {
			add("component %s: %s", c.Name, reason(c.Reason, c.Message))
		}
	}
	for _, r := range l.Status.Resources {
		if !r.Ready {
			add("resource %s: %s", r.Resource, reason(r.Reason, r.Message))
		}
	}
	for _, c := range l.Status.Conditions {
		if c.Type != "Ready" && c.Message != "" {
			add("condition %s=%s: %s", c.Type, c.Status, reason(c.Reason, c.Message))
		}
	}
	if h := l.Status.HeldBack; h != nil {
		add("webhooks held back until a recovery: %d, such as %s", h.Count, strings.Join(h.Objects[:min(len(h.Objects), 3)], ", "))
	}
	for _, f := range l.Status.Failing {
		next := ""
		if f.NextTry != nil {
			next = ", tried again at " + f.NextTry.UTC().Format(time.RFC3339)
		}
		add("failing %s: %s%s", f.Object, reason(f.Reason, f.Message), next)
	}
	if n := l.Status.Objects.Failed - int64(len(l.Status.Failing)); n > 0 && len(l.Status.Failing) > 0 {
		add("and %d more failing objects", n)
	}
	if len(lines) == 0 {
		return
	}
	_, _ = fmt.Fprintf(b, "\n%s/%s\n", l.Namespace, l.Name)
	for _, line := range lines {
		_, _ = fmt.Fprintf(b, "  %s\n", line)
	}
}

func stream(b *strings.Builder, p Process) {
	if !p.Stream.Ready {
		_, _ = fmt.Fprintf(b, "\nstream (%s): %s\n", p.Stream.Kind, cmp.Or(p.Stream.Message, "not ready"))
	}
	for _, w := range p.Stream.Warnings {
		_, _ = fmt.Fprintf(b, "\nstream (%s): %s\n", p.Stream.Kind, w)
	}
	if p.Manifests.Error != "" {
		_, _ = fmt.Fprintf(b, "\nmanifests: in error, those read at %s stay in effect:\n%s\n", p.Manifests.LoadedAt.UTC().Format(time.RFC3339), p.Manifests.Error)
	}
}

func reason(reason, message string) string {
	switch {
	case message == "":
		return cmp.Or(reason, "not ready")
	case reason == "":
		return message
	}
	return reason + ": " + message
}

func num(n int64) string { return strconv.FormatInt(n, 10) }

func lag(s v1alpha1.LiveSynchronizationStatus) string {
	if s.Lag == nil {
		return unknown
	}
	return age(s.Lag.Duration)
}

// verified is how old the proof is that the destination holds everything.
func verified(s v1alpha1.LiveSynchronizationStatus) string {
	if s.RPO == nil {
		return unknown
	}
	return age(s.RPO.Duration) + " ago"
}

// age rounds a duration to what a reader needs of it.
func age(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	return strconv.Itoa(int(d.Hours()/24)) + "d"
}

// Line is a status in one line, for a terminal that shows progress: the sums, the
// largest lag and the oldest proof of all LiveSynchronizations, and how many plans and
// runs there are.
func Line(p Process) string {
	var (
		states      []string
		objects     v1alpha1.ObjectCounts
		all         v1alpha1.LiveSynchronizationStatus
		unknownLag  bool
		neverProved bool
	)
	for _, l := range p.LiveSynchronizations {
		s := l.Status
		states = append(states, s.State)
		objects.Total += s.Objects.Total
		objects.OutOfSync += s.Objects.OutOfSync
		objects.Failed += s.Objects.Failed
		all.Lag, unknownLag = larger(all.Lag, s.Lag), unknownLag || s.Lag == nil
		all.RPO, neverProved = larger(all.RPO, s.RPO), neverProved || s.RPO == nil
	}
	if unknownLag {
		all.Lag = nil
	}
	if neverProved {
		all.RPO = nil
	}
	runs := runsLine(p)
	if len(p.LiveSynchronizations) == 0 && runs != "" {
		return runs
	}
	return strings.TrimRight(fmt.Sprintf("%s  %d objects, %d out of sync, %d failed, lag %s, verified %s  %s",
		summary(states), objects.Total, objects.OutOfSync, objects.Failed, lag(all), verified(all), runs), " ")
}

func larger(a, b *metav1.Duration) *metav1.Duration {
	if a == nil || (b != nil && b.Duration > a.Duration) {
		return b
	}
	return a
}

// summary of states: the state of one, the counts of several.
func summary(states []string) string {
	slices.Sort(states)
	counts := slices.Compact(slices.Clone(states))
	if len(counts) == 1 {
		return counts[0]
	}
	for i, state := range counts {
		n := 0
		for _, s := range states {
			if s == state {
				n++
			}
		}
		counts[i] = fmt.Sprintf("%d %s", n, state)
	}
	return strings.Join(counts, ", ")
}
