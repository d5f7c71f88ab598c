package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PluginKubernetes replicates Kubernetes objects to another cluster.
const PluginKubernetes = "kubernetes-objects-to-kubernetes"

// LiveSynchronization keeps objects of a source cluster alive in a destination.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
type LiveSynchronization struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   LiveSynchronizationSpec   `json:"spec"`
	Status LiveSynchronizationStatus `json:"status,omitempty"`
}

// LiveSynchronizationSpec is what the user asks for.
type LiveSynchronizationSpec struct {
	// Suspend stops every write to the destination within 5 s; changes in the
	// source are still logged and are replicated on resume.
	Suspend bool `json:"suspend,omitempty"`
	// Plugin chooses what is synchronized.
	Plugin string `json:"plugin"`
	// Config of the plugin.
	Config LiveSynchronizationConfig `json:"config"`
}

// LiveSynchronizationConfig configures the plugin kubernetes-objects-to-kubernetes.
type LiveSynchronizationConfig struct {
	// SourceName is the KubernetesCluster read from, in the same namespace.
	SourceName string `json:"sourceName"`
	// DestinationName is the KubernetesCluster written to, in the same namespace.
	DestinationName string `json:"destinationName"`
	// BucketName is the Bucket that stores the originals, in the same namespace.
	BucketName string `json:"bucketName,omitempty"`
	// ResyncPeriod is accepted here too; the one in replication wins.
	ResyncPeriod *Duration `json:"resyncPeriod,omitempty"`
	// Replication says which objects, and how.
	Replication Replication `json:"replication"`
	// Observability of the components.
	Observability Observability `json:"observability,omitempty"`
	// Components configures the processes that do the work.
	Components Components `json:"components,omitempty"`
}

// Duration is a Go duration such as 3h25m12s.
type Duration = metav1.Duration

// Replication says which objects are replicated, and how.
type Replication struct {
	// ResyncPeriod between two full comparisons; default 1h, 0s: never.
	ResyncPeriod *Duration `json:"resyncPeriod,omitempty"`
	// ForceNamespaceCreation creates a namespace that is missing at the destination.
	ForceNamespaceCreation bool `json:"forceNamespaceCreation,omitempty"`
	// AdoptExisting takes over objects of the same name that Afterimage did not
	// create. Adopted objects are never deleted. Default false.
	AdoptExisting bool `json:"adoptExisting,omitempty"`
	// RecreateOnImmutable deletes and recreates an object when the destination
	// refuses a change of an immutable field. Default false.
	RecreateOnImmutable bool `json:"recreateOnImmutable,omitempty"`
	// DeletionPolicy for objects that were deleted in the source or left the
	// selection: Delete (default) or Orphan. PersistentVolumeClaims are orphaned
	// unless it is set.
	DeletionPolicy string `json:"deletionPolicy,omitempty"`
	// IncludeSystemNamespaces also covers namespaces that begin with kube- or openshift.
	IncludeSystemNamespaces bool `json:"includeSystemNamespaces,omitempty"`
	// IncludeControlled also covers objects with a controller owner, such as the
	// ReplicaSets of a Deployment.
	IncludeControlled bool `json:"includeControlled,omitempty"`
	// IncludeGenerated also covers what every cluster makes by itself:
	// kube-root-ca.crt, openshift-service-ca.crt and ServiceAccount token Secrets.
	IncludeGenerated bool `json:"includeGenerated,omitempty"`
	// KeepNodePorts keeps the node ports of Services. Default false.
	KeepNodePorts bool `json:"keepNodePorts,omitempty"`
	// Resources to replicate.
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
	Group string `json:"group,omitempty"`
	// Version of the resource.
	Version string `json:"version"`
	// Resource in the plural; a kind or singular is resolved by discovery.
	Resource string `json:"resource"`
	// Transformation of the object on its way.
	Transformation *Transformation `json:"transformation,omitempty"`
	// Filters, all of which must match.
	Filters *Filters `json:"filters,omitempty"`
	// RecoveryProcess says what recovery does with the object.
	RecoveryProcess *RecoveryProcess `json:"recoveryProcess,omitempty"`
}

// Transformation changes an object on its way to the destination.
type Transformation struct {
	PatchOptions PatchOptions     `json:"patchOptions,omitempty"`
	Patch        []PatchOperation `json:"patch,omitempty"`
}

// PatchOptions tune how a patch is applied.
type PatchOptions struct {
	// SkipIfNotFoundOnDelete makes a remove of a missing field no error.
	SkipIfNotFoundOnDelete bool `json:"skipIfNotFoundOnDelete,omitempty"`
}

// PatchOperation is an RFC 6902 operation.
type PatchOperation struct {
	// Op is add, replace, remove or delete (= remove).
	Op string `json:"op"`
	// Path is a JSON pointer (RFC 6901).
	Path string `json:"path"`
	// Value, for add and replace.
	Value *apiextensionsv1.JSON `json:"value,omitempty"`
}

