package synchronizer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/owned"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// listPage is how many objects one page of a listing holds.
const listPage = 500

// census rebuilds the memory of partitions from the marks of the objects at the
// destination (guarantee 7), in one listing for all partitions that ask at about
// the same time.
type census struct {
	s       *Synchronizer
	mu      sync.Mutex
	waiting map[*partition]chan error
}

// censusGather is how long partitions are waited for before a listing begins.
const censusGather = 200 * time.Millisecond

func newCensus(s *Synchronizer) *census { return &census{s: s, waiting: map[*partition]chan error{}} }

// rebuild returns when everything of ours that the destination held is remembered.
func (c *census) rebuild(ctx context.Context, p *partition) error {
	done := make(chan error, 1)
	c.mu.Lock()
	c.waiting[p] = done
	if len(c.waiting) == 1 {
		time.AfterFunc(censusGather, c.take)
	}
	c.mu.Unlock()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// take lists for those who wait.
func (c *census) take() {
	c.mu.Lock()
	asking := c.waiting
	c.waiting = map[*partition]chan error{}
	c.mu.Unlock()
	groups := map[topology.Owner][]*partition{}
	for p := range asking {
		groups[p.owner()] = append(groups[p.owner()], p)
	}
	for owner, ps := range groups {
		err := c.list(owner, ps)
		for _, p := range ps {
			asking[p] <- err
		}
	}
}

func (c *census) list(owner topology.Owner, ps []*partition) error {
	ctx := c.s.background
	n, err := c.s.partitionCount(ctx)
	if err != nil {
		return err
	}
	changes := map[int32]*state.Change{}
	counts := map[int32]int{}
	for _, p := range ps {
		changes[p.id.Number] = c.s.State.Change(p.id)
	}
	objects := 0
	commit := func() error {
		for _, t := range changes {
			if err := t.Commit(nil); err != nil {
				return err
			}
		}
		return nil
	}
	err = c.s.eachOwned(ctx, owner, c.s.covered(ps), func(o ownedObject) error {
		number := topology.PartitionOf(o.keyText, n)
		t := changes[number]
		if t == nil {
			return nil
		}
		counts[number]++
		e := entryOf(&owned.Object{Meta: o.meta})
		e.Mark = mark(e.Mark, markUnverified)
		t.Put(o.keyText, e)
		if objects++; objects%1000 == 0 {
			return commit()
		}
		return nil
	}, nil)
	if err != nil {
		return fmt.Errorf("listing what the destination holds of ours: %w", err)
	}
	for _, p := range ps {
		p.mu.Lock()
		p.recovered = counts[p.id.Number]
		p.mu.Unlock()
	}
	if objects > 0 {
		c.s.Logger.Info("lost state was rebuilt from the destination", "objects", objects, "partitions", len(ps))
	}
	return commit()
}

// partitionCount is the number of partitions of the topic.
func (s *Synchronizer) partitionCount(ctx context.Context) (int32, error) {
	if n := s.count.Load(); n > 0 {
		return n, nil
	}
	ps, err := s.Log.Partitions(ctx, s.Topics.Desired)
	if err != nil {
		return 0, err
	}
	s.count.Store(int32(len(ps)))
	return int32(len(ps)), nil
}

// covered are the resources that may have objects of ours: those configured, and
// those that the partitions have seen.
func (s *Synchronizer) covered(ps []*partition) []schema.GroupVersionResource {
	seen := map[schema.GroupVersionResource]bool{}
	var all []schema.GroupVersionResource
	add := func(gvr schema.GroupVersionResource) {
		if !seen[gvr] {
			seen[gvr] = true
			all = append(all, gvr)
		}
	}
	for _, e := range s.Settings.Load().Config.Replication.Resources {
		add(schema.GroupVersionResource{Group: e.Group, Version: e.Version, Resource: e.Resource})
	}
	for _, p := range ps {
		p.mu.Lock()
		for gvr := range p.gvrs {
			add(gvr)
		}
		p.mu.Unlock()
	}
	return all
}

// ownedObject is an object of ours at the destination.
type ownedObject struct {
	keyText string
	meta    kube.Meta
}

// eachOwned calls fn for every object of ours, and listed after each resource
// whose every page was read. What another key than its own is written on is
// passed over. A resource that is not served has none.
func (s *Synchronizer) eachOwned(ctx context.Context, owner topology.Owner, gvrs []schema.GroupVersionResource, fn func(ownedObject) error, listed func(kube.Resource) error) error {
	done := map[schema.GroupVersionResource]bool{}
	for _, gvr := range gvrs {
		r, err := s.resources.Get(ctx, gvr)
		if errors.Is(err, kube.ErrNotServed) || done[r.GroupVersionResource] {
			continue
		}
		if err != nil {
			return err
		}
		done[r.GroupVersionResource] = true
		if err := s.eachOwnedOf(ctx, owner, r, fn); err != nil {
			return fmt.Errorf("%s: %w", r.GroupVersionResource, err)
		}
		if listed != nil {
			if err := listed(r); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Synchronizer) eachOwnedOf(ctx context.Context, owner topology.Owner, r kube.Resource, fn func(ownedObject) error) error {
	k := s.kube.Metadata()
	o := kube.ListOptions{LabelSelector: topology.OwnerLabel + "=" + owner.Hash(), Limit: listPage}
	for {
		page, err := k.ListPage(ctx, r, o)
		if err != nil {
			return &opError{logging.ErrListingObjects, err}
		}
		for _, item := range page.Items {
			m, err := kube.MetaOf(item)
			if err != nil {
				return err
			}
			key, err := topology.ParseKey(m.Annotations[topology.KeyAnnotation])
			if err != nil || key.Group != r.Group || key.Resource != r.Resource || key.Namespace != m.Namespace || key.Name != m.Name ||
				owned.OwnershipOf(&m, owner, key) != owned.Ours || m.Annotations[owned.ForcedNamespaceAnnotation] != "" {
				continue
			}
			if err := fn(ownedObject{key.String(), m}); err != nil {
				return err
			}
		}
		if o.Continue = page.Continue; o.Continue == "" {
			return nil
		}
	}
}
