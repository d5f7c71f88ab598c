package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// The keys of the Secret of a Bucket.
const (
	BucketAccessKeyIDKey     = "accessKeyID"
	BucketSecretAccessKeyKey = "secretAccessKey"
	// BucketCAKey is the key of the Secret named by caCertSecretName.
	BucketCAKey = "ca.crt"
)

// Bucket is a bucket of an S3-compatible object store in which the original,
// untransformed objects of a LiveSynchronization are kept. It must exist: it is
// probed, never created.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=buckets,singular=bucket,categories=afterimage
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Endpoint",type=string,JSONPath=`.spec.generic.endpoint`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Bucket struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec says where the bucket is and how to sign in.
	// +required
	Spec BucketSpec `json:"spec"`
	// Status is what the last probe found.
	Status BucketStatus `json:"status,omitempty"`
}

// BucketSpec says where the bucket is and how to sign in.
//
// +kubebuilder:validation:XValidation:rule="has(self.secretName) || has(self.generic.secretName)",message="generic.secretName must name the Secret that holds accessKeyID and secretAccessKey"
type BucketSpec struct {
	// Generic is any store that speaks the S3 protocol: AWS S3, Google Cloud
	// Storage through its XML API, and others.
	// +required
	Generic GenericBucket `json:"generic"`
	// SecretName is accepted here too; the one in generic wins.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!self.contains('/')",message="must be the name of a Secret in the namespace of the Bucket; a name with / is not accepted"
	SecretName string `json:"secretName,omitempty"`
}

// GenericBucket is a bucket of any store that speaks the S3 protocol.
type GenericBucket struct {
	// Endpoint is the host of the store, with a port where it is not the usual
	// one: storage.googleapis.com, s3.eu-west-1.amazonaws.com, localhost:9000.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!self.contains('/')",message="must be a host or host:port without scheme or path; useSSL chooses between https and http"
	Endpoint string `json:"endpoint"`
	// Name of the bucket.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=222
	Name string `json:"name"`
	// UseSSL speaks https to the endpoint. Default false.
	// +optional
	UseSSL bool `json:"useSSL,omitempty"`
	// SecretName names the Secret in the same namespace with the keys
	// accessKeyID and secretAccessKey.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!self.contains('/')",message="must be the name of a Secret in the namespace of the Bucket; a name with / is not accepted"
	SecretName string `json:"secretName,omitempty"`
	// Region of the bucket. Default: the one in an endpoint of the form
	// s3.<region>.amazonaws.com, else us-east-1.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Region string `json:"region,omitempty"`
	// Prefix put before every path in the bucket. Default: none.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('/')",message="must not begin with /"
	Prefix string `json:"prefix,omitempty"`
	// PathStyle addresses the bucket in the path and not in the host name.
	// Default: true for every endpoint but Amazon's.
	// +optional
	PathStyle *bool `json:"pathStyle,omitempty"`
	// CACertSecretName names a Secret in the same namespace whose key ca.crt
	// holds the certificates to trust. Default: those of the system.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!self.contains('/')",message="must be the name of a Secret in the namespace of the Bucket; a name with / is not accepted"
	CACertSecretName string `json:"caCertSecretName,omitempty"`
	// InsecureSkipVerify trusts any certificate. Default false.
	// +optional
	InsecureSkipVerify bool `json:"insecureSkipVerify,omitempty"`
}

// CredentialsSecret is the name of the Secret with the keys of the bucket: the
// one in generic wins.
func (s BucketSpec) CredentialsSecret() string {
	if s.Generic.SecretName != "" {
		return s.Generic.SecretName
	}
	return s.SecretName
}

// BucketStatus is what the last probe found.
type BucketStatus struct {
	// State is Ready or Failed.
	State string `json:"state,omitempty"`
	// Conditions: Ready, with the reasons SecretNotFound, KeyNotFound,
	// Unreachable and Unauthorized.
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// LastProbeTime is when the bucket was last asked.
	LastProbeTime *metav1.Time `json:"lastProbeTime,omitempty"`
}

// BucketList is a list of Bucket.
//
// +kubebuilder:object:root=true
type BucketList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Bucket `json:"items"`
}
