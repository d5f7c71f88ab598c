package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// LiveSynchronization keeps objects of a source cluster, or nodes of a source
// database, alive in a destination.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=livesynchronizations,singular=livesynchronization,shortName=livesync,categories=afterimage
// +kubebuilder:printcolumn:name="Suspended",type=boolean,JSONPath=`.spec.suspend`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Objects",type=integer,JSONPath=`.status.objects.total`
// +kubebuilder:printcolumn:name="Out Of Sync",type=integer,JSONPath=`.status.objects.outOfSync`
// +kubebuilder:printcolumn:name="Lag",type=string,JSONPath=`.status.lag`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type LiveSynchronization struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what the user asks for.
	// +required
	Spec LiveSynchronizationSpec `json:"spec"`
	// Status is what is known, and since when.
	Status LiveSynchronizationStatus `json:"status,omitempty"`
}

// LiveSynchronizationSpec is what the user asks for.
type LiveSynchronizationSpec struct {
	PluginRules `json:",inline"`

	// Suspend stops every write to the destination and the bucket within 5 s of
	// the change. Changes in the source are still logged, so nothing is missed and
	// everything is replicated on resume. Default false.
	// +optional
	// +kubebuilder:default=false
	Suspend bool `json:"suspend,omitempty"`
	// Plugin chooses what is synchronized. kubernetes-objects-to-kubernetes, or
	// zookeeper-to-zookeeper-nodes, whose other name is zookeeper-nodes-to-zookeeper.
	// +required
	// +kubebuilder:validation:Enum=kubernetes-objects-to-kubernetes;zookeeper-to-zookeeper-nodes;zookeeper-nodes-to-zookeeper
	Plugin string `json:"plugin"`
	// Config of the plugin.
	// +required
	Config LiveSynchronizationConfig `json:"config"`
}

// LiveSynchronizationConfig configures the plugin, in every kind that has one:
// which of the fields belong to which plugin is in the rules of [PluginRules].
type LiveSynchronizationConfig struct {
	// SourceName is the KubernetesCluster or Database read from, in the same
	// namespace.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	SourceName string `json:"sourceName"`
	// DestinationName is the KubernetesCluster or Database written to, in the same
	// namespace.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	DestinationName string `json:"destinationName"`
	// BucketName is the Bucket that stores the originals, in the same namespace.
	// Default: none is stored.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!self.contains('/')",message="must be the name of a Bucket in the namespace of the LiveSynchronization or Synchronization; a name with / is not accepted"
	BucketName string `json:"bucketName,omitempty"`
	// ResyncPeriod between two full comparisons of a LiveSynchronization; the one in
	// replication wins. A Synchronization, which is one comparison, does not use it.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^(0|([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+)$`
	ResyncPeriod *metav1.Duration `json:"resyncPeriod,omitempty"`
	// Replication says which objects are replicated, and how: required by
	// kubernetes-objects-to-kubernetes.
	// +optional
	Replication Replication `json:"replication,omitzero"`
	// What zookeeper-to-zookeeper-nodes replicates, and how.
	NodesConfig `json:",inline"`
	// Observability of the components.
	// +optional
	Observability Observability `json:"observability,omitempty"`
	// Components configures the processes that do the work.
	// +optional
	Components Components `json:"components,omitempty"`
}

// Duration is a Go duration such as 3h25m12s.
type Duration = metav1.Duration

