package synchronization

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

// TopicsOf a run: of the tree it copies, or of the owner of its objects.
func TopicsOf(s *v1alpha1.Synchronization) topology.Topics {
	if s.Spec.PluginName() != v1alpha1.PluginZooKeeper {
		return topology.TopicsFor(s.Namespace, Owner(s))
	}
	c := &s.Spec.Config
	return topology.NodeTopics(s.Namespace, c.SourceName, c.DestinationName, c.Root())
}

// OfLive is a run by hand of what a LiveSynchronization of nodes does: once, now.
func OfLive(ls *v1alpha1.LiveSynchronization) *v1alpha1.Synchronization {
	return &v1alpha1.Synchronization{
		ObjectMeta: metav1.ObjectMeta{Namespace: ls.Namespace, Name: ls.Name, Annotations: ls.Annotations, Generation: ls.Generation},
		Spec:       v1alpha1.SynchronizationSpec{Plugin: ls.Spec.Plugin, Config: *ls.Spec.Config.DeepCopy()},
	}
}
