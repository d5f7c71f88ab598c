package synchronization

import (
	"cmp"
	"slices"
	"time"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// expired are the names of the runs of a plan that are not remembered any longer: by
// their own ttlSecondsAfterFinished or by the plan's history limits. next is when the
// next one's time is over; zero: never.
func expired(plan *v1alpha1.SynchronizationPlanSpec, runs map[string]*v1alpha1.Synchronization, now time.Time) (names []string, next time.Time) {
	var good, bad []*v1alpha1.Synchronization
	for name, s := range runs {
		if !finished(s) {
			continue
		}
		switch end, limited := forgetAt(s); {
		case limited && !now.Before(end):
			names = append(names, name)
			continue
		case limited && (next.IsZero() || end.Before(next)):
			next = end
		}
		if s.Status.State == v1alpha1.StateComplete {
			good = append(good, s)
		} else {
			bad = append(bad, s)
		}
	}
	names = append(names, oldest(good, limit(plan.SuccessfulRunsHistoryLimit, v1alpha1.DefaultSuccessfulRunsHistoryLimit))...)
	names = append(names, oldest(bad, limit(plan.FailedRunsHistoryLimit, v1alpha1.DefaultFailedRunsHistoryLimit))...)
	slices.Sort(names)
	return names, next
}

// forgetAt is when a finished run's time is over.
func forgetAt(s *v1alpha1.Synchronization) (at time.Time, limited bool) {
	if s.Spec.TTLSecondsAfterFinished == nil || s.Status.CompletionTime == nil {
		return time.Time{}, false
	}
	return s.Status.CompletionTime.Add(time.Duration(*s.Spec.TTLSecondsAfterFinished) * time.Second), true
}

// oldest are the names of all but the newest few.
func oldest(runs []*v1alpha1.Synchronization, keep int) (names []string) {
	slices.SortFunc(runs, func(a, b *v1alpha1.Synchronization) int {
		return cmp.Or(a.Status.StartTime.Compare(b.Status.StartTime.Time), cmp.Compare(a.Name, b.Name))
	})
	for _, s := range runs[:max(0, len(runs)-keep)] {
		names = append(names, s.Name)
	}
	return names
}

func limit(n *int32, or int) int {
	if n == nil {
		return or
	}
	return int(*n)
}
