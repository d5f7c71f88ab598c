package synchronization

import (
	"cmp"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/internal/status"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// reasonStarting: the log was not read yet, or nobody was elected yet.
const reasonStarting = "Starting"

// Status of all plans, and of all runs: as they are where this process runs them, and
// as the log has them where another one does.
func (s *Service) Status() ([]status.SynchronizationPlan, []status.Synchronization) {
	s.mu.Lock()
	members := make([]*member, 0, len(s.members))
	for _, m := range s.members {
		members = append(members, m)
	}
	s.mu.Unlock()
	var plans []status.SynchronizationPlan
	var runs []status.Synchronization
	for _, m := range members {
		if m.plan != nil {
			plans = append(plans, m.planStatus())
		}
		runs = append(runs, m.runStatuses(time.Now())...)
	}
	status.SortSynchronizations(plans, runs)
	return plans, runs
}

func (m *member) planStatus() status.SynchronizationPlan {
	wanted := m.plan.wanted.Load()
	out := status.SynchronizationPlan{
		Namespace: wanted.Namespace, Name: wanted.Name,
		Schedule: wanted.Spec.Schedule, TimeZone: wanted.Spec.TimeZone, Suspend: wanted.Spec.Suspend,
	}
	switch kept := m.ledger.plan(wanted.Name); {
	case m.current().isOpen():
		out.Status = m.plan.load()
	case kept != nil:
		out.Status = kept.Status
	default:
		_, trouble := m.ledger.state()
		out.Status.Conditions = []metav1.Condition{{
			Type: conditionReady, Status: metav1.ConditionFalse, Reason: reasonStarting,
			Message: cmp.Or(trouble, "nothing is known of its schedule yet"),
		}}
	}
	if out.Suspend { // at once; whoever is elected may hear of it later
		out.Status.NextScheduleTime = nil
	}
	return out
}

func (m *member) runStatuses(now time.Time) []status.Synchronization {
	var runs map[string]*v1alpha1.Synchronization
	var wanted *v1alpha1.Synchronization
	refused := ""
	switch t := m.current(); {
	case t.isOpen():
		runs = t.snapshot()
	case m.plan != nil:
		runs = m.ledger.runsOf(m.plan.wanted.Load().Name)
	}
	if m.once != nil {
		wanted = m.once.wanted.Load()
		kept := m.ledger.run(wanted.Name)
		refused = refusal(wanted, kept)
		switch {
		case runs[wanted.Name] != nil:
		case kept != nil && planOf(kept) == "":
			runs = map[string]*v1alpha1.Synchronization{wanted.Name: kept}
		default:
			pending := wanted.DeepCopy()
			pending.Status = v1alpha1.SynchronizationStatus{State: v1alpha1.StatePending}
			runs = map[string]*v1alpha1.Synchronization{wanted.Name: pending}
		}
	}
	var out []status.Synchronization
	for _, s := range runs {
		// The log goes on to know it, or it would be run again; people need not.
		if at, limited := forgetAt(s); limited && !now.Before(at) {
			continue
		}
		out = append(out, status.Synchronization{
			Namespace: m.namespace, Name: s.Name, Plan: planOf(s), Refused: refused,
			CreatedAt: s.CreationTimestamp.Time, Status: s.Status,
		})
	}
	return out
}
