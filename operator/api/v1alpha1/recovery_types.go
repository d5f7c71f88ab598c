package v1alpha1

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Recovery brings the applications of a LiveSynchronization up at its
// destination: once, like a Job. It never contacts the source. To run it again
// (which is safe) create another one.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=recoveries,singular=recovery,categories=afterimage
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="LiveSynchronization",type=string,JSONPath=`.spec.config.liveSynchronizationName`
// +kubebuilder:printcolumn:name="Restored",type=integer,JSONPath=`.status.summary.restored`
// +kubebuilder:printcolumn:name="Failed",type=integer,JSONPath=`.status.summary.failed`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Recovery struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what the user asks for. It cannot be changed.
	// +required
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="cannot be changed, because a recovery runs once: create another Recovery"
	Spec RecoverySpec `json:"spec"`
	// Status is what has been done.
	Status RecoveryStatus `json:"status,omitempty"`
}

// RecoverySpec is what the user asks for.
//
// +kubebuilder:validation:XValidation:rule="!has(self.pointInTime) || self.from != 'bucket'",fieldPath=".from",message="must be log or auto with pointInTime: the bucket holds the newest state alone"
// +kubebuilder:validation:XValidation:rule="self.from != 'bucket' || !has(self.config.replication) || has(self.config.bucketName)",fieldPath=".from",message="must be log or auto without bucketName"
type RecoverySpec struct {
	// Plugin chooses what is recovered. The one there is:
	// kubernetes-objects-to-kubernetes.
	// +required
	// +kubebuilder:validation:Enum=kubernetes-objects-to-kubernetes
	Plugin string `json:"plugin"`
	// Config of the plugin.
	// +required
	Config RecoveryConfig `json:"config"`
	// DryRun reports what would be done, and does nothing: the LiveSynchronization
	// is not stopped either. Default false.
	// +optional
	DryRun bool `json:"dryRun,omitempty"`
	// PointInTime rebuilds the destination as the source was at that moment, from
	// the log, as an RFC 3339 time such as 2026-11-25T04:30:00Z. Default: the newest
	// state.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})$`
	// +kubebuilder:validation:Format=date-time
	PointInTime string `json:"pointInTime,omitempty"`
	// Force goes on where a person has to be sure: beyond the limit of deletes, and
	// at a moment at which nobody watched the source. Default false.
	// +optional
	Force bool `json:"force,omitempty"`
	// From is where originals are read: bucket, log, or auto (the bucket, and the
	// log where there is none or it cannot be read). Default auto.
	// +optional
	// +kubebuilder:validation:Enum=bucket;log;auto
	// +kubebuilder:default=auto
	From string `json:"from,omitempty"`
}

// Where originals are read.
const (
	RecoverFromBucket = "bucket"
	RecoverFromLog    = "log"
	RecoverFromAuto   = "auto"
)

