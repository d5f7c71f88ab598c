package processor

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// The conditions the processor sets. All are absent while there is nothing to say.
const (
	// ConditionConflict warns that several entries take one object; the first wins.
	ConditionConflict = "Conflict"
	// ConditionConfigurationRejected says that a configuration in the log does
	// not compile, and the one before it stays in force.
	ConditionConfigurationRejected = "ConfigurationRejected"
	// ConditionPruneBlocked says that a change of the configuration would delete
	// more than its limit, and that the deletes wait for a person.
	ConditionPruneBlocked = "PruneBlocked"
)

// status of a partition, for reports.
type status struct {
	pending            time.Time
	held               int64
	waiting            bool
	trouble            string
	conflict, rejected string
	share              share
	withheld           []string // sorted; never changed once it is here
}

func (w *partition) status() status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// note changes what is reported.
func (w *partition) note(change func(*status)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.now)
}

// failed says once that the partition cannot go on; the group starts it again.
func (w *partition) failed(err error) {
	if err == nil {
		return
	}
	w.note(func(s *status) { s.trouble = err.Error() })
	if w.trouble != err.Error() {
		w.trouble = err.Error()
		w.Logger.Error("processing a partition failed and is tried again", "partition", w.number, logging.Err(err))
	}
}

// recovered says once that it goes on again.
func (w *partition) recovered() {
	if w.trouble == "" {
		return
	}
	w.trouble = ""
	w.note(func(s *status) { s.trouble = "" })
	w.Logger.Info("processing a partition goes on", "partition", w.number)
}

func reportConditions(out *v1alpha1.LiveSynchronizationStatus, conflict, rejected, blocked string) {
	set := func(kind, reason, message string) {
		if message == "" {
			return
		}
		meta.SetStatusCondition(&out.Conditions, metav1.Condition{
			Type: kind, Status: metav1.ConditionTrue, Reason: reason, Message: message, ObservedGeneration: out.ObservedGeneration,
		})
	}
	if conflict != "" {
		conflict = "several resource entries take the same object, such as " + conflict + ": the first of them is used"
	}
	set(ConditionConflict, "SeveralEntries", conflict)
	set(ConditionConfigurationRejected, "Invalid", rejected)
	set(ConditionPruneBlocked, "ConfigurationLimit", blocked)
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
