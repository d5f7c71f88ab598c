package cli

import (
	"context"

	"github.com/afterimage-dr/afterimage/internal/manifest"
	"github.com/afterimage-dr/afterimage/internal/pipeline"
	"github.com/afterimage-dr/afterimage/internal/recovery"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// manifests are the files run was given.
type manifests struct {
	paths   []string
	options []manifest.Option
	first   *manifest.Set
}

// load reads and checks them; nothing may be started before it has succeeded.
func (m *manifests) load() ([]pipeline.LiveSync, error) {
	set, err := manifest.Load(m.paths, m.options...)
	if err != nil {
		return nil, err
	}
	m.first = set
	return syncsOf(set)
}

// watch hands every new set to the pipeline, until ctx ends.
func (m *manifests) watch(ctx context.Context, p *pipeline.Pipeline, jobs *recovery.Jobs) {
	manifest.Watch(ctx, m.paths, m.first, func(set *manifest.Set, err error) {
		var syncs []pipeline.LiveSync
		if err == nil {
			syncs, err = syncsOf(set)
		}
		if err == nil {
			err = p.Apply(syncs)
		}
		if err != nil {
			p.ConfigError(err)
			return
		}
		jobs.Apply(ctx, set)
	}, m.options...)
}

// syncsOf is what a set of manifests asks to run.
func syncsOf(set *manifest.Set) ([]pipeline.LiveSync, error) {
	var out []pipeline.LiveSync
	for _, ls := range set.LiveSynchronizations {
		source, err := set.RESTConfig(set.Source(ls))
		if err != nil {
			return nil, err
		}
		destination, err := set.RESTConfig(set.Destination(ls))
		if err != nil {
			return nil, err
		}
		out = append(out, pipeline.LiveSync{
			Settings: set.SettingsFor(ls), Generation: ls.Generation,
			Source: source, Destination: destination, Bucket: set.BucketOptions(set.Bucket(ls)), LogLevels: logLevels(ls.Spec.Config.Components),
		})
	}
	return out, nil
}

func logLevels(c v1alpha1.Components) map[string]string {
	out := map[string]string{}
	for name, component := range map[string]*v1alpha1.Component{
		pipeline.EventsListener: c.EventsListener,
		pipeline.Processor:      c.Processor,
		pipeline.Synchronizer:   c.Synchronizer,
		pipeline.Reconciler:     c.Reconciler,
		pipeline.Archiver:       c.Processor, // whose sibling it is; the documented contract names no other
	} {
		if component != nil {
			out[name] = component.LogLevel
		}
	}
	return out
}
