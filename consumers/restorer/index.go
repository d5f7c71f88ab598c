package restorer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/owned"
	"github.com/afterimage-dr/afterimage/topology"
)

// existing is what is remembered of an object at the destination.
type existing struct {
	pre         owned.Precondition
	whose       owned.Ownership
	version     topology.Version
	hash        string
	recovered   string
	applied     bool // our managedFields entry, if any, is one of Apply
	adopted     bool
	forced      bool
	terminating bool
}

// existingOf reads the marks of an object.
func (r *Restorer) existingOf(m *kube.Meta, key topology.Key) *existing {
	a := m.Annotations
	return &existing{
		pre:   owned.Precondition{UID: m.UID, ResourceVersion: m.ResourceVersion},
		whose: owned.OwnershipOf(m, r.owner, key, r.Config.FormerSourceUIDs...), version: owned.AppliedVersion(m),
		hash: a[topology.HashAnnotation], recovered: a[topology.RecoveredAnnotation], applied: owned.Applied(m),
		adopted: a[topology.AdoptedAnnotation] != "", forced: a[owned.ForcedNamespaceAnnotation] != "", terminating: m.DeletionTimestamp != nil,
	}
}

// ours tells whether it was written for this LiveSynchronization.
func (e *existing) ours() bool {
	return e != nil && (e.whose == owned.Ours || e.whose == owned.OursOtherVersion)
}

// index is what the destination holds of ours, by key. Safe for concurrent use.
type index struct {
	mu   sync.Mutex
	keys map[string]*existing
}

func (i *index) get(key string) *existing {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.keys[key]
}

func (i *index) set(key string, e *existing) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys[key] = e
}

// listPage is how many objects one page of a listing holds.
const listPage = 500

// survey lists the destination's objects of ours, marks only.
func (r *Restorer) survey(ctx context.Context) (*index, error) {
	i := &index{keys: map[string]*existing{}}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for _, gvr := range r.resources() {
		g.Go(func() error {
			err := r.surveyOf(ctx, gvr, func(key topology.Key, m *kube.Meta) {
				i.set(key.String(), r.existingOf(m, key))
			})
			if err != nil && ctx.Err() == nil {
				// One resource must not stop the others: each of its objects is looked at
				// when it cannot be created.
				r.warn("%v", err)
				return nil
			}
			return err
		})
	}
	return i, g.Wait()
}

// surveyOf lists our objects of one resource. One that is not served has none.
func (r *Restorer) surveyOf(ctx context.Context, gvr schema.GroupVersionResource, fn func(topology.Key, *kube.Meta)) error {
	resource, err := r.served.Get(ctx, gvr)
	if errors.Is(err, kube.ErrNotServed) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading what the destination serves: %w", err)
	}
	o := kube.ListOptions{LabelSelector: topology.OwnerLabel + " in (" + strings.Join(r.ownerHashes(), ",") + ")", Limit: listPage}
	metadata := r.Destination.Metadata()
	for {
		var page kube.Page
		err := r.persist(ctx, func(ctx context.Context) (err error) {
			page, err = metadata.ListPage(ctx, resource, o)
			return err
		})
		if err != nil {
			return fmt.Errorf("listing %s at the destination: %w", gvr.Resource, err)
		}
		for _, item := range page.Items {
			m, err := kube.MetaOf(item)
			if err != nil {
				return fmt.Errorf("listing %s at the destination: %w", gvr.Resource, err)
			}
			fn(topology.Key{Group: gvr.Group, Version: gvr.Version, Resource: gvr.Resource, Namespace: m.Namespace, Name: m.Name}, &m)
		}
		if o.Continue = page.Continue; o.Continue == "" {
			return nil
		}
	}
}

// ownerHashes are the owner labels of this LiveSynchronization, those of its
// former sources included.
func (r *Restorer) ownerHashes() []string {
	out := []string{r.owner.Hash()}
	for _, uid := range r.Config.FormerSourceUIDs {
		out = append(out, topology.Owner{LiveSynchronization: r.owner.LiveSynchronization, SourceUID: uid}.Hash())
	}
	return out
}

// resources of the configuration, each once; with forceNamespaceCreation also the
// namespaces.
func (r *Restorer) resources() []schema.GroupVersionResource {
	seen := map[schema.GroupVersionResource]bool{}
	var out []schema.GroupVersionResource
	add := func(gvr schema.GroupVersionResource) {
		if !seen[gvr] {
			seen[gvr] = true
			out = append(out, gvr)
		}
	}
	if r.Config.Replication.ForceNamespaceCreation || r.NamespacePrefix != "" {
		add(kube.Namespaces.GroupVersionResource)
	}
	for _, e := range r.Config.Replication.Resources {
		add(schema.GroupVersionResource{Group: e.Group, Version: e.Version, Resource: e.Resource})
	}
	return out
}
