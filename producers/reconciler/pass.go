package reconciler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

// forcedNamespace marks a namespace that forceNamespaceCreation made: it is
// never pruned, so nobody needs to ask.
const forcedNamespace = topology.MarkPrefix + "forced-namespace"

// pass is one comparison.
type pass struct {
	*term
	settings settings.Settings
	// only these resources (by entry name); empty: all.
	only  []string
	owner topology.Owner

	mu      sync.Mutex
	tallies []*tally
	failed  []failure
	// requested in this pass; more: some were left for another.
	requested int
	more      bool
	blocked   string
}

type failure struct {
	name string
	err  error
}

// served is a resource as both clusters serve it.
type served struct {
	name                string
	source, destination kube.Resource
}

// tally of one resource.
type tally struct {
	served
	// owned by this LiveSynchronization and this source; leftAlone: under our
	// label but not ours to doubt; orphans: owned and not in the source.
	owned, leftAlone, orphans int
	// open are the orphans that were not asked for recently; held, the first of them.
	open int
	held []entry
}

// run compares. An error is about a cluster as a whole; what is about one
// resource is in failed.
func (p *pass) run(ctx context.Context) error {
	uid, err := p.source.ClusterUID(ctx)
	if err != nil {
		return &sideError{true, err}
	}
	p.owner = topology.OwnerOf(p.settings.Config)
	p.owner.SourceUID = uid
	resources := p.resolve(ctx)
	if err := p.checkSource(ctx, uid, resources); err != nil {
		return err
	}
	p.verified = uid
	var g errgroup.Group
	g.SetLimit(max(1, p.settings.ConcurrentTasks[Component]))
	for _, s := range resources {
		g.Go(func() error {
			p.compareResource(ctx, s)
			return nil
		})
	}
	_ = g.Wait() // failures are noted per resource
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return p.request(ctx, uid)
}

// resolve finds the covered resources in both clusters. One that either does not
// serve has nothing to compare: without the source's listing nothing can be
// concluded, and without the destination's there is nothing to delete.
func (p *pass) resolve(ctx context.Context) []served {
	var all []served
	seen := map[schema.GroupVersionResource]bool{}
	for _, e := range p.settings.Config.Replication.Resources {
		name := entryName(e)
		if len(p.only) > 0 && !slices.Contains(p.only, name) {
			continue
		}
		source, err := p.lookup(ctx, true, e)
		if err == nil && seen[source.GroupVersionResource] {
			continue
		}
		seen[source.GroupVersionResource] = true
		var destination kube.Resource
		if err == nil {
			e.Resource = source.Resource
			destination, err = p.lookup(ctx, false, e)
		}
		switch {
		case errors.Is(err, kube.ErrNotServed):
			p.log.DebugContext(ctx, logging.ResourceNotFound, append(clusters(p.settings), "resource", name, logging.Err(err))...)
		case err != nil:
			p.fail(name, err)
		default:
			all = append(all, served{name: name, source: source, destination: destination})
		}
	}
	return all
}

func (p *pass) lookup(ctx context.Context, source bool, e v1alpha1.Resource) (kube.Resource, error) {
	c := p.destination
	if source {
		c = p.source
	}
	r, err := c.Resolve(ctx, e.Group, e.Version, e.Resource)
	if err != nil {
		return r, &sideError{source, err}
	}
	return r, nil
}

func entryName(e v1alpha1.Resource) string {
	return cmp.Or(e.Group, "core") + "/" + e.Version + "/" + e.Resource
}

// compareResource joins the two listings of one resource.
func (p *pass) compareResource(ctx context.Context, s served) {
	began := time.Now()
	attrs := append(clusters(p.settings), "resource", s.name)
	p.log.DebugContext(ctx, logging.ListingObjects, attrs...)
	t, err := p.joinResource(ctx, s, true, join)
	if errors.Is(err, errOrder) {
		p.log.DebugContext(ctx, "the listing is not in key order: comparing through a set", attrs...)
		t, err = p.joinResource(ctx, s, false, joinSet)
	}
	if err != nil {
		if ctx.Err() == nil {
			p.fail(s.name, err)
		}
		return
	}
	p.state(s.name).Working(p.log, "both clusters list the resource again", slog.String("resource", s.name))
	message := logging.ListedObjects
	if t.owned == 0 {
		message = logging.ListedNothing
	}
	p.log.DebugContext(ctx, message, append(attrs, "objects", t.owned, "onlyInDestination", t.orphans, "leftAlone", t.leftAlone, "took", logging.Since(began))...)
	p.mu.Lock()
	p.tallies = append(p.tallies, t)
	p.mu.Unlock()
}

type joiner func(ctx context.Context, destination, source *cursor, wanted func(entry) bool, orphan func(entry)) error

func (p *pass) joinResource(ctx context.Context, s served, ordered bool, join joiner) (*tally, error) {
	t := &tally{served: s}
	err := join(ctx,
		newCursor(p.destination, s.destination, topology.OwnerLabel+"="+p.owner.Hash(), p.opts.PageSize, ordered),
		newCursor(p.source, s.source, "", p.opts.PageSize, ordered),
		func(e entry) bool {
			if !p.ours(s, e.meta) {
				t.leftAlone++
				return false
			}
			t.owned++
			return true
		},
		func(e entry) {
			t.orphans++
			if _, asked := p.recent[keyOf(s.source, e.meta).String()]; asked {
				return
			}
			if t.open++; len(t.held) < p.opts.MaxRequests {
				t.held = append(t.held, slim(e))
			}
		})
	return t, err
}

// ours tells whether an object of the destination may be doubted at all.
//
// Guarantee 9: the label alone is not proof of ownership (anybody may copy an
// object with its labels); the annotations must name this LiveSynchronization,
// this source and the very key the object is found under.
func (p *pass) ours(s served, m kube.Meta) bool {
	owner, ok := topology.OwnerIn(m.Annotations)
	switch {
	case !ok || owner != p.owner:
	case m.Annotations[topology.AdoptedAnnotation] != "":
	case m.Annotations[forcedNamespace] != "":
	case m.DeletionTimestamp != nil: // on its way out
	case m.Annotations[topology.KeyAnnotation] != keyOf(s.source, m).String():
	default:
		return true
	}
	return false
}

func (p *pass) fail(name string, err error) {
	p.mu.Lock()
	p.failed = append(p.failed, failure{name, err})
	p.mu.Unlock()
	p.state(name).Failing(p.log, reasonOf(err), logging.ErrListingObjects, logging.SourceCluster(p.settings.Source),
		logging.DestinationCluster(p.settings.Destination), slog.String("resource", name), logging.Err(err))
}

// state of a resource, as far as it was said.
func (t *term) state(name string) *logging.State {
	t.saidMu.Lock()
	defer t.saidMu.Unlock()
	if t.said[name] == nil {
		t.said[name] = &logging.State{}
	}
	return t.said[name]
}

func (p *pass) failedNames() []string {
	names := make([]string, len(p.failed))
	for i, f := range p.failed {
		names[i] = f.name
	}
	return names
}

func (p *pass) firstError() error {
	if len(p.failed) == 0 {
		return nil
	}
	return fmt.Errorf("%s: %w", p.failed[0].name, p.failed[0].err)
}
