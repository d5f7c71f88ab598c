package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// The keys of a Secret under which a kubeconfig is looked for, in this order.
var KubeconfigKeys = []string{"kubeconfig.yaml", "kubeconfig", "value"}

// Reasons of the Ready condition of an asset.
const (
	ReasonSecretNotFound    = "SecretNotFound"
	ReasonKeyNotFound       = "KeyNotFound"
	ReasonInvalidKubeconfig = "InvalidKubeconfig"
	ReasonUnreachable       = "Unreachable"
	ReasonUnauthorized      = "Unauthorized"
)

// KubernetesCluster is a cluster something is read from or written to.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=kubernetesclusters,singular=kubernetescluster,categories=afterimage
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.status.version`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type KubernetesCluster struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec says how to reach the cluster.
	// +required
	Spec KubernetesClusterSpec `json:"spec"`
	// Status is what the last probe found.
	Status KubernetesClusterStatus `json:"status,omitempty"`
}

// KubernetesClusterSpec says how to reach the cluster. Exactly one of
// secretName, inCluster and kubeconfigFile is set.
//
// +kubebuilder:validation:XValidation:rule="[has(self.secretName), has(self.inCluster) && self.inCluster, has(self.kubeconfigFile)].filter(x, x).size() == 1",message="exactly one of secretName, inCluster: true and kubeconfigFile must be set"
// +kubebuilder:validation:XValidation:rule="!has(self.context) || !has(self.inCluster) || !self.inCluster",message="context chooses within a kubeconfig and must not be set with inCluster: true"
type KubernetesClusterSpec struct {
	// SecretName names a Secret in the same namespace that holds a kubeconfig
	// under the key kubeconfig.yaml (kubeconfig and value are accepted too). What
	// the kubeconfig needs must be embedded in it: it cannot name other files.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!self.contains('/')",message="must be the name of a Secret in the namespace of the KubernetesCluster; a name with / is not accepted"
	SecretName string `json:"secretName,omitempty"`
	// InCluster uses the service account of the pod Afterimage runs in.
	// +optional
	InCluster bool `json:"inCluster,omitempty"`
	// KubeconfigFile is the path of a kubeconfig file. It is for standalone mode
	// only; the operator refuses it. A relative path is relative to the manifest
	// that holds it.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	KubeconfigFile string `json:"kubeconfigFile,omitempty"`
	// Context of the kubeconfig to use. Default: its current context.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Context string `json:"context,omitempty"`
	// QPS limits our requests per second to the cluster. Default 0: no limit of
	// our own, the cluster's API Priority and Fairness decides.
	// +optional
	// +kubebuilder:validation:Minimum=0
	QPS int32 `json:"qps,omitempty"`
	// Burst is how many requests may be sent at once above qps; without qps it
	// has no effect. Default: twice qps.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Burst int32 `json:"burst,omitempty"`
}

// KubernetesClusterStatus is what the last probe found.
type KubernetesClusterStatus struct {
	// State is Ready or Failed.
	State string `json:"state,omitempty"`
	// Version of the API server, such as v1.37.2.
	Version string `json:"version,omitempty"`
	// Conditions: Ready, with the reasons SecretNotFound, KeyNotFound,
	// InvalidKubeconfig, Unreachable and Unauthorized.
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// LastProbeTime is when the cluster was last asked.
	LastProbeTime *metav1.Time `json:"lastProbeTime,omitempty"`
}

// KubernetesClusterList is a list of KubernetesCluster.
//
// +kubebuilder:object:root=true
type KubernetesClusterList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []KubernetesCluster `json:"items"`
}
