package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// States of a LiveSynchronization.
const (
	StateReady       = "Ready"
	StateProgressing = "Progressing"
	StateFailed      = "Failed"
	StateSuspended   = "Suspended"
	StateTerminating = "Terminating"
)

// LiveSynchronizationStatus is what is known, and since when.
type LiveSynchronizationStatus struct {
	// State is Ready, Progressing, Failed, Suspended or Terminating.
	State string `json:"state,omitempty"`
	// Conditions say what the state is made of, and why.
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// ObservedGeneration is the generation of the spec this status is about.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Objects counts what is covered.
	Objects ObjectCounts `json:"objects,omitempty"`
	// LastSyncTime is when an object was last written to the destination.
	LastSyncTime *metav1.MicroTime `json:"lastSyncTime,omitempty"`
	// LastResyncTime is when a full comparison last ended.
	LastResyncTime *metav1.MicroTime `json:"lastResyncTime,omitempty"`
	// Lag is the age of the oldest change that is logged and not yet applied.
	Lag *metav1.Duration `json:"lag,omitempty"`
	// VerifiedAt is the moment up to which the destination is known to hold
	// everything; absent while unknown.
	VerifiedAt *metav1.MicroTime `json:"verifiedAt,omitempty"`
	// RPO is now less verifiedAt; absent while unknown.
	RPO *metav1.Duration `json:"rpo,omitempty"`
	// Components and their health.
	// +listType=map
	// +listMapKey=name
	Components []ComponentStatus `json:"components,omitempty"`
	// Resources that are waited for or cannot be read, and why.
	// +listType=atomic
	Resources []ResourceStatus `json:"resources,omitempty"`
	// Failing objects, at most 50.
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=50
	Failing []FailingObject `json:"failing,omitempty"`
	// HeldBack is what replication.holdBackWebhooks keeps from the destination
	// until a recovery; absent: nothing. It does not make anything not ready.
	HeldBack *HeldBackObjects `json:"heldBack,omitempty"`
}

// HeldBackObjects are kept from the destination until a recovery: webhook
// configurations wholly, definitions of custom resources as to their conversion.
type HeldBackObjects struct {
	// Count of them.
	Count int64 `json:"count"`
	// Objects as <group>/<version>/<resource>/<namespace>/<name>, at most 50.
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=50
	Objects []string `json:"objects,omitempty"`
}

// ObjectCounts counts the covered objects.
type ObjectCounts struct {
	// Total is how many objects the destination must hold.
	Total int64 `json:"total"`
	// Sync is how many of them it does hold, as they must be.
	Sync int64 `json:"sync"`
	// OutOfSync is how many it does not hold as they must be.
	OutOfSync int64 `json:"outOfSync"`
	// Failed is how many of those were tried in vain and are tried again.
	Failed int64 `json:"failed"`
}

// ComponentStatus is the health of one component.
type ComponentStatus struct {
	// Name of the component, such as eventslistener.
	Name string `json:"name"`
	// Ready: it runs and reaches what it needs.
	Ready bool `json:"ready"`
	// Reason why not, in one word.
	Reason string `json:"reason,omitempty"`
	// Message says what is wrong and what would help.
	Message string `json:"message,omitempty"`
}

// ResourceStatus is the health of one resource entry.
type ResourceStatus struct {
	// Resource is <group>/<version>/<resource>.
	Resource string `json:"resource"`
	// Ready: it is served, listed and watched.
	Ready bool `json:"ready"`
	// Reason why not, in one word.
	Reason string `json:"reason,omitempty"`
	// Message says what is wrong and what would help.
	Message string `json:"message,omitempty"`
}

// FailingObject is an object that is not as it should be at the destination.
type FailingObject struct {
	// Object is <group>/<version>/<resource>/<namespace>/<name>.
	Object string `json:"object"`
	// Reason in one word.
	Reason string `json:"reason"`
	// Message is what the destination answered, or what is wrong.
	Message string `json:"message"`
	// NextTry is when it is tried again.
	NextTry *metav1.Time `json:"nextTry,omitempty"`
}

// LiveSynchronizationList is a list of LiveSynchronization.
//
// +kubebuilder:object:root=true
type LiveSynchronizationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []LiveSynchronization `json:"items"`
}
