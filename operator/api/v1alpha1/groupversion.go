// Package v1alpha1 holds the kinds a user writes: assets (what is synchronized)
// in assets.astronetes.io and automations (what synchronizes) in
// automation.astronetes.io. Both modes of running validate against the CRDs
// generated from these types, so a manifest refused by one is refused by the
// other. What a schema cannot say because it needs another object (does the
// cluster named here exist?) is checked by internal/manifest.
//
// +kubebuilder:object:generate=true
// +groupName=astronetes.io
// +versionName=v1alpha1
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var (
	// AssetsGroupVersion is that of KubernetesCluster, Bucket, Database and
	// Zookeeper.
	AssetsGroupVersion = schema.GroupVersion{Group: "assets.astronetes.io", Version: "v1alpha1"}
	// AutomationGroupVersion is that of LiveSynchronization, Synchronization,
	// SynchronizationPlan and Recovery.
	AutomationGroupVersion = schema.GroupVersion{Group: "automation.astronetes.io", Version: "v1alpha1"}
)

// The kinds of this package.
const (
	KindKubernetesCluster   = "KubernetesCluster"
	KindBucket              = "Bucket"
	KindDatabase            = "Database"
	KindZookeeper           = "Zookeeper"
	KindLiveSynchronization = "LiveSynchronization"
	KindSynchronization     = "Synchronization"
	KindSynchronizationPlan = "SynchronizationPlan"
	KindRecovery            = "Recovery"
)

// AddToScheme registers the kinds of both groups. It never fails; the error is
// what runtime.SchemeBuilder expects of its functions.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(AssetsGroupVersion,
		&KubernetesCluster{}, &KubernetesClusterList{}, &Bucket{}, &BucketList{},
		&Database{}, &DatabaseList{}, &Zookeeper{}, &ZookeeperList{})
	s.AddKnownTypes(AutomationGroupVersion,
		&LiveSynchronization{}, &LiveSynchronizationList{}, &Recovery{}, &RecoveryList{},
		&Synchronization{}, &SynchronizationList{}, &SynchronizationPlan{}, &SynchronizationPlanList{})
	metav1.AddToGroupVersion(s, AssetsGroupVersion)
	metav1.AddToGroupVersion(s, AutomationGroupVersion)
	return nil
}
