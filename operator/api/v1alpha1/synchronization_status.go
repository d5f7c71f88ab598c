package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// StateComplete is a Synchronization's good end; it can also be [StatePending],
// [StateRunning] and [StateFailed]. Its conditions are [ConditionComplete] and
// [ConditionFailed].
const StateComplete = "Complete"

// MaxFailures is how many failures a status names.
const MaxFailures = 50

// SynchronizationStatus is what has been done.
type SynchronizationStatus struct {
	// State is Pending, Running, Complete or Failed.
	State string `json:"state,omitempty"`
	// Conditions: Complete and Failed, one of which becomes True at the end, with
	// what to do.
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// ObservedGeneration is the generation of the spec this status is about.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// StartTime is when it began.
	StartTime *metav1.Time `json:"startTime,omitempty"`
	// CompletionTime is when it ended, also where it failed.
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`
	// Attempts that were begun.
	Attempts int32 `json:"attempts,omitempty"`
	// Result counts the objects or nodes, of the last attempt.
	Result SynchronizationResult `json:"result,omitempty"`
	// Failures, at most 50.
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=50
	Failures []Failure `json:"failures,omitempty"`
}

// SynchronizationResult counts what became of the objects or nodes.
type SynchronizationResult struct {
	// Created in the destination.
	Created int64 `json:"created"`
	// Updated there.
	Updated int64 `json:"updated"`
	// Deleted there.
	Deleted int64 `json:"deleted"`
	// Unchanged: they were as they must be already.
	Unchanged int64 `json:"unchanged"`
	// Skipped: the configuration leaves them out, or they are gone in the source and
	// stay at the destination, because it says so or because they are somebody else's.
	Skipped int64 `json:"skipped"`
	// Failed: they are not as they must be. An object of somebody else that has the
	// name of one of the source is left alone, and is one of these.
	Failed int64 `json:"failed"`
}

// Failure is an object or node that is not as it must be.
type Failure struct {
	// Object is the path of the node, or <group>/<version>/<resource>/<namespace>/<name>.
	Object string `json:"object"`
	// Reason in one word.
	Reason string `json:"reason"`
	// Message is what the destination or source answered, or what is wrong.
	Message string `json:"message"`
}
