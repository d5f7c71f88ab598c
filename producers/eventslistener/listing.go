package eventslistener

import (
	"context"
	"encoding/json"
	"hash/maphash"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// listing is one comparison of what the source holds of a resource with what
// changes holds of it.
//
// It is not a merge of two ordered streams: a resource's keys lie in as many
// orders as there are partitions, an aggregated API server need not order its
// lists, and live events come between. Instead the keys that were shown are
// noted as 64-bit hashes (about 16 bytes each, for as long as the listing
// lasts), and what the log holds and the source did not show is absent. The
// hash's seed is new each time, so that two keys that collide, which hides an
// absence, do not collide the next time.
type listing struct {
	rv    string
	began time.Time
	seed  maphash.Seed
	// doubts there had been of the resource when the listing began.
	doubts int

	mu    sync.Mutex
	shown map[uint64]struct{}
	items int
}

func newListing() *listing {
	return &listing{began: time.Now(), seed: maphash.MakeSeed(), shown: map[uint64]struct{}{}}
}

// saw notes a key, from a page or from an event beside it. A nil listing notes nothing.
func (l *listing) saw(key string) {
	if l == nil {
		return
	}
	h := maphash.String(l.seed, key)
	l.mu.Lock()
	l.shown[h] = struct{}{}
	l.mu.Unlock()
}

func (l *listing) has(key string) bool {
	h := maphash.String(l.seed, key)
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.shown[h]
	return ok
}

// list makes one complete comparison. begin is called with the resourceVersion
// of the first page, so that the watch runs beside the rest.
func (lf *life) list(ctx context.Context, begin func(rv string)) error {
	defer lf.setCurrent(nil)
	for {
		// Before the first page: an event handed over from now on is noted.
		l := lf.newListing()
		lf.setCurrent(l)
		err := lf.pages(ctx, "", l, begin, func(raw []byte) error {
			l.items++
			return lf.handler.item(ctx, raw, l)
		})
		if apierrors.IsResourceExpired(err) && l.rv != "" {
			// An expired continue token. What was appended makes the next attempt
			// faster: only what is missing in the log waits for consumers.
			lf.t.l.counts.expired.Add(1)
			lf.t.log.InfoContext(ctx, "a listing took too long for the source and begins again", "resource", lf.subject, lf.t.cluster(), "objects", l.items)
			continue
		}
		if err != nil {
			return err
		}
		if err := lf.handler.complete(ctx, l); err != nil {
			return err
		}
		lf.finished(l)
		return nil
	}
}

// pages reads every page of a consistent listing.
func (lf *life) pages(ctx context.Context, namespace string, l *listing, begin func(rv string), each func(raw []byte) error) error {
	t := lf.t
	t.log.DebugContext(ctx, logging.ListingObjects, t.cluster(), "resource", lf.subject)
	opts := kube.ListOptions{Namespace: namespace, Limit: t.opts.PageSize}
	before := t.seen(lf.subject)
	for {
		next, err := lf.page(ctx, opts, before, l, begin, each)
		if err != nil || next.Continue == "" {
			return err
		}
		opts = next
	}
}

// page reads one page and hands its items over; it returns the options of the next.
func (lf *life) page(ctx context.Context, opts kube.ListOptions, before string, l *listing, begin func(rv string), each func(raw []byte) error) (kube.ListOptions, error) {
	t := lf.t
	if lf.handler != handler(t.stamps) { // all others wait for the namespaces
		select {
		case t.pages <- struct{}{}:
			defer func() { <-t.pages }()
		case <-ctx.Done():
			return opts, context.Cause(ctx)
		}
	}
	page, err := t.source.ListPage(ctx, lf.r, opts)
	if err == nil {
		// Before anything of it is taken for the source's: the kubeconfig may lead
		// elsewhere since the last look.
		err = t.sameCluster(ctx)
	}
	if err != nil {
		return opts, err
	}
	if l.rv == "" {
		back, err := t.rewound(ctx, lf, page.ResourceVersion, before)
		switch {
		case err != nil:
			return opts, err
		case back:
			return opts, errRewound
		}
		l.rv = page.ResourceVersion
		t.see(lf.subject, l.rv)
		if begin != nil {
			begin(l.rv)
		}
	}
	opts.Continue = page.Continue
	opts.Limit = lf.nextLimit(page.Items)
	for i, raw := range page.Items {
		page.Items[i] = nil // let go of what is done while the page waits for consumers
		if err := each(raw); err != nil {
			return opts, err
		}
	}
	return opts, nil
}

// pageBytes is what a page may hold, roughly: objects of a megabyte come few at a time.
const pageBytes = 8 << 20

// nextLimit is the size of the next page, from what this one weighed.
func (lf *life) nextLimit(items []json.RawMessage) int64 {
	limit := lf.t.opts.PageSize
	size := 0
	for _, raw := range items {
		size += len(raw)
	}
	if size > 0 {
		limit = min(limit, int64(pageBytes)*int64(len(items))/int64(size))
	}
	return max(limit, 1)
}

// each calls fn for every object of a namespace.
func (lf *life) each(ctx context.Context, namespace string, fn func(*object) error) error {
	return lf.pages(ctx, namespace, newListing(), nil, func(raw []byte) error {
		o, err := decode(lf.r, raw)
		if err != nil {
			return err
		}
		return fn(&o)
	})
}

func (lf *life) newListing() *listing {
	l := newListing()
	lf.mu.Lock()
	l.doubts = lf.doubts
	lf.mu.Unlock()
	return l
}

func (lf *life) setCurrent(l *listing) {
	lf.mu.Lock()
	lf.current = l
	lf.mu.Unlock()
}

// finished notes a listing whose every difference has been appended, or is held
// back by the breaker: then the resource is not sure.
func (lf *life) finished(l *listing) {
	blocked := lf.t.absence.isBlocked(lf.subject)
	lf.mu.Lock()
	defer lf.mu.Unlock()
	lf.listed = l.began
	lf.sure = !blocked && lf.doubts == l.doubts
	if lf.sure && l.began.After(lf.verified) {
		// The watch goes on from here, so this is as good as a probe.
		lf.verified = l.began
	}
}

// complete concludes what is absent and marks the listing in the log.
func (h *objects) complete(ctx context.Context, l *listing) error {
	t := h.t
	if l.items == 0 {
		t.log.InfoContext(ctx, logging.ListedNothing, t.cluster(), "resource", h.lf.subject)
	} else {
		t.log.InfoContext(ctx, logging.ListedObjects, t.cluster(), "resource", h.lf.subject, "objects", l.items)
	}
	t.oversize.retain(h.lf.subject+"/", l.has)
	absent, err := h.missing(ctx, l)
	if err != nil {
		return err
	}
	if len(absent) > 0 {
		h.lf.mu.Lock()
		h.lf.sure = false // until it is known what became of them
		h.lf.mu.Unlock()
	}
	blocked, err := t.absence.conclude(ctx, h.lf, absent)
	if err != nil {
		return err
	}
	if blocked {
		time.AfterFunc(blockedAgain, h.lf.relist)
	}
	body, _ := json.Marshal(topology.ListedBody{ResourceVersion: l.rv, Fresh: !blocked, At: l.began.UTC()}) // plain data always marshals
	return t.m.broadcast(ctx, topology.Record{
		Key: topology.ControlKey(topology.Listed, h.lf.subject), Kind: topology.Listed,
		Version: topology.Version{Epoch: t.epoch.Load(), RV: l.rv}, Body: body,
	})
}

// blockedAgain is when a resource whose deletes are held back is listed again:
// an empty list that was no more than a server in trouble clears itself.
const blockedAgain = time.Minute

// missing finds what the log holds and a complete listing did not show.
func (h *objects) missing(ctx context.Context, l *listing) ([]candidate, error) {
	if err := h.t.m.flush(ctx); err != nil {
		return nil, err
	}
	var absent []candidate
	for _, p := range h.t.m.parts {
		err := p.m.stage.Each(p.id, h.lf.subject+"/", func(key string, e state.Entry) error {
			if e.Deleted || l.has(key) {
				return nil
			}
			absent = append(absent, candidate{key: key, entry: e, known: true, rv: l.rv})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return absent, nil
}
