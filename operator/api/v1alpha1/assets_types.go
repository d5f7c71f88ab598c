package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// KubernetesCluster is a cluster something is read from or written to.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
type KubernetesCluster struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   KubernetesClusterSpec   `json:"spec"`
	Status KubernetesClusterStatus `json:"status,omitempty"`
}

// KubernetesClusterSpec says how to reach the cluster. Exactly one of
// secretName, inCluster and kubeconfigFile is set.
type KubernetesClusterSpec struct {
	// SecretName names a Secret in the same namespace that holds a kubeconfig
	// under the key kubeconfig.yaml (kubeconfig and value are accepted too).
	SecretName string `json:"secretName,omitempty"`
	// InCluster uses the service account of the pod Afterimage runs in.
	InCluster bool `json:"inCluster,omitempty"`
	// KubeconfigFile is the path of a kubeconfig file; standalone mode only.
	// A relative path is relative to the manifest that holds it.
	KubeconfigFile string `json:"kubeconfigFile,omitempty"`
	// Context of the kubeconfig to use; default: its current context.
	Context string `json:"context,omitempty"`
	// QPS limits requests per second to the cluster; default 0: no limit of our
	// own, the cluster's API Priority and Fairness decides.
	QPS int32 `json:"qps,omitempty"`
	// Burst above qps; default: twice qps.
	Burst int32 `json:"burst,omitempty"`
}

// KubernetesClusterStatus is what the last probe found.
type KubernetesClusterStatus struct {
	State         string             `json:"state,omitempty"`
	Version       string             `json:"version,omitempty"`
	Conditions    []metav1.Condition `json:"conditions,omitempty"`
	LastProbeTime *metav1.Time       `json:"lastProbeTime,omitempty"`
}

// KubernetesClusterList is a list of KubernetesCluster.
//
// +kubebuilder:object:root=true
type KubernetesClusterList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []KubernetesCluster `json:"items"`
}
