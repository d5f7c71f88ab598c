// Package status is how a running Afterimage is asked how it is: one JSON
// document over a socket in its data directory that only its own user can open.
// It needs no port, no cluster and no broker to answer.
package status

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// Process is what one running process says of itself.
type Process struct {
	Version    string    `json:"version"`
	PID        int       `json:"pid"`
	InstanceID string    `json:"instanceID"`
	StartedAt  time.Time `json:"startedAt"`
	// At is when the answer was made.
	At        time.Time `json:"at"`
	DataDir   string    `json:"dataDir"`
	Stream    Stream    `json:"stream"`
	Manifests Manifests `json:"manifests"`
	// LiveSynchronizations in the order of their namespaces and names.
	LiveSynchronizations []LiveSynchronization `json:"liveSynchronizations"`
	// Recoveries of the manifests, in the order of their namespaces and names.
	Recoveries []Recovery `json:"recoveries,omitempty"`
	// SynchronizationPlans of the manifests, in the order of their namespaces and names.
	SynchronizationPlans []SynchronizationPlan `json:"synchronizationPlans,omitempty"`
	// Synchronizations of the manifests and of their plans, in the order in which
	// they began.
	Synchronizations []Synchronization `json:"synchronizations,omitempty"`
}

// Ready tells whether there is something, and all of it is as it should be: every
// LiveSynchronization Ready, every plan at its schedule or suspended, and every
// Synchronization of the manifests Complete.
func (p Process) Ready() bool {
	for _, l := range p.LiveSynchronizations {
		if l.Status.State != v1alpha1.StateReady {
			return false
		}
	}
	for _, l := range p.SynchronizationPlans {
		if !l.Ready() {
			return false
		}
	}
	for _, l := range p.Synchronizations {
		if l.Plan == "" && (l.Status.State != v1alpha1.StateComplete || l.Refused != "") {
			return false
		}
	}
	return len(p.LiveSynchronizations)+len(p.SynchronizationPlans)+len(p.Synchronizations) > 0
}

// Stream is the health of the log.
type Stream struct {
	// Kind is "embedded" or "kafka".
	Kind string `json:"kind"`
	// Brokers, for kind kafka.
	Brokers []string `json:"brokers,omitempty"`
	Ready   bool     `json:"ready"`
	Message string   `json:"message,omitempty"`
	// Warnings name topic settings that are not as they should be.
	Warnings []string `json:"warnings,omitempty"`
}

// Manifests says whether what runs is what the files say.
type Manifests struct {
	// LoadedAt is when the configuration in effect was read.
	LoadedAt time.Time `json:"loadedAt"`
	// Error of the last reading: while there is one, the last good
	// configuration stays in effect.
	Error string `json:"error,omitempty"`
	// Since when the files are in error.
	Since *time.Time `json:"since,omitempty"`
}

// LiveSynchronization is one of them with its status.
type LiveSynchronization struct {
	Namespace string                             `json:"namespace"`
	Name      string                             `json:"name"`
	Suspend   bool                               `json:"suspend"`
	CreatedAt time.Time                          `json:"startedAt"`
	Status    v1alpha1.LiveSynchronizationStatus `json:"status"`
}

// Recovery is one of them with its status.
type Recovery struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// LiveSynchronization that is recovered, <namespace>/<name>.
	LiveSynchronization string                  `json:"liveSynchronization"`
	Status              v1alpha1.RecoveryStatus `json:"status"`
}

// SynchronizationPlan is one of them with its status.
type SynchronizationPlan struct {
	Namespace string                             `json:"namespace"`
	Name      string                             `json:"name"`
	Schedule  string                             `json:"schedule"`
	TimeZone  string                             `json:"timeZone,omitempty"`
	Suspend   bool                               `json:"suspend"`
	Status    v1alpha1.SynchronizationPlanStatus `json:"status"`
}

// Synchronization is one of them with its status.
type Synchronization struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Plan that made it; empty for one of the manifests.
	Plan string `json:"plan,omitempty"`
	// Refused says why it is not run as the manifests have it.
	Refused   string                         `json:"refused,omitempty"`
	CreatedAt time.Time                      `json:"createdAt,omitzero"`
	Status    v1alpha1.SynchronizationStatus `json:"status"`
}

// SortRecoveries puts them in the order of their namespaces and names.
func SortRecoveries(all []Recovery) {
	slices.SortFunc(all, func(a, b Recovery) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
}

// SortSynchronizations puts plans in the order of their namespaces and names, and runs
// in the order of their namespaces and the times at which they began, those that did
// not begin last.
func SortSynchronizations(plans []SynchronizationPlan, runs []Synchronization) {
	slices.SortFunc(plans, func(a, b SynchronizationPlan) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	began := func(s Synchronization) int64 {
		if s.Status.StartTime == nil {
			return math.MaxInt64
		}
		return s.Status.StartTime.Unix()
	}
	slices.SortFunc(runs, func(a, b Synchronization) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(began(a), began(b)), cmp.Compare(a.Name, b.Name))
	})
}
