package eventslistener

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/topology"
)

// errExpired: the watch cannot go on; everything must be listed again.
var errExpired = errors.New("the resourceVersion to watch from is too old")

// handler is what is done with the objects of a resource.
type handler interface {
	// item takes one object of a listing.
	item(ctx context.Context, raw []byte, l *listing) error
	// complete is called behind the last item.
	complete(ctx context.Context, l *listing) error
	// event takes one event of the watch and returns its resourceVersion. l is
	// the listing in progress, or nil.
	event(ctx context.Context, ev kube.Event, l *listing) (string, error)
}

// life is the reading of one resource: a listing, a watch from its
// resourceVersion on beside it, and from time to time another listing to compare.
type life struct {
	t       *term
	r       kube.Resource
	subject string
	handler handler
	stop    context.CancelFunc
	ended   atomic.Bool
	again   chan struct{} // asks for a listing
	health  logging.State
	// busy while the watch hands over an event: it is not the watch that hangs.
	busy atomic.Bool

	mu      sync.Mutex
	current *listing // in progress
	watch   *kube.Watch
	cut     context.CancelCauseFunc // of the watch's connection
	passed  string                  // resourceVersion the watch has passed
	probes  []probe
	// sure since the last complete listing: what it and the watch showed is all.
	sure bool
	// doubts counts reasons to list again; a listing that began before the last of
	// them makes nothing sure.
	doubts   int
	verified time.Time
	listed   time.Time
	problem  error
	message  string
}

// probe is a consistent one-item listing: what the source showed at a moment.
type probe struct {
	at time.Time
	rv string
}

func newLife(t *term, r kube.Resource) *life {
	lf := &life{t: t, r: r, again: make(chan struct{}, 1)}
	lf.subject = subjectOf(topology.Key{Group: r.Group, Version: r.Version, Resource: r.Resource})
	lf.handler = &objects{t: t, lf: lf}
	return lf
}

// relist asks for a listing; several requests are one.
func (lf *life) relist() {
	select {
	case lf.again <- struct{}{}:
	default:
	}
}

// doubt says that not everything may have been appended, and has everything
// listed again: a complete listing that begins from now on ends it.
func (lf *life) doubt() {
	lf.mu.Lock()
	lf.sure, lf.probes = false, nil
	lf.doubts++
	lf.mu.Unlock()
	lf.relist()
}

// run reads until ctx ends or the source serves the resource no longer.
func (lf *life) run(ctx context.Context) {
	defer lf.ended.Store(true)
	lf.ended.Store(false)
	wait := backoff{max: lf.t.opts.Retry}
	for ctx.Err() == nil {
		began := time.Now()
		err := lf.cycle(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case ends(err):
			lf.t.interrupt(err)
			return
		case err == nil || errors.Is(err, errExpired):
			if time.Since(began) > lf.t.opts.Retry {
				wait.reset()
			}
		default:
			lf.failing(err)
			if apierrors.IsNotFound(err) && lf.handler != handler(lf.t.stamps) {
				wait.after(ctx, err)
				lf.t.resolver.forget(lf.r)
				return
			}
		}
		wait.after(ctx, err)
	}
}

// ends tells whether an error is about more than one resource.
func ends(err error) bool {
	return errors.Is(err, errRewound) || errors.Is(err, errBeginAgain)
}

// cycle lists and watches until the watch cannot go on.
func (lf *life) cycle(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	watching := make(chan error, 2) // read by the loop and by the deferred wait
	started := false
	lf.mu.Lock()
	// Until the listing is complete, what the watch has passed says nothing.
	lf.sure, lf.probes = false, nil
	lf.mu.Unlock()
	defer func() {
		cancel(nil)
		if started {
			<-watching //nolint:errcheck // it ended the cycle already, or is our own cancellation
		}
	}()
	begin := func(rv string) {
		if started {
			return
		}
		started = true
		go func() {
			err := lf.follow(ctx, rv)
			watching <- err
			watching <- err
		}()
	}
	wait := backoff{max: lf.t.opts.Retry}
	for {
		err := lf.list(ctx, begin)
		var retry <-chan time.Time
		switch {
		case err == nil:
			wait.reset()
			lf.working()
		case !started || ends(err) || ctx.Err() != nil:
			return err
		default:
			lf.failing(err)
			retry = time.After(wait.step())
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-watching:
			return err
		case <-lf.again:
		case <-retry:
		}
	}
}

// failing notes why the resource cannot be read, and says so once.
func (lf *life) failing(err error) {
	reason := reasonOf(err)
	lf.mu.Lock()
	lf.problem, lf.message = err, reason
	lf.mu.Unlock()
	lf.health.Failing(lf.t.log, reason, logging.ErrListingObjects, lf.t.cluster(), slog.String("resource", lf.subject), logging.Err(err))
}

func (lf *life) working() {
	lf.mu.Lock()
	lf.problem, lf.message = nil, ""
	lf.mu.Unlock()
	lf.health.Working(lf.t.log, "the resource can be read again", lf.t.cluster(), slog.String("resource", lf.subject))
}

// objects is the handler of a covered resource.
type objects struct {
	t  *term
	lf *life
}

func (h *objects) item(ctx context.Context, raw []byte, l *listing) error {
	o, err := decode(h.lf.r, raw)
	if err != nil {
		return err
	}
	l.saw(o.key.String())
	_, err = h.t.observe(ctx, &o, cause{observed: l.began, paced: true, listing: l, life: h.lf})
	return err
}

// contradicts tells whether an object in a complete, consistent listing at
// listRV cannot be true beside what was published of its key under the same
// epoch, unless the source went back: the published version lies within what the
// listing shows, yet the same object is below it, or is alive at or below its
// tombstone.
func contradicts(o *object, listRV string, published topology.Version, uid string, deleted bool, epoch int64) bool {
	switch {
	case published.Epoch != epoch || olderRV(listRV, published.RV) || !comparableRV(listRV, published.RV) || !comparableRV(o.rv, published.RV):
		return false
	case deleted:
		return !olderRV(published.RV, o.rv)
	}
	return o.uid == uid && olderRV(o.rv, published.RV)
}

func (h *objects) event(ctx context.Context, ev kube.Event, l *listing) (string, error) {
	o, err := decode(h.lf.r, ev.Object)
	if err != nil {
		return "", err
	}
	o.deleted = ev.Type == kube.Deleted
	if l != nil {
		l.saw(o.key.String())
	}
	_, err = h.t.observe(ctx, &o, cause{observed: time.Now()})
	return o.rv, err
}