// Replication says which objects are replicated, and how.
type Replication struct {
	// ResyncPeriod between two full comparisons of source, log and destination, as
	// a Go duration such as 3h25m12s. Default 1h. 0s: never.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^(0|([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+)$`
	ResyncPeriod *metav1.Duration `json:"resyncPeriod,omitempty"`
	// ForceNamespaceCreation creates a namespace that is missing at the
	// destination, with the labels and annotations it has in the source, and keeps
	// these up to date; it never deletes one. Default false: an object waits for
	// its namespace and is shown as failing until then.
	// +optional
	ForceNamespaceCreation bool `json:"forceNamespaceCreation,omitempty"`
	// AdoptExisting takes over objects of the same name that Afterimage did not
	// create. Adopted objects are never deleted. Default false: they are left
	// alone and shown as failing (NotOwned).
	// +optional
	AdoptExisting bool `json:"adoptExisting,omitempty"`
	// RecreateOnImmutable deletes and recreates an object when the destination
	// refuses a change of an immutable field. Default false: it is shown as failing.
	// +optional
	RecreateOnImmutable bool `json:"recreateOnImmutable,omitempty"`
	// DeletionPolicy for objects that were deleted in the source or left the
	// selection: Delete or Orphan. Default: Delete, and Orphan for
	// PersistentVolumeClaims.
	// +optional
	// +kubebuilder:validation:Enum=Delete;Orphan
	DeletionPolicy string `json:"deletionPolicy,omitempty"`
	// IncludeSystemNamespaces also covers namespaces whose name begins with kube-
	// or openshift. Default false.
	// +optional
	IncludeSystemNamespaces bool `json:"includeSystemNamespaces,omitempty"`
	// IncludeControlled also covers objects with a controller owner, such as the
	// ReplicaSets of a Deployment. Default false: the destination makes its own.
	// +optional
	IncludeControlled bool `json:"includeControlled,omitempty"`
	// IncludeGenerated also covers what every cluster makes by itself:
	// kube-root-ca.crt, openshift-service-ca.crt and ServiceAccount token Secrets.
	// Default false.
	// +optional
	IncludeGenerated bool `json:"includeGenerated,omitempty"`
	// KeepNodePorts keeps the node ports of Services. Default false.
	// +optional
	KeepNodePorts bool `json:"keepNodePorts,omitempty"`
	// HoldBackWebhooks keeps from the destination what would block writes there
	// while the Services behind it do not run: mutating and validating webhook
	// configurations are not copied, and definitions of custom resources are copied
	// without their conversion webhook. A recovery releases them. Default true.
	// +optional
	// +kubebuilder:default=true
	HoldBackWebhooks *bool `json:"holdBackWebhooks,omitempty"`
	// Resources to replicate. An object that several entries match takes the first.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=500
	Resources []Resource `json:"resources"`
}

// The deletion policies.
const (
	DeletionPolicyDelete = "Delete"
	DeletionPolicyOrphan = "Orphan"
)

// Resource is one entry of the resources to replicate.
type Resource struct {
	// Group of the resource; empty or absent: the core group.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?$`
	// +kubebuilder:validation:XValidation:rule="self != 'core'",message="the core group is written as the empty string, or left out"
	Group string `json:"group,omitempty"`
	// Version of the resource, such as v1.
	// +required
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z]([-a-z0-9]*[a-z0-9])?$`
	Version string `json:"version"`
	// Resource in the plural, such as deployments; a kind or singular is resolved
	// by asking the source.
	// +required
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[A-Za-z]([-A-Za-z0-9]*[A-Za-z0-9])?$`
	Resource string `json:"resource"`
	// Transformation of the object on its way to the destination.
	// +optional
	Transformation *Transformation `json:"transformation,omitempty"`
	// Filters, all of which must match. Default: every object.
	// +optional
	Filters *Filters `json:"filters,omitempty"`
	// RecoveryProcess says what a recovery does with the object. Default: it is
	// left as it is.
	// +optional
	RecoveryProcess *RecoveryProcess `json:"recoveryProcess,omitempty"`
}

// Transformation changes an object on its way to the destination. The object in
// the source is never touched.
type Transformation struct {
	// PatchOptions tune how the patch is applied.
	// +optional
	PatchOptions PatchOptions `json:"patchOptions,omitempty"`
	// Patch is applied in order, wholly or not at all.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	Patch []PatchOperation `json:"patch,omitempty"`
}

// PatchOptions tune how a patch is applied.
type PatchOptions struct {
	// SkipIfNotFoundOnDelete makes a remove of a missing field no error. Default
	// false.
	// +optional
	SkipIfNotFoundOnDelete bool `json:"skipIfNotFoundOnDelete,omitempty"`
}

// PatchOperation is an RFC 6902 operation.
type PatchOperation struct {
	// Op is add, replace, remove or delete (= remove).
	// +required
	// +kubebuilder:validation:Enum=add;replace;remove;delete
	Op string `json:"op"`
	// Path is a JSON pointer (RFC 6901), such as /spec/replicas; in a field's name
	// ~ is written ~0 and / is written ~1.
	// +required
	// +kubebuilder:validation:MaxLength=4096
	// +kubebuilder:validation:Pattern=`^(/([^~/]|~[01])*)+$`
	Path string `json:"path"`
	// Value is any JSON, null included. It is required for add and replace and
	// ignored for remove.
	// +optional
	// +nullable
	Value *apiextensionsv1.JSON `json:"value,omitempty"`
}

