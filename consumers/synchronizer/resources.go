package synchronizer

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/afterimage-dr/afterimage/internal/kube"
)

// resources remembers what the destination serves. What it does not serve is
// asked for again after a second, or as soon as a definition changes.
type resources struct {
	kube *kube.Client
	one  singleflight.Group

	mu     sync.Mutex
	known  map[schema.GroupVersionResource]kube.Resource
	absent map[schema.GroupVersionResource]time.Time
}

func newResources(k *kube.Client) *resources {
	return &resources{kube: k, known: map[schema.GroupVersionResource]kube.Resource{}, absent: map[schema.GroupVersionResource]time.Time{}}
}

// get resolves a resource; kube.ErrNotServed.
func (c *resources) get(ctx context.Context, gvr schema.GroupVersionResource) (kube.Resource, error) {
	c.mu.Lock()
	r, ok := c.known[gvr]
	since, absent := c.absent[gvr]
	c.mu.Unlock()
	if ok {
		return r, nil
	}
	if absent && time.Since(since) < time.Second {
		return kube.Resource{}, kube.ErrNotServed
	}
	v, err, _ := c.one.Do(gvr.String(), func() (any, error) {
		r, err := c.kube.Resolve(context.WithoutCancel(ctx), gvr.Group, gvr.Version, gvr.Resource)
		c.mu.Lock()
		defer c.mu.Unlock()
		switch {
		case err == nil:
			c.known[gvr] = r
			delete(c.absent, gvr)
		case errors.Is(err, kube.ErrNotServed):
			c.absent[gvr] = time.Now()
		}
		return r, err
	})
	if err != nil {
		return kube.Resource{}, err
	}
	return v.(kube.Resource), nil
}

// forget what was learned of a resource, or of all resources of a group: its
// definition changed.
func (c *resources) forget(group, resource string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for gvr := range c.known {
		if gvr.Group == group && gvr.Resource == resource {
			delete(c.known, gvr)
		}
	}
	for gvr := range c.absent {
		if gvr.Group == group && gvr.Resource == resource {
			delete(c.absent, gvr)
		}
	}
}

// reset forgets everything.
func (c *resources) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.known)
	clear(c.absent)
}
