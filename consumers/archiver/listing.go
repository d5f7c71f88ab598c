package archiver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/state/bucket"
	"github.com/afterimage-dr/afterimage/topology"
)

const (
	// maxDifferent originals are uploaded again by one comparison; the next does
	// the rest.
	maxDifferent = 100_000
	// maxUnknown objects of a listing are read to find out what they are; more
	// count as what would be removed.
	maxUnknown = 10_000
	// readers of unknown objects at a time.
	readers = 8
)

// expected is what one path must hold. Paths and ETags are known by their hashes:
// a million of them must fit into memory, without a body or a name.
type expected struct {
	etag, other uint64 // of the content, and as it was found to be listed
	offset      int64
	part        int32
	resource    int32 // index of the resource's name in comparison.names
	leftOut     bool
	seen        bool
}

// findings of a partition: the offsets of the records to upload again, with the
// ETag that was listed ("" where nothing was).
type findings struct{ repair map[int64]string }

// known is an object of the bucket that nothing in the log stands for.
type known struct {
	part    *partition
	key     topology.Key
	version topology.Version
}

// comparison is one pass over the bucket.
type comparison struct {
	a     *Archiver
	parts map[int32]*partition
	total int32

	// folders are the resources that may have originals, by the folder they are in.
	folders map[string][]schema.GroupVersionResource
	names   []string
	current string
	want    map[uint64]*expected
	found   map[*partition]*findings
	repairs int

	// unknown paths; more that did not fit.
	unknown []string
	unread  int64
	foreign int64
	over    bool

	// tracked originals, by resource; left are those of them that a change of the
	// configuration left out, lost those that nothing in the log stands for.
	tracked, left, lost map[string]int64
	// leftSet and lostSet name exactly what would be removed, in any order.
	leftSet, lostSet uint64
	// gone were deleted in the source, or are in no entry's resource.
	gone, judged []known
}

func newComparison(a *Archiver, parts map[int32]*partition, total int32) *comparison {
	c := &comparison{
		a: a, parts: parts, total: total, folders: map[string][]schema.GroupVersionResource{}, found: map[*partition]*findings{},
		tracked: map[string]int64{}, left: map[string]int64{}, lost: map[string]int64{},
	}
	resources := map[schema.GroupVersionResource]bool{}
	for _, p := range parts {
		c.found[p] = &findings{repair: map[int64]string{}}
		p.mu.Lock()
		for gvr := range p.memory.resources {
			resources[gvr] = true
		}
		p.mu.Unlock()
	}
	for gvr := range resources {
		folder := folderOf(bucket.Path(a.namespace, a.name, topology.Key{Group: gvr.Group, Version: gvr.Version, Resource: gvr.Resource, Name: "x"}))
		c.folders[folder] = append(c.folders[folder], gvr)
	}
	return c
}

// folderOf a path: everything up to its last slash.
func folderOf(path string) string { return path[:strings.LastIndexByte(path, '/')+1] }

// list goes over the bucket in the order of its paths, so that a resource's
// originals come together and only one resource is held at a time.
func (c *comparison) list(ctx context.Context) error {
	b, op, done, err := c.a.health.enter(ctx, ctx, func() bool { return true })
	if err != nil {
		return err
	}
	// The gate was for beginning only; listing takes as long as it takes.
	_ = op
	done()
	c.a.sayListing()
	entered := map[string]bool{}
	err = b.List(ctx, c.a.folder(), func(e bucket.Entry) error {
		if folder := folderOf(e.Path); folder != c.current || c.want == nil {
			if err := c.leave(); err != nil {
				return err
			}
			if err := c.enter(folder); err != nil {
				return err
			}
			entered[folder] = true
		}
		c.listed(e)
		return nil
	})
	if err != nil {
		return fmt.Errorf("listing: %w", err)
	}
	if err := c.leave(); err != nil {
		return err
	}
	for folder := range c.folders {
		if entered[folder] {
			continue
		}
		if err := c.enter(folder); err != nil {
			return err
		}
		if err := c.leave(); err != nil {
			return err
		}
	}
	return nil
}

