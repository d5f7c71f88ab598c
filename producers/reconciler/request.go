package reconciler

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/topology"
)

// Reason of the requests.
const Reason = "absent in source"

// request looks at the orphans again and asks for those that still are.
func (p *pass) request(ctx context.Context, uid string) error {
	orphans := 0
	for _, t := range p.tallies {
		orphans += len(t.held)
	}
	if orphans == 0 {
		return nil
	}
	// A delete that is on its way through the pipeline gets there meanwhile.
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(p.opts.Settle):
	}
	// The kubeconfig may lead to another cluster since.
	if now, err := p.source.ClusterUID(ctx); err != nil {
		return &sideError{true, err}
	} else if now != uid {
		return &sourceChangedError{is: now, was: uid}
	}
	all := p.total()
	if !p.passes(all) {
		return nil
	}
	for _, t := range p.tallies {
		if !confirmed(p.settings.ConfirmPrune, all) && !p.passes(t) {
			continue
		}
		p.more = p.more || t.open > len(t.held)
		for _, e := range t.held {
			if p.requested >= p.opts.MaxRequests {
				p.more = true
				return nil
			}
			if err := p.doubt(ctx, t, e); err != nil {
				return err
			}
		}
	}
	return nil
}

// doubt asks for the delete of an orphan if it still is one.
func (p *pass) doubt(ctx context.Context, t *tally, e entry) error {
	key := keyOf(t.source, e.meta)
	object, err := p.destination.Get(ctx, t.destination, key)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return &sideError{false, err}
	}
	if _, err = p.source.Get(ctx, t.source, key); err == nil {
		return nil // it is back
	} else if !apierrors.IsNotFound(err) {
		return &sideError{true, err}
	}
	if m, err := metaOf(object); err != nil || m.UID != e.meta.UID || !p.ours(t.served, m) {
		return err // another object by now
	}
	if !p.assignment.Alive() {
		return errNotAlive
	}
	p.log.InfoContext(ctx, "object exists only in the destination cluster: asking for its delete", append(clusters(p.settings),
		logging.DestinationObject(key, e.meta.UID, e.meta.ResourceVersion), logging.Event(topology.Delete))...)
	err = p.append(ctx, &topology.Record{
		Key: key.String(), Kind: topology.Object, Op: topology.Update,
		ObservedAt: time.Now(), Writer: p.opts.Incarnation, Reason: Reason,
	})
	if err != nil {
		return err
	}
	p.requested++
	p.recent[key.String()] = time.Now()
	return nil
}

// total of all resources.
func (p *pass) total() *tally {
	all := &tally{served: served{name: "objects"}}
	for _, t := range p.tallies {
		all.owned += t.owned
		all.orphans += t.orphans
	}
	return all
}

// passes is this side's part of the breaker (guarantee 8). The eventslistener
// judges what one comparison asks for as a whole, but it is asked for at most
// MaxRequests at once: more than half of what is owned must not pass it in
// slices, each of which is less than half.
func (p *pass) passes(t *tally) bool {
	if t.orphans <= p.opts.MaxRequests || t.orphans <= t.owned/2 || confirmed(p.settings.ConfirmPrune, t) {
		return true
	}
	p.blocked = fmt.Sprintf("%d of %d %s exist only in the destination: nothing is deleted; if this is meant, confirm it with the annotation afterimage.io/confirm-prune: %q",
		t.orphans, t.owned, t.name, token(t))
	p.log.WarnContext(context.Background(), "too many objects exist only in the destination cluster: nothing is asked for", append(clusters(p.settings),
		slog.String("resource", t.name), slog.Int("onlyInDestination", t.orphans), slog.Int("objects", t.owned))...)
	return false
}

// token that confirms the orphans of a tally, and fewer.
func token(t *tally) string { return t.name + "=" + strconv.Itoa(t.orphans) }

func confirmed(given string, t *tally) bool {
	name, count, ok := strings.Cut(given, "=")
	n, err := strconv.Atoi(count)
	return ok && err == nil && name == t.name && t.orphans <= n
}
