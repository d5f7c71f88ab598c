package archiver

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/afterimage-dr/afterimage/state/bucket"
)

// index is what a listing found, by hashes: of the paths, and of the ETags. It is
// used while nothing is remembered, so that a bucket which holds everything costs
// a listing and no request for each object, and an empty one costs one each.
type index struct{ etags map[uint64]uint64 }

// look tells whether nothing was listed at a path, or the very content.
func (i *index) look(path, etag string) (absent, same bool) {
	found, ok := i.etags[xxhash.Sum64String(path)]
	return !ok, ok && found == xxhash.Sum64String(etag)
}

// census lists for all partitions of the process that begin at about the same time.
type census struct {
	a *Archiver

	mu    sync.Mutex // held while it lists
	last  *index
	began time.Time
}

// of returns a listing that began after a moment.
func (c *census) of(ctx context.Context, b store, after time.Time) (*index, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last != nil && c.began.After(after) {
		return c.last, nil
	}
	if !sleep(ctx, gather) { // the other partitions are about to be given too
		return nil, ctx.Err()
	}
	began, i := time.Now(), &index{etags: map[uint64]uint64{}}
	c.a.sayListing()
	err := b.List(ctx, c.a.folder(), func(e bucket.Entry) error {
		i.etags[xxhash.Sum64String(e.Path)] = xxhash.Sum64String(e.ETag)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing: %w", err)
	}
	c.last, c.began = i, began
	return i, nil
}

// look returns what the bucket holds while nothing is remembered of the partition,
// nil once it is; an error where the pass has ended.
func (p *partition) look() (*index, error) {
	for {
		p.mu.Lock()
		blank, i := p.blank, p.index
		p.mu.Unlock()
		if !blank || i != nil {
			return i, nil
		}
		b, _, done, err := p.a.health.enter(p.ctx, p.effects, p.assignment.Alive)
		if err != nil {
			return nil, err
		}
		done() // of one request; listing takes as long as it takes
		i, err = p.a.census.of(p.ctx, b, p.assigned)
		switch {
		case err == nil:
			p.mu.Lock()
			p.index = i
			p.mu.Unlock()
		case p.ctx.Err() != nil:
			return nil, err
		case !p.a.health.whole(p.ctx, err) && !sleep(p.ctx, time.Second):
			return nil, err
		}
	}
}

// forget frees what nobody needs any more.
func (c *census) forget() {
	for _, p := range c.a.working() {
		if !p.isCaughtUp() {
			return
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = nil
}
