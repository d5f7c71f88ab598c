package eventslistener

import (
	"context"
	"time"

	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/topology"
)

// openEpoch begins a new order of versions (guarantee 3). It runs between
// rounds: no event that was read under the old order can be appended under the
// new one. All that remains the same keeps its old version; only what differs is
// appended, and what is missing goes the way of absence.
func (t *term) openEpoch(ctx context.Context, why string) error {
	// A number that no later run can fall below, even one that lost its disk: the
	// log has the last one, and the clock is behind none that was ever used.
	epoch := max(time.Now().Unix(), t.epoch.Load()+1)
	t.log.WarnContext(ctx, "opening a new epoch", "epoch", epoch, "reason", why, t.cluster())
	t.mu.Lock()
	t.epoch.Store(epoch)
	t.highest = map[string]string{}
	t.lives = map[string]*life{}
	t.verified = time.Time{}
	t.mu.Unlock()
	t.l.counts.epochs.Add(1)
	return t.m.broadcast(ctx, topology.Record{
		Key: topology.ControlKey(topology.EpochOpened, ""), Kind: topology.EpochOpened,
		Version: topology.Version{Epoch: epoch}, Reason: why,
	})
}

// rewound tells whether a consistent read that showed rv shows that the source
// went back behind before, which was the highest known when the read began. One
// such read is the proof: a quorum answered it. Waiting for another would miss a
// source that writes its way past before meanwhile. Should it be wrong after all,
// an epoch too many costs a listing: only what differs is appended.
func (t *term) rewound(ctx context.Context, lf *life, rv, before string) (bool, error) {
	if !olderRV(rv, before) {
		return false, nil
	}
	t.log.WarnContext(ctx, "the source showed an older resourceVersion than before", "resource", lf.subject, "resourceVersion", rv, "before", before, t.cluster())
	if err := t.sameCluster(ctx); err != nil {
		return false, err
	}
	return true, nil
}

// suspectObject handles an object whose listing cannot be true unless the source
// went back: a second consistent read decides.
func (t *term) suspectObject(ctx context.Context, lf *life, o *object, published topology.Version) error {
	t.log.WarnContext(ctx, "an object is older in the source than in the log", "published", published.String(),
		t.cluster(), logging.SourceObject(o.key, o.uid, o.rv))
	if err := t.sameCluster(ctx); err != nil {
		return err
	}
	raw, err := t.source.Get(ctx, lf.r, o.key)
	if err != nil {
		return err
	}
	again, err := decode(lf.r, raw)
	if err != nil {
		return err
	}
	if again.uid == o.uid && again.rv == o.rv {
		return errRewound
	}
	return nil // changed since: the watch will bring it, or the next listing tells more
}
