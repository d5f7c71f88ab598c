package eventslistener

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// metaAliases is the name, in partition 0, of what names were resolved to. A
// kind that the source stops serving must keep its plural in the configuration:
// losing it would take every object of the resource out of scope.
const metaAliases = "aliases"

// resolver finds the resources that the entries of a configuration name.
type resolver struct {
	t *term
	// wake asks for another look.
	wake chan struct{}

	mu      sync.Mutex
	wanted  []string
	found   map[string]kube.Resource
	missing map[string]error
	said    map[string]*logging.State
	aliases map[string]string // plural by name of the entry
}

func newResolver(t *term) *resolver {
	return &resolver{t: t, wake: make(chan struct{}, 1), found: map[string]kube.Resource{}, missing: map[string]error{}, said: map[string]*logging.State{}}
}

func (r *resolver) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func entryName(e v1alpha1.Resource) string { return e.Group + "/" + e.Version + "/" + e.Resource }

// resolve asks the source for what is not known yet and returns the replication
// with plurals for names, where they are known.
func (r *resolver) resolve(ctx context.Context, s settings.Settings) v1alpha1.Replication {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loadAliases()
	replication := s.Config.Replication
	replication.Resources = slices.Clone(replication.Resources)
	r.wanted = nil
	learned := false
	for i := range replication.Resources {
		e := &replication.Resources[i]
		name := entryName(*e)
		if !slices.Contains(r.wanted, name) {
			r.wanted = append(r.wanted, name)
			if _, ok := r.found[name]; !ok {
				r.ask(ctx, name, *e)
			}
		}
		if res, ok := r.found[name]; ok {
			learned = learned || r.aliases[name] != res.Resource
			r.aliases[name] = res.Resource
		}
		if plural := r.aliases[name]; plural != "" {
			e.Resource = plural
		}
	}
	if learned {
		r.saveAliases(ctx)
	}
	return replication
}

// ask looks one entry up.
func (r *resolver) ask(ctx context.Context, name string, e v1alpha1.Resource) {
	log, cluster := r.t.log, r.t.cluster()
	gv := slog.String("groupVersion", schema.GroupVersion{Group: e.Group, Version: e.Version}.String())
	if r.said[name] == nil {
		r.said[name] = &logging.State{}
	}
	log.DebugContext(ctx, logging.ReadingServerGroups, cluster)
	log.DebugContext(ctx, logging.ReadingResources, cluster, gv)
	res, err := r.t.source.Resolve(ctx, e.Group, e.Version, e.Resource)
	switch {
	case ctx.Err() != nil:
		return
	case err == nil:
		delete(r.missing, name)
		r.found[name] = res
		log.DebugContext(ctx, logging.ServerGroupsRead, cluster)
		log.InfoContext(ctx, logging.ResourceFound, cluster, gv, "resource", res.Resource)
		r.said[name].Working(log, "the source serves the resource now", cluster, gv, slog.String("resource", res.Resource))
	case errors.Is(err, kube.ErrNotServed):
		r.missing[name] = err
		r.said[name].Failing(log, "NotServed", logging.ResourceNotFound, cluster, gv, slog.String("resource", e.Resource))
	default:
		r.missing[name] = err
		r.said[name].Failing(log, reasonOf(err), logging.ErrReadingResources, cluster, gv, slog.String("resource", e.Resource), logging.Err(err))
	}
}

// forget has a resource looked up again: the source answered that it has none such.
func (r *resolver) forget(res kube.Resource) {
	r.mu.Lock()
	for name, f := range r.found {
		if f.GroupVersionResource == res.GroupVersionResource {
			delete(r.found, name)
		}
	}
	r.mu.Unlock()
	r.signal()
}

// resources are those to read, by the name of (one of) their entries.
func (r *resolver) resources() map[string]kube.Resource {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := map[string]kube.Resource{}
	taken := map[schema.GroupVersionResource]bool{}
	for _, name := range r.wanted {
		if res, ok := r.found[name]; ok && !taken[res.GroupVersionResource] {
			taken[res.GroupVersionResource] = true
			all[name] = res
		}
	}
	return all
}

// waiting tells whether something is still to be found.
func (r *resolver) waiting() bool { return len(r.unserved()) > 0 }

// unserved are the entries without a resource, and why.
func (r *resolver) unserved() map[string]error {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := map[string]error{}
	for _, name := range r.wanted {
		if _, ok := r.found[name]; !ok {
			m[name] = r.missing[name]
		}
	}
	return m
}

// lookup finds a resource by its plural, for a key somebody asks about.
func (r *resolver) lookup(ctx context.Context, gvr schema.GroupVersionResource) (kube.Resource, error) {
	r.mu.Lock()
	for _, f := range r.found {
		if f.GroupVersionResource == gvr {
			r.mu.Unlock()
			return f, nil
		}
	}
	r.mu.Unlock()
	return r.t.source.Resolve(ctx, gvr.Group, gvr.Version, gvr.Resource)
}

func (r *resolver) loadAliases() {
	if r.aliases != nil {
		return
	}
	r.aliases = map[string]string{}
	p := r.t.m.parts[0]
	if raw, ok, err := p.m.stage.Meta(p.id, metaAliases); err == nil && ok {
		_ = json.Unmarshal(raw, &r.aliases) // unreadable: learned again
	}
	// The log knows them too, and is all there is on a new disk.
	var newest facts
	for _, p := range r.t.m.parts {
		p.mu.Lock()
		if p.facts.Generation > newest.Generation {
			newest = p.facts
		}
		p.mu.Unlock()
	}
	for name, plural := range newest.Aliases {
		if r.aliases[name] == "" {
			r.aliases[name] = plural
		}
	}
}

// learned are the plurals of the entries that name a resource otherwise.
func (r *resolver) learned() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := map[string]string{}
	for _, name := range r.wanted {
		if plural := r.aliases[name]; plural != "" && !strings.HasSuffix(name, "/"+plural) {
			m[name] = plural
		}
	}
	return m
}

func (r *resolver) saveAliases(ctx context.Context) {
	raw, _ := json.Marshal(r.aliases) // a map of strings always marshals
	p := r.t.m.parts[0]
	p.commits.Lock()
	defer p.commits.Unlock()
	c := p.m.stage.Change(p.id)
	c.SetMeta(metaAliases, raw)
	if err := c.Commit((*state.Position)(nil)); err != nil {
		r.t.log.WarnContext(ctx, "cannot remember the names of resources", logging.Err(err))
	}
}

// failing are the entries of which it is not known whether the source serves
// them, and those it serves no longer; what it never served has no objects to
// wait for.
func (r *resolver) failing() []string {
	var names []string
	for name, err := range r.unserved() {
		if !errors.Is(err, kube.ErrNotServed) || r.left(name) > 0 {
			names = append(names, name)
		}
	}
	return names
}

// left is how many live objects the log holds of an entry. Of one that the source
// does not serve nobody sees what became of them: a version that was taken away
// has objects that go on changing under another one, and a kind that was deleted
// while nobody watched has deletes that never arrive (guarantee 6).
func (r *resolver) left(name string) int64 {
	part := strings.Split(name, "/")
	if len(part) != 3 {
		return 0
	}
	r.mu.Lock()
	plural := cmp.Or(r.aliases[name], part[2])
	r.mu.Unlock()
	return r.t.m.tracked(topology.ResourcePrefix(schema.GroupVersionResource{Group: part[0], Version: part[1], Resource: plural}))
}
