// Package v1alpha1 holds the kinds a user writes: assets (what is synchronized)
// in assets.astronetes.io and automations (what synchronizes) in
// automation.astronetes.io. Both modes of running validate against the CRDs
// generated from these types.
package v1alpha1

import "k8s.io/apimachinery/pkg/runtime/schema"

var (
	// AssetsGroupVersion is that of KubernetesCluster, Bucket and Database.
	AssetsGroupVersion = schema.GroupVersion{Group: "assets.astronetes.io", Version: "v1alpha1"}
	// AutomationGroupVersion is that of LiveSynchronization, Synchronization,
	// SynchronizationPlan and Recovery.
	AutomationGroupVersion = schema.GroupVersion{Group: "automation.astronetes.io", Version: "v1alpha1"}
)
