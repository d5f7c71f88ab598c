package eventslistener

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/logging"
)

// errHung is the cause of a watch we cut ourselves.
var errHung = errors.New("the watch makes no progress")

const watchHung = "WatchHung"

// follow watches from rv on, over as many connections as it takes. It returns
// only when it cannot go on from where it is.
func (lf *life) follow(ctx context.Context, rv string) error {
	wait := backoff{max: lf.t.opts.Retry}
	lf.pass(rv)
	away := false // the source did not answer since the watch was lost
	for first := true; ctx.Err() == nil; first = false {
		if !first {
			lf.t.l.counts.reconnects.Add(1)
			switch err := lf.back(ctx, away); {
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case ends(err) || apierrors.IsNotFound(err):
				return err
			case err != nil:
				away = true
				lf.failing(err)
				wait.after(ctx, err)
				continue
			}
			away = false
		}
		began := time.Now()
		err := lf.connection(ctx, &rv)
		if time.Since(began) > lf.t.opts.Retry {
			wait.reset()
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, io.EOF):
			if time.Since(began) > time.Second {
				continue
			}
		case apierrors.IsGone(err) || apierrors.IsResourceExpired(err):
			lf.t.l.counts.expired.Add(1)
			lf.t.log.InfoContext(ctx, "the watch fell too far behind: listing again", "resource", lf.subject, lf.t.cluster(), logging.Err(err))
			return errExpired
		case apierrors.IsNotFound(err) || ends(err):
			return err
		case errors.Is(err, errHung):
			lf.t.l.counts.hung.Add(1)
			lf.health.Failing(lf.t.log, watchHung, "a watch made no progress and was cut", lf.t.cluster(), slog.String("resource", lf.subject))
			continue
		case kube.Unavailable(err):
			// Asked again at once: a source that went away must be seen to be away.
			lf.failing(err)
			if time.Since(began) > time.Second {
				continue
			}
		default:
			lf.failing(err)
		}
		wait.after(ctx, err)
	}
	return context.Cause(ctx)
}

// back looks at the source before the watch is begun again. A source that went
// back to a snapshot may be behind the watch, which would then be silent until it
// has caught up; or it is past it by now, with other contents. The first shows at
// once, the second in a complete listing, which therefore follows every outage:
// nobody restores an etcd below servers that go on answering.
func (lf *life) back(ctx context.Context, away bool) error {
	if _, err := lf.probe(ctx); err != nil {
		return err
	}
	if away {
		lf.doubt()
	}
	return nil
}

// connection follows one connection; rv is moved behind every event handed over.
func (lf *life) connection(ctx context.Context, rv *string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w, err := lf.t.source.Watch(ctx, lf.r, "", *rv)
	if err != nil {
		return err
	}
	defer w.Close()
	// A new connection may lead elsewhere than the last one did.
	if err := lf.t.sameCluster(ctx); err != nil {
		return err
	}
	lf.connected(w, cancel)
	defer lf.connected(nil, nil)
	if reason, _ := lf.health.Reason(); reason != watchHung {
		lf.recovered()
	}
	for heard := false; ; heard = true {
		ev, err := w.Next()
		if err != nil {
			return err
		}
		if !heard {
			lf.recovered()
		}
		var next string
		if ev.Type == kube.Bookmark {
			next, err = resourceVersionOf(ev.Object)
		} else {
			lf.mu.Lock()
			l := lf.current
			lf.mu.Unlock()
			lf.busy.Store(true)
			next, err = lf.handler.event(ctx, ev, l)
			lf.busy.Store(false)
		}
		if err != nil {
			return err
		}
		*rv = next
		lf.pass(next)
	}
}

func (lf *life) connected(w *kube.Watch, cut context.CancelCauseFunc) {
	lf.mu.Lock()
	defer lf.mu.Unlock()
	lf.watch, lf.cut = w, cut
}

// recovered notes that the watch brings something again.
func (lf *life) recovered() {
	lf.mu.Lock()
	failed := lf.problem != nil && lf.listed.IsZero()
	lf.mu.Unlock()
	if !failed {
		lf.working()
	}
}

// pass notes that everything up to rv has been handed over.
func (lf *life) pass(rv string) {
	lf.t.see(lf.subject, rv)
	lf.mu.Lock()
	defer lf.mu.Unlock()
	lf.passed = rv
	lf.settle()
}

// settle lets go of the probes the watch has passed: the newest of them is the
// moment up to which the resource is known. lf.mu must be held.
func (lf *life) settle() {
	n := 0
	for _, p := range lf.probes {
		if olderRV(lf.passed, p.rv) {
			break
		}
		n++
		if lf.sure && p.at.After(lf.verified) {
			lf.verified = p.at
		}
	}
	lf.probes = lf.probes[n:]
}

// newest asks the source for its resourceVersion, with a consistent read.
func (lf *life) newest(ctx context.Context) (string, error) {
	page, err := lf.t.source.ListPage(ctx, lf.r, kube.ListOptions{Limit: 1})
	return page.ResourceVersion, err
}

// probe asks how far the source is, and looks for a rewind.
func (lf *life) probe(ctx context.Context) (string, error) {
	before, at := lf.t.seen(lf.subject), time.Now()
	rv, err := lf.newest(ctx)
	if err != nil {
		return "", err
	}
	back, err := lf.t.rewound(ctx, lf, rv, before)
	switch {
	case err != nil:
		return "", err
	case back:
		return "", errRewound
	}
	lf.t.see(lf.subject, rv)
	lf.mu.Lock()
	defer lf.mu.Unlock()
	if lf.sure {
		lf.probes = append(lf.probes, probe{at, rv})
		lf.settle()
	}
	return rv, nil
}

// hurry cuts a watch that is behind what a probe has shown for too long, or
// silent for too long. A connection that hangs without an end looks idle.
func (lf *life) hurry(now time.Time) {
	if lf.busy.Load() {
		return // it waits for the log, not for the source
	}
	lf.mu.Lock()
	defer lf.mu.Unlock()
	if lf.cut == nil {
		return
	}
	behind := len(lf.probes) > 0 && now.Sub(lf.probes[0].at) > lf.t.opts.WatchTimeout && lf.watch.Idle() > lf.t.opts.WatchTimeout/2
	silent := lf.watch.Idle() > lf.t.opts.WatchSilence
	if behind || silent {
		// The probes start anew with the new connection.
		lf.probes = nil
		lf.cut(errHung)
		lf.cut = nil
	}
}
