package kube

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Served remembers what a cluster serves. What it does not serve is
// asked for again after a second, or as soon as a definition changes.
type Served struct {
	client *Client
	one    singleflight.Group

	mu     sync.Mutex
	known  map[schema.GroupVersionResource]Resource
	absent map[schema.GroupVersionResource]time.Time
}

// NewServed makes one; it does not connect yet. Safe for concurrent use.
func NewServed(c *Client) *Served {
	return &Served{client: c, known: map[schema.GroupVersionResource]Resource{}, absent: map[schema.GroupVersionResource]time.Time{}}
}

// Get resolves a resource; [ErrNotServed].
func (c *Served) Get(ctx context.Context, gvr schema.GroupVersionResource) (Resource, error) {
	c.mu.Lock()
	r, ok := c.known[gvr]
	since, absent := c.absent[gvr]
	c.mu.Unlock()
	if ok {
		return r, nil
	}
	if absent && time.Since(since) < time.Second {
		return Resource{}, ErrNotServed
	}
	v, err, _ := c.one.Do(gvr.String(), func() (any, error) {
		r, err := c.client.Resolve(context.WithoutCancel(ctx), gvr.Group, gvr.Version, gvr.Resource)
		c.mu.Lock()
		defer c.mu.Unlock()
		switch {
		case err == nil:
			c.known[gvr] = r
			delete(c.absent, gvr)
		case errors.Is(err, ErrNotServed):
			c.absent[gvr] = time.Now()
		}
		return r, err
	})
	if err != nil {
		return Resource{}, err
	}
	return v.(Resource), nil
}

// Forget what was learned of a resource, or of all resources of a group: its
// definition changed.
func (c *Served) Forget(group, resource string) {
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

// Reset forgets everything.
func (c *Served) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.known)
	clear(c.absent)
}
