package v1alpha1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The keys of the Secrets of a Database.
const (
	// DatabaseUsernameKey and DatabasePasswordKey sign in (digest authentication).
	DatabaseUsernameKey = "username"
	DatabasePasswordKey = "password"
	// DatabaseCAKey holds the certificates to trust.
	DatabaseCAKey = "ca.crt"
	// DatabaseCertificateKey and DatabaseKeyKey are our own certificate, for
	// servers that ask for one.
	DatabaseCertificateKey = "tls.crt"
	DatabaseKeyKey         = "tls.key"
)

// DefaultSessionTimeout of a ZooKeeper session. Afterimage makes no ephemeral
// nodes, so an old session holds nothing back, and a server that merely pauses
// should not cost the watches; one that answers nothing at all is left for
// another after two thirds of it.
const DefaultSessionTimeout = 30 * time.Second

// Database is a ZooKeeper ensemble nodes are read from or written to.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=databases,singular=database,categories=afterimage
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.status.version`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Database struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec says how to reach the database.
	// +required
	Spec DatabaseSpec `json:"spec"`
	// Status is what the last probe found.
	Status DatabaseStatus `json:"status,omitempty"`
}

// DatabaseSpec says how to reach the database.
type DatabaseSpec struct {
	// Zookeeper is a ZooKeeper ensemble, the one kind of database there is.
	// +required
	Zookeeper ZookeeperSpec `json:"zookeeper"`
}

// ZookeeperSpec says how to reach a ZooKeeper ensemble.
type ZookeeperSpec struct {
	// Client says where the servers are and how to connect to them.
	// +required
	Client ZookeeperClient `json:"client"`
	// SessionTimeout that is asked for, as a Go duration from 1s to 10m; the server
	// keeps it within its own limits. A server that answers nothing for two thirds
	// of it is left for another. Default 30s.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^(0|([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+)$`
	SessionTimeout *metav1.Duration `json:"sessionTimeout,omitempty"`
	// SecretName names a Secret in the same namespace with the keys username and
	// password, for digest authentication. Default: nobody signs in.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!self.contains('/')",message="must be the name of a Secret in the same namespace; a name with / is not accepted"
	SecretName string `json:"secretName,omitempty"`
}

// ZookeeperClient says where the servers are and how to connect to them.
type ZookeeperClient struct {
	// Servers of the ensemble, each as host:port.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=260
	// +kubebuilder:validation:items:Pattern=`^(\[[0-9A-Fa-f:.]+(%[0-9A-Za-z._-]+)?\]|[0-9A-Za-z._-]+):[0-9]{1,5}$`
	Servers []string `json:"servers"`
	// Chroot is a path that is put before every other: rootPath is below it.
	// Default /: none.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^(/|(/([^/.\x00-\x1f\x7f][^/\x00-\x1f\x7f]*|\.[^/.\x00-\x1f\x7f][^/\x00-\x1f\x7f]*|\.\.[^/\x00-\x1f\x7f]+))+)$`
	Chroot string `json:"chroot,omitempty"`
	// TLS of the connections. Default: none, they are plain.
	// +optional
	TLS *ZookeeperTLS `json:"tls,omitempty"`
}

// ZookeeperTLS configures the encryption of the connections.
type ZookeeperTLS struct {
	// Enabled speaks TLS to the servers, which answer it on a port of its own.
	// +required
	Enabled bool `json:"enabled"`
	// SecretName names a Secret in the same namespace: its key ca.crt holds the
	// certificates to trust, tls.crt and tls.key the certificate to show to servers
	// that ask for one. Default: those of the system are trusted, none is shown.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!self.contains('/')",message="must be the name of a Secret in the same namespace; a name with / is not accepted"
	SecretName string `json:"secretName,omitempty"`
	// InsecureSkipVerify trusts any certificate. Default false.
	// +optional
	InsecureSkipVerify bool `json:"insecureSkipVerify,omitempty"`
}

// DatabaseStatus is what the last probe found.
type DatabaseStatus struct {
	// State is Ready or Failed.
	State string `json:"state,omitempty"`
	// Version of the server that answered, such as 3.9.5.
	Version string `json:"version,omitempty"`
	// Conditions: Ready, with the reasons SecretNotFound, KeyNotFound, Unreachable
	// and Unauthorized.
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// LastProbeTime is when the database was last asked.
	LastProbeTime *metav1.Time `json:"lastProbeTime,omitempty"`
}

// DatabaseList is a list of Database.
//
// +kubebuilder:object:root=true
type DatabaseList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Database `json:"items"`
}
