package reconciler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/topology"
)

// errOrder: a listing was not in key order (an aggregated API server may do so).
var errOrder = errors.New("the listing is not in the order of its keys")

// entry of a listing.
type entry struct {
	// path is <namespace>/<name>, which is what etcd orders by: as one text, so
	// that namespace a-b comes before namespace a.
	path string
	meta kube.Meta
}

// cursor walks a listing in pages.
type cursor struct {
	list func(context.Context, kube.ListOptions) (kube.Page, error)
	opts kube.ListOptions

	items   []json.RawMessage
	began   bool
	path    string
	ordered bool // refuse what is out of order
	count   int
}

func newCursor(c *kube.Client, r kube.Resource, selector string, pageSize int64, ordered bool) *cursor {
	return &cursor{
		list:    func(ctx context.Context, o kube.ListOptions) (kube.Page, error) { return c.ListPage(ctx, r, o) },
		opts:    kube.ListOptions{LabelSelector: selector, Limit: pageSize},
		ordered: ordered,
	}
}

// next returns the next entry; false at the end. An error is final: a listing
// cannot be continued elsewhere.
func (c *cursor) next(ctx context.Context) (entry, bool, error) {
	for len(c.items) == 0 {
		if c.began && c.opts.Continue == "" {
			return entry{}, false, nil
		}
		page, err := c.list(ctx, c.opts)
		if err != nil {
			return entry{}, false, err
		}
		c.began, c.items, c.opts.Continue = true, page.Items, page.Continue
	}
	m, err := kube.MetaOf(c.items[0])
	if err != nil {
		return entry{}, false, fmt.Errorf("an item of the listing: %w", err)
	}
	if m.Name == "" {
		return entry{}, false, errors.New("an item of the listing has no name")
	}
	c.items = c.items[1:]
	e := entry{path: m.Namespace + "/" + m.Name, meta: m}
	if c.ordered && c.count > 0 && e.path <= c.path {
		return entry{}, false, errOrder
	}
	c.path = e.path
	c.count++
	return e, true, nil
}

// join calls orphan for every entry of the destination that is wanted and that
// the source does not hold. Both are streamed side by side in key order.
//
// The destination's listing begins first, and each listing is a snapshot of the
// time of its first page: what the destination holds was written for an object
// the source held before, so an object missing from the source's snapshot has
// been deleted there, and none that was only just created is taken for one.
func join(ctx context.Context, destination, source *cursor, wanted func(entry) bool, orphan func(entry)) error {
	d, more, err := destination.next(ctx)
	if err != nil {
		return &sideError{false, err}
	}
	if !more {
		return nil
	}
	s, left, err := source.next(ctx)
	for {
		if err != nil {
			return &sideError{true, err}
		}
		switch {
		case left && s.path < d.path:
			s, left, err = source.next(ctx)
			continue
		case wanted(d) && (!left || s.path != d.path):
			orphan(d)
		}
		if d, more, err = destination.next(ctx); err != nil {
			return &sideError{false, err}
		}
		if !more {
			return nil
		}
	}
}

// joinSet does what join does for listings in no order. It holds the wanted
// entries of the destination: as many as this LiveSynchronization wrote of one
// resource.
func joinSet(ctx context.Context, destination, source *cursor, wanted func(entry) bool, orphan func(entry)) error {
	held := map[string]entry{}
	for {
		d, more, err := destination.next(ctx)
		if err != nil {
			return &sideError{false, err}
		}
		if !more {
			break
		}
		if wanted(d) {
			held[d.path] = slim(d)
		}
	}
	for len(held) > 0 {
		s, more, err := source.next(ctx)
		if err != nil {
			return &sideError{true, err}
		}
		if !more {
			break
		}
		delete(held, s.path)
	}
	for _, d := range held {
		orphan(d)
	}
	return nil
}

// slim keeps of an entry what names it; the rest would hold a page in memory.
func slim(e entry) entry {
	return entry{path: e.path, meta: kube.Meta{Namespace: e.meta.Namespace, Name: e.meta.Name, UID: e.meta.UID, ResourceVersion: e.meta.ResourceVersion}}
}

// sideError tells which cluster failed.
type sideError struct {
	source bool
	err    error
}

func (e *sideError) Error() string {
	if e.source {
		return "source: " + e.err.Error()
	}
	return "destination: " + e.err.Error()
}

func (e *sideError) Unwrap() error { return e.err }

// keyOf an object of a resource.
func keyOf(r kube.Resource, m kube.Meta) topology.Key {
	return topology.Key{Group: r.Group, Version: r.Version, Resource: r.Resource, Namespace: m.Namespace, Name: m.Name}
}
