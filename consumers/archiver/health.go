package archiver

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/state/bucket"
)

const (
	probeTimeout = 25 * time.Second
	// reopenFirst and reopenMost bound the pause before a bucket that fails is
	// asked again, doubled each time.
	reopenFirst = 500 * time.Millisecond
	reopenMost  = 30 * time.Second
	// maxSuspects objects may fail one after the other, with none that succeeds in
	// between, before the bucket is taken to refuse them all: a key that may list
	// and not write passes every probe.
	maxSuspects = 10
	// suspendGrace is how long what has begun may go on when a person suspends:
	// nothing is written from 5 s after the change.
	suspendGrace = 3 * time.Second
)

// reasonNotProbed is the state before the first probe; reasonInvalid that of
// options nobody could use.
const (
	reasonNotProbed = "NotProbed"
	reasonInvalid   = "Invalid"
)

// health knows whether the bucket as a whole can be used, and is the gate before
// every operation: while it cannot, or while suspended, nothing begins.
type health struct {
	a      *Archiver
	wake   chan struct{}
	flight singleflight.Group
	log    logging.State

	mu     sync.Mutex
	client store
	// reason why the bucket cannot be used, "" while it can.
	reason, message string
	// open: operations may begin. A bucket that passes the probe and refused
	// everything before is open, to be tried, and keeps its reason until something
	// succeeds.
	open     bool
	refusing bool
	suspects int
	changed  chan struct{} // closed when anything of this changes
	// running ends when what has begun must stop.
	running context.Context
	stop    context.CancelFunc
}

func newHealth(a *Archiver) *health {
	h := &health{a: a, wake: make(chan struct{}, 1), changed: make(chan struct{}), reason: reasonNotProbed}
	h.running, h.stop = context.WithCancel(context.Background())
	return h
}