// Filters choose among the objects of a resource; all must match.
type Filters struct {
	// NameSelector matches the name of the object.
	// +optional
	NameSelector *NameSelector `json:"nameSelector,omitempty"`
	// Selector matches the labels of the object.
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
	// NamespaceSelector matches the labels of the object's namespace. It is ignored
	// for cluster-scoped objects, except Namespaces, which it matches by their own
	// labels.
	// +optional
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
}

// NameSelector matches whole names, by RE2 expressions or, where a pattern is
// none, by globs.
type NameSelector struct {
	// Regex: one of these must match. Default: every name does.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=1024
	Regex []string `json:"regex,omitempty"`
	// IncludeRegex is an alias of regex; the patterns of both count.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=1024
	IncludeRegex []string `json:"includeRegex,omitempty"`
	// ExcludeRegex: none of these may match; wins over regex.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=1024
	ExcludeRegex []string `json:"excludeRegex,omitempty"`
}

// RecoveryProcess says what a recovery does with the objects of an entry.
type RecoveryProcess struct {
	// PatchOptions tune how fromPatch is applied.
	// +optional
	PatchOptions PatchOptions `json:"patchOptions,omitempty"`
	// FromPatch is applied to the object in the destination or, with fromOriginal,
	// to the original.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	FromPatch []PatchOperation `json:"fromPatch,omitempty"`
	// FromOriginal replaces the object by its original from the bucket.
	// +optional
	FromOriginal *FromOriginal `json:"fromOriginal,omitempty"`
}

// FromOriginal restores the original from the bucket.
type FromOriginal struct {
	// Enabled replaces the object in the destination by the original; it needs
	// bucketName. Default false.
	// +optional
	Enabled bool `json:"enabled,omitempty"`
}

// Observability of the components.
type Observability struct {
	// Enabled serves metrics. Default false.
	// +optional
	Enabled bool `json:"enabled,omitempty"`
	// Interval to gather metrics, as a Go duration such as 30s. Default 30s.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^(0|([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+)$`
	Interval *metav1.Duration `json:"interval,omitempty"`
}

// Components of a LiveSynchronization. A change of one touches only that one.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.stream) && has(self.nats))",fieldPath=".nats",message="nats is an alias of stream: set one of the two"
// +kubebuilder:validation:XValidation:rule="!(has(self.state) && has(self.redis))",fieldPath=".redis",message="redis is an alias of state: set one of the two"
type Components struct {
	// EventsListener reads the source and appends every change to the log.
	// +optional
	EventsListener *Component `json:"eventsListener,omitempty"`
	// Processor filters and transforms what is in the log.
	// +optional
	Processor *Component `json:"processor,omitempty"`
	// Reconciler compares both clusters every resyncPeriod.
	// +optional
	Reconciler *Component `json:"reconciler,omitempty"`
	// Restorer recovers the destination.
	// +optional
	Restorer *Component `json:"restorer,omitempty"`
	// Synchronizer writes to the destination.
	// +optional
	Synchronizer *Component `json:"synchronizer,omitempty"`
	// Stream is the log.
	// +optional
	Stream *Component `json:"stream,omitempty"`
	// NATS is an alias of stream.
	// +optional
	NATS *Component `json:"nats,omitempty"`
	// State is what the components remember.
	// +optional
	State *Component `json:"state,omitempty"`
	// Redis is an alias of state.
	// +optional
	Redis *Component `json:"redis,omitempty"`
	// MetricsExporter serves metrics computed from the log.
	// +optional
	MetricsExporter *Component `json:"metricsExporter,omitempty"`
}

// Component configures one of them.
type Component struct {
	// LogLevel: debug, info, warn or error. Default info.
	// +optional
	// +kubebuilder:validation:Enum=debug;info;warn;error
	LogLevel string `json:"logLevel,omitempty"`
	// ImagePullPolicy of the container: Always, IfNotPresent or Never. Default:
	// that of Kubernetes. Without effect in standalone mode.
	// +optional
	// +kubebuilder:validation:Enum=Always;IfNotPresent;Never
	ImagePullPolicy corev1.PullPolicy `json:"imagePullPolicy,omitempty"`
	// Resources of the container. Default: none asked for. Without effect in
	// standalone mode.
	// +optional
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`
	// ConcurrentTasks at a time. Default: 32 writes for the synchronizer, 4
	// resources compared for the reconciler. The eventslistener reads every resource
	// at once and the processor every partition: for these it has no effect.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1024
	ConcurrentTasks *int32 `json:"concurrentTasks,omitempty"`
	// Replicas of the process. Default 1. Without effect in standalone mode.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Replicas *int32 `json:"replicas,omitempty"`
}