// RecoveryConfig names a LiveSynchronization and, where that cannot be read (in
// the destination's own cluster, once the cluster that held it is lost), has its
// whole configuration inline.
//
// +kubebuilder:validation:XValidation:rule="has(self.replication) || !(has(self.sourceName) || has(self.destinationName) || has(self.bucketName) || has(self.resyncPeriod) || has(self.observability) || has(self.components))",fieldPath=".replication",reason=FieldValueRequired,message="must be given in an inline configuration, as in the LiveSynchronization; to use the LiveSynchronization itself, set liveSynchronizationName alone"
// +kubebuilder:validation:XValidation:rule="!has(self.replication) || has(self.destinationName)",fieldPath=".destinationName",reason=FieldValueRequired,message="must name the KubernetesCluster to recover in an inline configuration"
// +kubebuilder:validation:XValidation:rule="has(self.replication) || !has(self.liveSynchronizationNamespace)",fieldPath=".liveSynchronizationNamespace",message="is for an inline configuration: a LiveSynchronization that is used itself is in the namespace of the Recovery"
// +kubebuilder:validation:XValidation:rule="!has(self.sourceName) || !has(self.destinationName) || self.sourceName != self.destinationName",fieldPath=".destinationName",message="must name another KubernetesCluster than sourceName"
// +kubebuilder:validation:XValidation:rule="has(self.bucketName) || !has(self.replication) || !self.replication.resources.exists(r, has(r.recoveryProcess) && has(r.recoveryProcess.fromOriginal) && has(r.recoveryProcess.fromOriginal.enabled) && r.recoveryProcess.fromOriginal.enabled)",fieldPath=".bucketName",reason=FieldValueRequired,message="must name the Bucket that recoveryProcess.fromOriginal restores from"
type RecoveryConfig struct {
	// LiveSynchronizationName names the LiveSynchronization that is recovered: its
	// destination is the one recovered, its writers are stopped, its objects are
	// known by its name, and its bucket and log are read.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!self.contains('/')",message="must be the name of a LiveSynchronization; a name with / is not accepted"
	LiveSynchronizationName string `json:"liveSynchronizationName"`
	// LiveSynchronizationNamespace is where that LiveSynchronization is or was;
	// only with an inline configuration. Default: the namespace of the Recovery.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="!self.contains('/')",message="must be the name of a namespace"
	LiveSynchronizationNamespace string `json:"liveSynchronizationNamespace,omitempty"`

	// SourceName is accepted, so that a LiveSynchronization's configuration can be
	// copied as it is, and not used: the source is never contacted.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!self.contains('/')",message="must be the name of a KubernetesCluster in the namespace of the Recovery; a name with / is not accepted"
	SourceName string `json:"sourceName,omitempty"`
	// DestinationName is the KubernetesCluster that is recovered, in the same
	// namespace. Required in an inline configuration.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!self.contains('/')",message="must be the name of a KubernetesCluster in the namespace of the Recovery; a name with / is not accepted"
	DestinationName string `json:"destinationName,omitempty"`
	// BucketName is the Bucket that holds the originals, in the same namespace.
	// Default: none, everything comes from the log.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!self.contains('/')",message="must be the name of a Bucket in the namespace of the Recovery; a name with / is not accepted"
	BucketName string `json:"bucketName,omitempty"`
	// ResyncPeriod is accepted as it is in a LiveSynchronization, and not used.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^(0|([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+)$`
	ResyncPeriod *metav1.Duration `json:"resyncPeriod,omitempty"`
	// Replication says which objects are recovered, and how. Required in an inline
	// configuration.
	// +optional
	Replication *Replication `json:"replication,omitempty"`
	// Observability of the components.
	// +optional
	Observability *Observability `json:"observability,omitempty"`
	// Components: of these the restorer is used.
	// +optional
	Components *Components `json:"components,omitempty"`
}

// Inline returns the configuration that is given inline; ok is false where there
// is none and that of the LiveSynchronization itself counts.
func (c *RecoveryConfig) Inline() (config LiveSynchronizationConfig, ok bool) {
	if c.Replication == nil {
		return LiveSynchronizationConfig{}, false
	}
	config = LiveSynchronizationConfig{
		SourceName: c.SourceName, DestinationName: c.DestinationName, BucketName: c.BucketName,
		ResyncPeriod: c.ResyncPeriod, Replication: *c.Replication.DeepCopy(),
	}
	if c.Observability != nil {
		config.Observability = *c.Observability.DeepCopy()
	}
	if c.Components != nil {
		config.Components = *c.Components.DeepCopy()
	}
	return config, true
}

// LiveSynchronization is the identity of the LiveSynchronization that is
// recovered: whose fence, owner marks, bucket paths and log are used.
func (r *Recovery) LiveSynchronization() types.NamespacedName {
	id := types.NamespacedName{Namespace: r.Spec.Config.LiveSynchronizationNamespace, Name: r.Spec.Config.LiveSynchronizationName}
	if id.Namespace == "" {
		id.Namespace = r.Namespace
	}
	return id
}

// At is the moment that pointInTime names; the zero time where there is none.
func (s *RecoverySpec) At() (time.Time, error) {
	if s.PointInTime == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, s.PointInTime)
	if err != nil {
		return time.Time{}, fmt.Errorf("expected an RFC 3339 time such as 2026-11-25T04:30:00Z: %w", err)
	}
	return t, nil
}
