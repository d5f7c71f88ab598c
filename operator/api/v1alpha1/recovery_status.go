package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// States of a Recovery that no other kind has; it can also be [StateFailed].
const (
	StatePending   = "Pending"
	StateRunning   = "Running"
	StateCompleted = "Completed"
)

// The conditions of a Recovery, one of which becomes True at its end.
const (
	// ConditionComplete: every object was verified in the destination.
	ConditionComplete = "Complete"
	// ConditionFailed: some were not, or nothing could be done at all.
	ConditionFailed = "Failed"
)

// RecoveryStatus is what has been done.
type RecoveryStatus struct {
	// State is Pending, Running, Completed or Failed.
	State string `json:"state,omitempty"`
	// Conditions: Complete and Failed, with what to do.
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// ObservedGeneration is the generation of the spec this status is about.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// StartTime is when it began.
	StartTime *metav1.Time `json:"startTime,omitempty"`
	// CompletionTime is when it ended, also where it failed.
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`
	// Summary counts the objects.
	Summary RecoverySummary `json:"summary,omitempty"`
	// Failures, at most 50.
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=50
	Failures []RecoveryFailure `json:"failures,omitempty"`
	// Term of the fence in the destination that keeps the LiveSynchronization
	// stopped until a person resumes it. 0: it was not raised.
	Term int64 `json:"term,omitempty"`
	// RTO is how long the recovery took.
	RTO *metav1.Duration `json:"rto,omitempty"`
	// RPO is how old the data was when the recovery began: startTime less dataAsOf.
	// Absent while unknown.
	RPO *metav1.Duration `json:"rpo,omitempty"`
	// DataAsOf is the moment of the source that the destination now shows; absent
	// while unknown.
	DataAsOf *metav1.MicroTime `json:"dataAsOf,omitempty"`
}

// RecoverySummary counts what became of the objects.
type RecoverySummary struct {
	// Total is how many objects there are to recover.
	Total int64 `json:"total"`
	// Restored from their originals.
	Restored int64 `json:"restored"`
	// Patched as they were in the destination.
	Patched int64 `json:"patched"`
	// Unchanged: they were as they must be already.
	Unchanged int64 `json:"unchanged"`
	// Failed: they are not as they must be.
	Failed int64 `json:"failed"`
	// Deleted, because they did not exist at pointInTime.
	Deleted int64 `json:"deleted"`
}

// RecoveryFailure is an object that could not be recovered.
type RecoveryFailure struct {
	// Resource is <group>/<version>/<resource>.
	Resource string `json:"resource"`
	// Namespace of the object; absent for a cluster-scoped one.
	Namespace string `json:"namespace,omitempty"`
	// Name of the object.
	Name string `json:"name"`
	// Reason in one word.
	Reason string `json:"reason"`
	// Message is what the destination answered, or what is wrong.
	Message string `json:"message"`
}

// RecoveryList is a list of Recovery.
//
// +kubebuilder:object:root=true
type RecoveryList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Recovery `json:"items"`
}
