package eventslistener

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/afterimage-dr/afterimage/topology"
)

// beat asks the source how far it is, sees to watches that hang, and tells every
// partition up to when what is in it is all there is. A record per partition
// also shows that the partition itself is alive.
func (t *term) beat(ctx context.Context) error {
	tick := time.NewTicker(t.opts.Heartbeat)
	defer tick.Stop()
	for requested := false; ; {
		if err := t.heartbeat(ctx, requested); err != nil {
			return err
		}
		requested = false
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		case <-t.l.hurry:
			requested = true
		}
	}
}

func (t *term) heartbeat(ctx context.Context, requested bool) error {
	if err := t.checkTopic(ctx); err != nil {
		return err
	}
	t.probeAll(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	t.mu.Lock()
	body, _ := json.Marshal(heartbeatBody{ResourceVersions: maps.Clone(t.highest)}) // a map of strings always marshals
	t.mu.Unlock()
	// Everything that was handed over before this moment of verification stands
	// before the record in its partition.
	return t.m.broadcast(ctx, topology.Record{
		Key: topology.ControlKey(topology.Heartbeat, ""), Kind: topology.Heartbeat,
		Version: topology.Version{Epoch: t.epoch.Load()}, ObservedAt: time.Now(), VerifiedAt: t.verify(), Requested: requested, Body: body,
	})
}

// checkTopic ends the term when changes is another topic than the one whose
// keys are remembered. Brokers that do not answer say nothing about that.
func (t *term) checkTopic(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, t.opts.Heartbeat)
	defer cancel()
	id, err := t.m.log.TopicID(ctx, t.m.topic)
	if err == nil && id != t.m.topicID {
		err := fmt.Errorf("%s was recreated: %w", t.m.topic, errBeginAgain)
		t.end(err)
		return err
	}
	return nil
}

// probeAll asks about every resource at once, and about the cluster itself. What
// fails leaves the moment of verification where it was.
func (t *term) probeAll(ctx context.Context) {
	pctx, cancel := context.WithTimeout(ctx, t.opts.Heartbeat)
	defer cancel()
	var wg sync.WaitGroup
	now := time.Now()
	wg.Go(func() { _ = t.sameCluster(pctx) }) // ends the round by itself
	for _, lf := range t.readers() {
		wg.Go(func() {
			if _, err := lf.probe(pctx); ends(err) {
				t.interrupt(err)
			}
			lf.hurry(now)
		})
	}
	wg.Wait()
}

// readers are the lives of all resources, and that of the namespaces' labels if
// anything needs them.
func (t *term) readers() []*life {
	all := t.everyLife()
	if ns := t.namespaces(); ns != nil {
		all = append(all, ns)
	}
	return all
}

// verify is the moment up to which everything in the source has been appended:
// the oldest of the resources'. It never goes back, and stays where it is while
// any resource is not known; the zero time says that nothing is known yet.
func (t *term) verify() time.Time {
	var oldest time.Time
	readers := t.readers()
	known := len(readers) > 0 && len(t.resolver.failing()) == 0
	for i, lf := range readers {
		at := lf.verifiedAt()
		known = known && !at.IsZero()
		if i == 0 || at.Before(oldest) {
			oldest = at
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if known && oldest.After(t.verified) {
		t.verified = oldest
	}
	return t.verified
}

func (lf *life) verifiedAt() time.Time {
	lf.mu.Lock()
	defer lf.mu.Unlock()
	return lf.verified
}
