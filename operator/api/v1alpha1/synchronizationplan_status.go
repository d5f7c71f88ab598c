package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SynchronizationPlanStatus is what has been run, and when it is next.
type SynchronizationPlanStatus struct {
	// Conditions: Ready, with the reason where it is not.
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// ObservedGeneration is the generation of the spec this status is about.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// LastScheduleTime is the time of the schedule a run was last started for.
	LastScheduleTime *metav1.Time `json:"lastScheduleTime,omitempty"`
	// NextScheduleTime is when a run is next due; absent while suspended.
	NextScheduleTime *metav1.Time `json:"nextScheduleTime,omitempty"`
	// LastSuccessfulTime is when a run last ended well.
	LastSuccessfulTime *metav1.Time `json:"lastSuccessfulTime,omitempty"`
	// Active are the Synchronizations that are running.
	// +listType=atomic
	Active []corev1.LocalObjectReference `json:"active,omitempty"`
	// MissedRuns counts the times of the schedule for which no run was started,
	// because nothing ran then, because the last run was still running, or because
	// the starting deadline had passed.
	MissedRuns int64 `json:"missedRuns,omitempty"`
}
