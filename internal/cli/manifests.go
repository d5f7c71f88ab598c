package cli

import (
	"context"

	"github.com/afterimage-dr/afterimage/internal/manifest"
	"github.com/afterimage-dr/afterimage/internal/pipeline"
	"github.com/afterimage-dr/afterimage/internal/recovery"
	"github.com/afterimage-dr/afterimage/internal/synchronization"
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
func (m *manifests) watch(ctx context.Context, p *pipeline.Pipeline, jobs *recovery.Jobs, runs *synchronization.Service) {
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
		runs.Apply(ctx, set)
	}, m.options...)
}

// syncsOf is what a set of manifests asks to run.
func syncsOf(set *manifest.Set) ([]pipeline.LiveSync, error) {
	var out []pipeline.LiveSync
	for _, ls := range set.LiveSynchronizations {
		sync, err := pipeline.LiveSyncOf(set, ls)
		if err != nil {
			return nil, err
		}
		out = append(out, sync)
	}
	return out, nil
}
