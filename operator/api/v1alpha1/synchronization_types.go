package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Synchronization makes a destination equal to its source: once, like a Job. To
// run it again create another one.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=synchronizations,singular=synchronization,shortName=sync,categories=afterimage
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Created",type=integer,JSONPath=`.status.result.created`
// +kubebuilder:printcolumn:name="Updated",type=integer,JSONPath=`.status.result.updated`
// +kubebuilder:printcolumn:name="Deleted",type=integer,JSONPath=`.status.result.deleted`
// +kubebuilder:printcolumn:name="Unchanged",type=integer,JSONPath=`.status.result.unchanged`
// +kubebuilder:printcolumn:name="Skipped",type=integer,JSONPath=`.status.result.skipped`
// +kubebuilder:printcolumn:name="Failed",type=integer,JSONPath=`.status.result.failed`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Synchronization struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what the user asks for. It cannot be changed.
	// +required
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="cannot be changed, because a synchronization runs once: create another Synchronization"
	Spec SynchronizationSpec `json:"spec"`
	// Status is what has been done.
	Status SynchronizationStatus `json:"status,omitempty"`
}

// DefaultBackoffLimit is how often a run is tried again. A Job has 6; here a lost
// connection is mended within an attempt already, so that an attempt that fails
// failed for another reason, and each costs reading both sides.
const DefaultBackoffLimit = 3

// SynchronizationSpec is what the user asks for.
type SynchronizationSpec struct {
	PluginRules `json:",inline"`

	// Plugin chooses what is synchronized: zookeeper-to-zookeeper-nodes, or by its
	// other name zookeeper-nodes-to-zookeeper, or kubernetes-objects-to-kubernetes.
	// +required
	// +kubebuilder:validation:Enum=kubernetes-objects-to-kubernetes;zookeeper-to-zookeeper-nodes;zookeeper-nodes-to-zookeeper
	Plugin string `json:"plugin"`
	// Config of the plugin.
	// +required
	Config LiveSynchronizationConfig `json:"config"`
	// BackoffLimit is how many times a failed attempt is tried again, after 10 s,
	// then each time twice as long, at most 6 minutes. Default 3.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:default=3
	BackoffLimit *int32 `json:"backoffLimit,omitempty"`
	// ActiveDeadlineSeconds is how long the run may take, with all its attempts;
	// then it is stopped and has failed. Default: no limit.
	// +optional
	// +kubebuilder:validation:Minimum=1
	ActiveDeadlineSeconds *int64 `json:"activeDeadlineSeconds,omitempty"`
	// TTLSecondsAfterFinished is how long it is remembered after its end. Default:
	// for good; runs of a SynchronizationPlan as its history limits say.
	// +optional
	// +kubebuilder:validation:Minimum=0
	TTLSecondsAfterFinished *int32 `json:"ttlSecondsAfterFinished,omitempty"`
}

// Retries is backoffLimit or its default.
func (s *SynchronizationSpec) Retries() int32 {
	if s.BackoffLimit == nil {
		return DefaultBackoffLimit
	}
	return *s.BackoffLimit
}

// SynchronizationList is a list of Synchronization.
//
// +kubebuilder:object:root=true
type SynchronizationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Synchronization `json:"items"`
}
