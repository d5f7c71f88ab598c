package pipeline

import (
	"github.com/afterimage-dr/afterimage/internal/manifest"
	"github.com/afterimage-dr/afterimage/internal/nodecopy"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// LiveSyncOf is what to run for a LiveSynchronization of a set of manifests.
func LiveSyncOf(set *manifest.Set, ls *v1alpha1.LiveSynchronization) (LiveSync, error) {
	if ls.Spec.PluginName() == v1alpha1.PluginZooKeeper {
		s := set.SettingsFor(ls)
		nodes := nodecopy.LiveOptions{Resync: s.ResyncPeriod, Suspend: s.Suspend}
		nodes.Confirmed = s.ConfirmPrune
		err := nodes.Configure(set, ls.Namespace, &ls.Spec.Config)
		return LiveSync{Settings: s, Generation: ls.Generation, Nodes: &nodes, LogLevels: logLevels(ls.Spec.Config.Components)}, err
	}
	source, err := set.RESTConfig(set.Source(ls))
	if err != nil {
		return LiveSync{}, err
	}
	destination, err := set.RESTConfig(set.Destination(ls))
	if err != nil {
		return LiveSync{}, err
	}
	return LiveSync{
		Settings: set.SettingsFor(ls), Generation: ls.Generation,
		Source: source, Destination: destination, Bucket: set.BucketOptions(set.Bucket(ls)), LogLevels: logLevels(ls.Spec.Config.Components),
	}, nil
}

func logLevels(c v1alpha1.Components) map[string]string {
	out := map[string]string{}
	for name, component := range map[string]*v1alpha1.Component{
		EventsListener: c.EventsListener,
		Processor:      c.Processor,
		Synchronizer:   c.Synchronizer,
		Reconciler:     c.Reconciler,
		Archiver:       c.Processor, // whose sibling it is; the documented contract names no other
	} {
		if component != nil {
			out[name] = component.LogLevel
		}
	}
	return out
}
