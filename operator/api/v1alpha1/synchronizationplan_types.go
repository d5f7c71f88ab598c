package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// SynchronizationPlan runs a Synchronization by a schedule, like a CronJob. The
// runs are Synchronizations named <plan>-<unix minute>, which is why the name of a
// plan is shorter than others.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=synchronizationplans,singular=synchronizationplan,shortName=syncplan,categories=afterimage
// +kubebuilder:printcolumn:name="Schedule",type=string,JSONPath=`.spec.schedule`
// +kubebuilder:printcolumn:name="Timezone",type=string,JSONPath=`.spec.timeZone`
// +kubebuilder:printcolumn:name="Suspend",type=boolean,JSONPath=`.spec.suspend`
// +kubebuilder:printcolumn:name="Active",type=string,JSONPath=`.status.active[*].name`
// +kubebuilder:printcolumn:name="Last Schedule",type=date,JSONPath=`.status.lastScheduleTime`
// +kubebuilder:printcolumn:name="Next Schedule",type=string,JSONPath=`.status.nextScheduleTime`
// +kubebuilder:printcolumn:name="Missed",type=integer,JSONPath=`.status.missedRuns`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 52",message="metadata.name must be at most 52 characters: a run has the minute of its schedule in its name too"
type SynchronizationPlan struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what the user asks for.
	// +required
	Spec SynchronizationPlanSpec `json:"spec"`
	// Status is what has been run, and when it is next.
	Status SynchronizationPlanStatus `json:"status,omitempty"`
}

// SynchronizationPlanSpec is what the user asks for.
type SynchronizationPlanSpec struct {
	// Schedule in five fields (minute, hour, day of month, month, day of week), or
	// one of @hourly, @daily, @weekly, @monthly and @yearly.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Schedule string `json:"schedule"`
	// TimeZone of the schedule by its IANA name, such as Europe/Madrid. Default:
	// that of the process, which is UTC in a container.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	TimeZone string `json:"timeZone,omitempty"`
	// Suspend starts no further run; one that is running goes on. Default false.
	// +optional
	// +kubebuilder:default=false
	Suspend bool `json:"suspend,omitempty"`
	// ConcurrencyPolicy says what happens when a run is due while the last one still
	// runs: Forbid leaves the new one out, Replace stops the old one, and Allow runs
	// both. Default Forbid.
	// +optional
	// +kubebuilder:validation:Enum=Allow;Forbid;Replace
	// +kubebuilder:default=Forbid
	ConcurrencyPolicy string `json:"concurrencyPolicy,omitempty"`
	// StartingDeadlineSeconds is how late a run may start; one that is later counts
	// as missed. Default: no limit, the latest that is due is started.
	// +optional
	// +kubebuilder:validation:Minimum=0
	StartingDeadlineSeconds *int64 `json:"startingDeadlineSeconds,omitempty"`
	// SuccessfulRunsHistoryLimit is how many runs that ended well are kept. Default 3.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:default=3
	SuccessfulRunsHistoryLimit *int32 `json:"successfulRunsHistoryLimit,omitempty"`
	// FailedRunsHistoryLimit is how many runs that failed are kept. Default 1.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:default=1
	FailedRunsHistoryLimit *int32 `json:"failedRunsHistoryLimit,omitempty"`
	// Template of the Synchronizations.
	// +required
	Template SynchronizationTemplate `json:"template"`
}

// What happens when a run is due while the last one still runs.
const (
	ConcurrencyAllow   = "Allow"
	ConcurrencyForbid  = "Forbid"
	ConcurrencyReplace = "Replace"
)

// The history limits, where nobody says.
const (
	DefaultSuccessfulRunsHistoryLimit = 3
	DefaultFailedRunsHistoryLimit     = 1
)

// SynchronizationTemplate is what the Synchronizations of a plan are made from.
type SynchronizationTemplate struct {
	// Metadata they have besides their name and namespace.
	// +optional
	Metadata TemplateMetadata `json:"metadata,omitempty"`
	// Spec they have.
	// +required
	Spec SynchronizationSpec `json:"spec"`
}

// TemplateMetadata is the part of an object's metadata that a template may have.
type TemplateMetadata struct {
	// Labels of the Synchronizations.
	// +optional
	Labels map[string]string `json:"labels,omitempty"`
	// Annotations of the Synchronizations.
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}

// SynchronizationPlanList is a list of SynchronizationPlan.
//
// +kubebuilder:object:root=true
type SynchronizationPlanList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []SynchronizationPlan `json:"items"`
}
