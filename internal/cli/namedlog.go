package cli

import (
	"strings"

	"github.com/afterimage-dr/afterimage/internal/manifest"
	"github.com/afterimage-dr/afterimage/internal/synchronization"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

// namedLog is something that has topics in a log, by NAMESPACE/NAME.
type namedLog struct {
	id     string
	topics topology.Topics
}

// logsOf is what a set of manifests logs. Several that copy one tree share its log.
func logsOf(set *manifest.Set) (all []namedLog) {
	for _, ls := range set.LiveSynchronizations {
		t := topology.TopicsFor(ls.Namespace, ls.Name)
		if ls.Spec.PluginName() == v1alpha1.PluginZooKeeper {
			t = synchronization.TopicsOf(synchronization.OfLive(ls))
		}
		all = append(all, namedLog{ls.Namespace + "/" + ls.Name, t})
	}
	for _, s := range set.Synchronizations {
		all = append(all, namedLog{s.Namespace + "/" + s.Name, synchronization.TopicsOf(s)})
	}
	for _, p := range set.SynchronizationPlans {
		all = append(all, namedLog{p.Namespace + "/" + p.Name, synchronization.TopicsOf(synchronization.Now(p))})
	}
	return all
}

func names(all []namedLog) string {
	var ids []string
	for _, l := range all {
		ids = append(ids, l.id)
	}
	if len(ids) == 0 {
		return "nothing that is logged"
	}
	return strings.Join(ids, ", ")
}