// watchBucket makes a new client whenever the options change.
func (h *health) watchBucket(ctx context.Context) error {
	for {
		o, changed := h.a.Bucket.Get()
		client, err := h.a.open(o)
		h.mu.Lock()
		if err == nil {
			h.client = client
		}
		h.mu.Unlock()
		if err != nil {
			h.fail(reasonInvalid, err)
		} else {
			h.ask()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// ask has the bucket probed soon.
func (h *health) ask() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// bucket is the client now; nil while there is none.
func (h *health) bucket() store {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.client
}

// run probes the bucket: each minute while it works, soon and then less and less
// often while it does not.
func (h *health) run(ctx context.Context) error {
	pause := reopenFirst
	for {
		wait := h.a.ProbeEvery
		if !h.look(ctx) {
			wait, pause = min(pause, h.a.ProbeEvery), min(2*pause, reopenMost)
		} else if h.well() {
			pause = reopenFirst
		}
		select {
		case <-ctx.Done():
			return nil
		case <-h.wake:
			if h.well() {
				pause = reopenFirst
			}
		case <-time.After(wait*3/4 + rand.N(wait/2+1)):
		}
	}
}

func (h *health) well() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reason == ""
}

// look probes once; those who ask at the same time share the answer.
func (h *health) look(ctx context.Context) bool {
	client := h.bucket()
	if client == nil {
		return false
	}
	_, err, _ := h.flight.Do("probe", func() (any, error) {
		// Not the first asker's context: the others wait for the answer too.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
		defer cancel()
		return nil, client.Probe(ctx)
	})
	if ctx.Err() != nil {
		return false
	}
	if err != nil {
		h.fail(bucket.Reason(err), err)
		return false
	}
	h.passed()
	return true
}

// fail closes the gate.
func (h *health) fail(reason string, err error) {
	h.mu.Lock()
	h.reason, h.message, h.open, h.suspects = reason, err.Error(), false, 0
	h.refusing = false
	h.news()
	h.mu.Unlock()
	h.say(reason, err)
}

func (h *health) say(reason string, err error) {
	attrs := append(logging.Bucket(h.a.asset(), h.a.folder()), slog.String("reason", reason), logging.Err(err))
	h.log.Failing(h.a.Logger, reason, "bucket cannot be used, it is tried again", attrs...)
}

// news wakes who waits. h.mu is held.
func (h *health) news() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// passed opens the gate after a probe that succeeded.
func (h *health) passed() {
	h.mu.Lock()
	if h.open {
		h.mu.Unlock()
		return
	}
	h.open = true
	well := !h.refusing
	if well {
		h.reason, h.message, h.suspects = "", "", 0
	} else {
		h.suspects = maxSuspects - 1 // the first that is refused closes it again
	}
	h.news()
	h.mu.Unlock()
	if well {
		h.log.Working(h.a.Logger, "bucket can be used again")
	}
}

// succeeded notes that an operation was acknowledged.
func (h *health) succeeded() {
	h.mu.Lock()
	was := h.refusing
	h.suspects = 0
	if was {
		h.refusing, h.reason, h.message = false, "", ""
		h.news()
	}
	h.mu.Unlock()
	if was {
		h.log.Working(h.a.Logger, "bucket can be used again")
	}
}

// whole tells whether an operation failed because the bucket as a whole does, or
// whether that is the object's own trouble.
func (h *health) whole(ctx context.Context, err error) bool {
	h.mu.Lock()
	closed := !h.open
	h.mu.Unlock()
	if closed {
		return true
	}
	if !h.look(ctx) {
		h.ask() // the loop may be sleeping for a minute
		return true
	}
	h.mu.Lock()
	h.suspects++
	if !h.open || h.suspects < maxSuspects {
		defer h.mu.Unlock()
		return !h.open
	}
	h.refusing, h.open = true, false
	h.reason, h.message = bucket.Reason(err), err.Error()
	h.news()
	h.mu.Unlock()
	h.say(h.reasonNow(), err)
	h.ask()
	return true
}

func (h *health) reasonNow() string {
	reason, _ := h.why()
	return reason
}

// why the bucket cannot be used; "" while it can.
func (h *health) why() (reason, message string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reason, h.message
}

// watchSuspension stops what has begun a while after a person suspends.
func (h *health) watchSuspension(ctx context.Context) error {
	defer func() { h.stop() }()
	for {
		v, changed := h.a.Settings.Get()
		var late <-chan time.Time
		h.mu.Lock()
		if v.Suspend {
			late = time.After(suspendGrace)
		} else if h.running.Err() != nil {
			h.running, h.stop = context.WithCancel(context.Background())
			h.news()
		}
		stop := h.stop
		h.mu.Unlock()
		select {
		case <-late:
			stop()
		case <-changed:
			continue
		case <-ctx.Done():
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// errStopped ends what had begun when a person suspended.
var errStopped = errors.New("suspended")

// enter waits until an operation may begin, and returns its client and a context
// that ends with timeout, with parent, or some time after a person suspends.
func (h *health) enter(ctx, parent context.Context, alive func() bool) (store, context.Context, context.CancelFunc, error) {
	for ctx.Err() == nil {
		v, settings := h.a.Settings.Get()
		h.mu.Lock()
		open, changed, running, client := h.open, h.changed, h.running, h.client
		h.mu.Unlock()
		var poll <-chan time.Time
		switch {
		case v.Suspend || !open || running.Err() != nil:
		case !alive():
			// Guarantee 4: a member that was not heard of must not write.
			poll = time.After(50 * time.Millisecond)
		default:
			op, cancel := context.WithTimeout(parent, h.a.RequestTimeout)
			op, cause := context.WithCancelCause(op)
			release := context.AfterFunc(running, func() { cause(errStopped) })
			return client, op, func() { release(); cause(nil); cancel() }, nil
		}
		select {
		case <-settings:
		case <-changed:
		case <-poll:
		case <-ctx.Done():
		}
	}
	return nil, nil, nil, ctx.Err()
}
