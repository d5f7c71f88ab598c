package manifest

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

// Target is what a Recovery works on.
type Target struct {
	// LiveSynchronization whose fence, owner marks, bucket paths and log are used.
	LiveSynchronization types.NamespacedName
	// Config of it: its own, or the one that the Recovery has inline.
	Config v1alpha1.LiveSynchronizationConfig
	// Destination is the cluster that is recovered, in the namespace of the Recovery.
	Destination *v1alpha1.KubernetesCluster
	// Bucket of the originals; nil where there is none.
	Bucket *v1alpha1.Bucket
}

// Compute is the configuration that the rules of a recovery are compiled from,
// without what only the log knows (generation and clusters).
func (t Target) Compute() topology.Config {
	return topology.Config{
		Namespace: t.LiveSynchronization.Namespace, Name: t.LiveSynchronization.Name,
		Replication: *t.Config.Replication.DeepCopy(),
	}
}

// ConfigOf returns what a Recovery of the set works on.
func (s *Set) ConfigOf(r *v1alpha1.Recovery) Target {
	t := Target{LiveSynchronization: r.LiveSynchronization()}
	if config, inline := r.Spec.Config.Inline(); inline {
		t.Config = config
	} else {
		for _, ls := range s.LiveSynchronizations {
			if ls.Namespace == t.LiveSynchronization.Namespace && ls.Name == t.LiveSynchronization.Name {
				t.Config = *ls.Spec.Config.DeepCopy()
			}
		}
	}
	return s.assets(t, r.Namespace)
}

// TargetOf returns what a recovery of a LiveSynchronization of the set works on,
// where no Recovery asks for it.
func (s *Set) TargetOf(ls *v1alpha1.LiveSynchronization) Target {
	t := Target{
		LiveSynchronization: types.NamespacedName{Namespace: ls.Namespace, Name: ls.Name},
		Config:              *ls.Spec.Config.DeepCopy(),
	}
	return s.assets(t, ls.Namespace)
}

// assets finds what the configuration names in a namespace.
func (s *Set) assets(t Target, namespace string) Target {
	t.Destination = s.Clusters[types.NamespacedName{Namespace: namespace, Name: t.Config.DestinationName}]
	t.Bucket = s.Buckets[types.NamespacedName{Namespace: namespace, Name: t.Config.BucketName}]
	return t
}

// recovery checks what a Recovery names and asks for.
func (c *checker) recovery(it *item) Errors {
	var errs Errors
	spec := &it.recovery.Spec
	switch at, err := spec.At(); {
	case err != nil:
		errs = append(errs, it.errorAt("spec.pointInTime", err.Error()))
	case at.After(time.Now()):
		errs = append(errs, it.errorAt("spec.pointInTime", "Invalid value: \""+spec.PointInTime+"\": expected a moment in the past; it is now "+time.Now().UTC().Format(time.RFC3339)))
	}
	if inline := automationOf(it); inline != nil {
		return append(errs, c.configuration(it, inline)...)
	}
	id := it.recovery.LiveSynchronization()
	live := c.items[v1alpha1.KindLiveSynchronization][id]
	switch {
	case live == nil && !c.incomplete:
		errs = append(errs, it.errorAt("spec.config.liveSynchronizationName", c.missing(v1alpha1.KindLiveSynchronization, id)+
			"; without its manifest, give destinationName and replication here, as they are in it"))
	case live == nil || live.live == nil:
	case live.live.Spec.PluginName() != spec.Plugin:
		errs = append(errs, it.errorAt("spec.config.liveSynchronizationName", "expected a LiveSynchronization with the plugin "+spec.Plugin+": LiveSynchronization "+id.Name+" has "+live.live.Spec.PluginName()+", whose destination is as it must be at any moment"))
	case spec.From == v1alpha1.RecoverFromBucket && live.live.Spec.Config.BucketName == "":
		errs = append(errs, it.errorAt("spec.from", "expected log or auto: LiveSynchronization "+id.Name+" has no bucketName"))
	}
	return errs
}
