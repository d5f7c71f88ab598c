package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Zookeeper is another way to write a Database: what a Database has in
// spec.zookeeper stands in spec here. Both share their names: whoever names a
// Database may name a Zookeeper, and one name cannot be both.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=zookeepers,singular=zookeeper,categories=afterimage
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.status.version`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Zookeeper struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec says how to reach the ensemble.
	// +required
	Spec ZookeeperSpec `json:"spec"`
	// Status is what the last probe found.
	Status DatabaseStatus `json:"status,omitempty"`
}

// Database is the Database that says the same.
func (z *Zookeeper) Database() *Database {
	return &Database{
		TypeMeta:   metav1.TypeMeta{APIVersion: AssetsGroupVersion.String(), Kind: KindDatabase},
		ObjectMeta: *z.ObjectMeta.DeepCopy(),
		Spec:       DatabaseSpec{Zookeeper: *z.Spec.DeepCopy()},
		Status:     *z.Status.DeepCopy(),
	}
}

// ZookeeperList is a list of Zookeeper.
//
// +kubebuilder:object:root=true
type ZookeeperList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Zookeeper `json:"items"`
}
