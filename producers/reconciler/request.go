package reconciler

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/settings"
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
	var keys []string
	for _, t := range p.tallies {
		if !confirmed(p.settings, all) && !p.passes(t) {
			continue
		}
		p.more = p.more || t.open > len(t.held)
		for _, e := range t.held {
			if len(keys) >= p.opts.MaxRequests {
				p.more = true
				break
			}
			still, err := p.isOrphan(ctx, t, e)
			if err != nil {
				return err
			}
			if still {
				keys = append(keys, keyOf(t.source, e.meta).String())
				p.log.InfoContext(ctx, "object exists only in the destination cluster: asking for its delete", append(clusters(p.settings),
					logging.DestinationObject(keyOf(t.source, e.meta), e.meta.UID, e.meta.ResourceVersion), logging.Event(topology.Delete))...)
			}
		}
	}
	if len(keys) == 0 {
		return nil
	}
	if !p.assignment.Alive() {
		return errNotAlive
	}
	// Together, so that the breaker judges them together.
	if err := p.append(ctx, keys); err != nil {
		return fmt.Errorf("appending requests: %w", err)
	}
	p.requested = len(keys)
	for _, key := range keys {
		p.recent[key] = time.Now()
	}
	return nil
}

// encode makes the records of requests.
func (r *Reconciler) encode(partition int32, keys []string) []*kgo.Record {
	recs := make([]*kgo.Record, len(keys))
	for i, key := range keys {
		rec := topology.Record{Key: key, Kind: topology.Object, Op: topology.Update, ObservedAt: time.Now(), Writer: r.opts.Incarnation, Reason: Reason}
		recs[i] = rec.Encode(r.opts.Topics.Requests, partition)
	}
	return recs
}

// isOrphan looks at both clusters again.
func (p *pass) isOrphan(ctx context.Context, t *tally, e entry) (bool, error) {
	key := keyOf(t.source, e.meta)
	object, err := p.destination.Get(ctx, t.destination, key)
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, &sideError{false, err}
	}
	if _, err = p.source.Get(ctx, t.source, key); err == nil {
		return false, nil // it is back
	} else if !apierrors.IsNotFound(err) {
		return false, &sideError{true, err}
	}
	m, err := metaOf(object)
	// Another uid: somebody made it anew meanwhile; the next comparison sees it.
	return err == nil && m.UID == e.meta.UID && p.ours(t.served, m), err
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
	if t.orphans <= p.opts.MaxRequests || t.orphans <= t.owned/2 || confirmed(p.settings, t) {
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

func confirmed(s settings.Settings, t *tally) bool {
	return slices.ContainsFunc(s.ConfirmedPrunes(), func(given string) bool {
		name, count, ok := strings.Cut(given, "=")
		n, err := strconv.Atoi(count)
		return ok && err == nil && name == t.name && t.orphans <= n
	})
}