// Filters choose among the objects of a resource; all must match.
type Filters struct {
	NameSelector *NameSelector `json:"nameSelector,omitempty"`
	// Selector matches the labels of the object.
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
	// NamespaceSelector matches the labels of the object's namespace.
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
}

// NameSelector matches whole names, by RE2 expressions or, where a pattern is
// none, by globs.
type NameSelector struct {
	// Regex: one of these must match.
	Regex []string `json:"regex,omitempty"`
	// IncludeRegex is an alias of regex.
	IncludeRegex []string `json:"includeRegex,omitempty"`
	// ExcludeRegex: none of these may match; wins over regex.
	ExcludeRegex []string `json:"excludeRegex,omitempty"`
}

// RecoveryProcess says what a recovery does with the objects of an entry.
type RecoveryProcess struct {
	PatchOptions PatchOptions     `json:"patchOptions,omitempty"`
	FromPatch    []PatchOperation `json:"fromPatch,omitempty"`
	FromOriginal *FromOriginal    `json:"fromOriginal,omitempty"`
}

// FromOriginal restores the original from the bucket.
type FromOriginal struct {
	Enabled bool `json:"enabled,omitempty"`
}

// Observability of the components.
type Observability struct {
	Enabled bool `json:"enabled,omitempty"`
	// Interval to gather metrics.
	Interval *Duration `json:"interval,omitempty"`
}

// Components of a LiveSynchronization.
type Components struct {
	EventsListener  *Component `json:"eventsListener,omitempty"`
	Processor       *Component `json:"processor,omitempty"`
	Reconciler      *Component `json:"reconciler,omitempty"`
	Restorer        *Component `json:"restorer,omitempty"`
	Synchronizer    *Component `json:"synchronizer,omitempty"`
	Stream          *Component `json:"stream,omitempty"`
	NATS            *Component `json:"nats,omitempty"`
	State           *Component `json:"state,omitempty"`
	Redis           *Component `json:"redis,omitempty"`
	MetricsExporter *Component `json:"metricsExporter,omitempty"`
}

// Component configures one of them.
type Component struct {
	// LogLevel: debug, info, warn or error; default info.
	LogLevel        string                       `json:"logLevel,omitempty"`
	ImagePullPolicy corev1.PullPolicy            `json:"imagePullPolicy,omitempty"`
	Resources       *corev1.ResourceRequirements `json:"resources,omitempty"`
	// ConcurrentTasks at a time; default 32 for the synchronizer.
	ConcurrentTasks *int32 `json:"concurrentTasks,omitempty"`
	// Replicas of the process; default 1.
	Replicas *int32 `json:"replicas,omitempty"`
}

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
	State              string             `json:"state,omitempty"`
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
	ObservedGeneration int64              `json:"observedGeneration,omitempty"`
	Objects            ObjectCounts       `json:"objects,omitempty"`
	LastSyncTime       *metav1.MicroTime  `json:"lastSyncTime,omitempty"`
	LastResyncTime     *metav1.MicroTime  `json:"lastResyncTime,omitempty"`
	// Lag is the age of the oldest change that is logged and not yet applied.
	Lag *metav1.Duration `json:"lag,omitempty"`
	// VerifiedAt is the moment up to which the destination is known to hold
	// everything; absent while unknown.
	VerifiedAt *metav1.MicroTime `json:"verifiedAt,omitempty"`
	// RPO is now less verifiedAt; absent while unknown.
	RPO        *metav1.Duration  `json:"rpo,omitempty"`
	Components []ComponentStatus `json:"components,omitempty"`
	// Resources that are waited for or cannot be read, and why.
	Resources []ResourceStatus `json:"resources,omitempty"`
	// Failing objects, at most 50.
	Failing []FailingObject `json:"failing,omitempty"`
}

// ObjectCounts counts the covered objects.
type ObjectCounts struct {
	Total     int64 `json:"total"`
	Sync      int64 `json:"sync"`
	OutOfSync int64 `json:"outOfSync"`
	Failed    int64 `json:"failed"`
}

// ComponentStatus is the health of one component.
type ComponentStatus struct {
	Name    string `json:"name"`
	Ready   bool   `json:"ready"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// ResourceStatus is the health of one resource entry.
type ResourceStatus struct {
	Resource string `json:"resource"`
	Ready    bool   `json:"ready"`
	Reason   string `json:"reason,omitempty"`
	Message  string `json:"message,omitempty"`
}

// FailingObject is an object that is not as it should be at the destination.
type FailingObject struct {
	// Object is <group>/<version>/<resource>/<namespace>/<name>.
	Object  string `json:"object"`
	Reason  string `json:"reason"`
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