// enter loads what a folder must hold.
func (c *comparison) enter(folder string) error {
	c.current, c.want = folder, map[uint64]*expected{}
	for _, gvr := range c.folders[folder] {
		prefix := topology.ResourcePrefix(gvr)
		resource := int32(len(c.names))
		c.names = append(c.names, strings.TrimSuffix(prefix, "/"))
		for number, p := range c.parts {
			err := c.a.State.Each(p.id, prefix, func(name string, e state.Entry) error {
				if e.Deleted || has(e, markGoing) {
					return nil // a tombstone that could not be followed has its own retry
				}
				key, err := topology.ParseKey(name)
				if err != nil {
					return nil //nolint:nilerr // not one of ours
				}
				path := bucket.Path(c.a.namespace, c.a.name, key)
				c.want[xxhash.Sum64String(path)] = &expected{
					etag: xxhash.Sum64String(e.Hash), other: xxhash.Sum64String(e.DestinationRV),
					offset: e.Offset, part: number, resource: resource, leftOut: has(e, markLeftOut),
				}
				return nil
			})
			if err != nil {
				return fmt.Errorf("going over what is remembered: %w", err)
			}
		}
	}
	return nil
}

// listed takes one object of the listing.
func (c *comparison) listed(e bucket.Entry) {
	hash := xxhash.Sum64String(e.Path)
	w := c.want[hash]
	if w == nil {
		if len(c.unknown) < maxUnknown {
			c.unknown = append(c.unknown, e.Path)
			return
		}
		c.unread++
		c.lostSet ^= hash
		return
	}
	w.seen = true
	resource := c.names[w.resource]
	c.tracked[resource]++
	if w.leftOut {
		c.left[resource]++
		c.leftSet ^= hash
		return
	}
	// Compared by what is listed, never by memory: memory only says what it must be.
	if etag := xxhash.Sum64String(e.ETag); etag != w.etag && etag != w.other {
		c.differs(w, e.ETag)
	}
}

// leave finds what a folder does not hold.
func (c *comparison) leave() error {
	for _, w := range c.want {
		if w.seen || w.leftOut {
			continue
		}
		c.tracked[c.names[w.resource]]++
		c.differs(w, "")
	}
	c.want = nil
	return nil
}

func (c *comparison) differs(w *expected, etag string) {
	if c.repairs >= maxDifferent {
		c.over = true
		return
	}
	c.repairs++
	c.found[c.parts[w.part]].repair[w.offset] = etag
}

// read finds out what the unknown objects are, by what they say of themselves.
func (c *comparison) read(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	var mu sync.Mutex
	for _, path := range c.unknown {
		g.Go(func() error {
			b, op, done, err := c.a.health.enter(gctx, gctx, func() bool { return true })
			if err != nil {
				return err
			}
			defer done()
			o, err := b.Get(op, path)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, bucket.ErrNotFound):
				return nil
			case errors.Is(err, bucket.ErrForeign), errors.Is(err, bucket.ErrDamaged):
				c.foreign++ // guarantee 9
				return nil
			case err != nil:
				return fmt.Errorf("reading %s: %w", path, err)
			}
			return c.unexpected(path, o)
		})
	}
	return g.Wait()
}

// unexpected takes an original that memory does not want.
func (c *comparison) unexpected(path string, o bucket.Original) error {
	if o.LiveSynchronization != c.a.namespace+"/"+c.a.name || bucket.Path(c.a.namespace, c.a.name, o.Key) != path {
		c.foreign++
		return nil
	}
	p := c.parts[topology.PartitionOf(o.Key.String(), c.total)]
	if p == nil {
		return nil // another process knows, or it has not caught up
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	name := o.Key.String()
	_, busy := p.lanes[name]
	_, failing := p.memory.quarantined[name]
	e, remembered, err := p.memory.get(name)
	if err != nil || busy || failing {
		return err
	}
	k := known{part: p, key: o.Key, version: o.Version}
	rules := p.rules.Load()
	switch {
	case remembered && !e.Deleted:
		return nil // it has come to life, or is being removed, since it was looked up
	case remembered && has(e, markGone):
		c.gone = append(c.gone, k)
		return nil
	case remembered, rules != nil && !rules.Covers(o.Key):
		// The configuration says so.
	default:
		// Guarantee 8: absence in changes is evidence only behind a complete listing.
		complete, err := p.complete(o.Key)
		if err != nil || !complete {
			return err
		}
	}
	resource := strings.TrimSuffix(topology.ResourcePrefix(o.Key.GVR()), "/")
	c.tracked[resource]++
	c.lost[resource]++
	c.lostSet ^= xxhash.Sum64String(path)
	c.judged = append(c.judged, k)
	return nil
}
