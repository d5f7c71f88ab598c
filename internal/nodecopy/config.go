package nodecopy

import (
	"fmt"
	"regexp"

	"github.com/afterimage-dr/afterimage/internal/manifest"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

// Configure fills in what manifests say: the trees, and how to reach them.
func (o *Options) Configure(set *manifest.Set, namespace string, config *v1alpha1.LiveSynchronizationConfig) error {
	source, destination := set.Database(namespace, config.SourceName), set.Database(namespace, config.DestinationName)
	if source == nil || destination == nil {
		return fmt.Errorf("the Databases %s and %s are not both in the manifests", config.SourceName, config.DestinationName)
	}
	o.Source, o.Destination = set.EnsembleOptions(source), set.EnsembleOptions(destination)
	o.CreateRoot = config.CreatesRoot()
	o.Topics = topology.NodeTopics(namespace, config.SourceName, config.DestinationName, config.Root())
	o.Rules = topology.NodeRules{
		Root: config.Root(), IgnoreEphemeral: config.IgnoreEphemeral, CopyACL: config.CopyACL,
		Chrooted: chrooted(o.Source.Chroot) && chrooted(o.Destination.Chroot),
	}
	if config.ExcludePathRegexp != "" {
		expression, err := regexp.Compile(config.ExcludePathRegexp)
		if err != nil {
			return fmt.Errorf("spec.config.excludePathRegexp: %w", err)
		}
		o.Rules.Exclude = expression
	}
	return nil
}

func chrooted(chroot string) bool { return chroot != "" && chroot != "/" }
