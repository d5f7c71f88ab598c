package reconciler

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/state"
)

// metaCompared is the name, in the partition of requests, of the topic ID of
// changes that was compared last.
const metaCompared = "compared"

// term is the time in which this member is elected.
type term struct {
	*Reconciler
	assignment *stream.Assignment
	append     func(ctx context.Context, keys []string) error

	// changes is the topic ID of changes as last seen; compared, that of the last
	// complete comparison. Zero: unknown.
	changes, compared [16]byte
	// last is when the last complete comparison ended; zero: never in this term.
	last time.Time
	// waiting: the last comparison left deletes to a person who had confirmed
	// asked; another answer is a reason to compare.
	waiting bool
	asked   string
	// retry is when what failed is tried again; zero: nothing failed.
	retry   time.Time
	wait    time.Duration
	failing []string
	// verified is the source that the last check of its identity passed.
	verified string
	// recent requests by key: those are not repeated for a while.
	recent map[string]time.Time
	// said is what was said of the resources that fail, by entry.
	saidMu sync.Mutex
	said   map[string]*logging.State
}

// again is how long a key that was asked for is not asked for again. The
// eventslistener needs a second look and may have many to give.
const again = 2 * time.Minute

// serve compares whenever it is due, until ctx ends.
func (t *term) serve(ctx context.Context) {
	began := time.Now()
	t.load()
	poll := time.NewTicker(t.opts.TopicPoll)
	defer poll.Stop()
	t.look(ctx)
	for ctx.Err() == nil {
		s, changed := t.opts.Settings.Get()
		at, due := t.due(s, began)
		t.update(func(st *status) { st.next, st.off = at, !due })
		var timer <-chan time.Time
		if due {
			timer = time.After(time.Until(at))
		}
		select {
		case <-ctx.Done():
		case <-changed:
			// The period is measured anew from the last comparison.
		case <-poll.C:
			t.look(ctx)
		case <-timer:
			t.compare(ctx, s)
		case <-t.trigger:
			t.failing = nil // everything, whatever failed before
			t.compare(ctx, s)
		}
	}
}

// due says when the next comparison is due, if at all.
func (t *term) due(s settings.Settings, began time.Time) (time.Time, bool) {
	if s.Suspend {
		// What only the destination has may be a delete that waits: nothing is
		// concluded from it, and it would be asked for again at each period.
		return time.Time{}, false
	}
	first := began.Add(t.opts.StartDelay)
	switch {
	case t.waiting && s.ConfirmPrune != t.asked:
		// The answer is not kept waiting for the period, which may be off.
		return time.Now(), true
	case !t.retry.IsZero():
		return t.retry, true
	case t.changes != ([16]byte{}) && t.changes != t.compared:
		// The log begins anew: deletes it once held may be lost.
		return first, true
	case s.ResyncPeriod <= 0:
		return time.Time{}, false
	case t.last.IsZero():
		return first, true
	}
	return t.last.Add(s.ResyncPeriod), true
}

// look asks for the topic ID of changes.
func (t *term) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, t.opts.TopicPoll)
	defer cancel()
	id, err := t.opts.Log.TopicID(ctx, t.opts.Topics.Changes)
	if err != nil || id == t.changes {
		return // the brokers' trouble shows elsewhere; the next poll asks again
	}
	if t.changes != ([16]byte{}) {
		t.log.InfoContext(ctx, "the topic of changes was recreated: comparing both clusters", "topic", t.opts.Topics.Changes)
		t.retry, t.failing = time.Time{}, nil
		clear(t.recent) // what was asked for may have been in a log that is gone
	}
	t.changes = id
}

// compare does one comparison of everything, or of what failed the last time.
func (t *term) compare(ctx context.Context, s settings.Settings) {
	id, began := t.changes, time.Now()
	maps.DeleteFunc(t.recent, func(_ string, at time.Time) bool { return began.Sub(at) > again })
	p := &pass{term: t, settings: s, only: t.failing}
	err := p.run(ctx)
	if ctx.Err() != nil {
		return
	}
	t.note(p, err, began)
	t.waiting, t.asked = p.blocked != "", s.ConfirmPrune
	if err == nil && len(p.failed) == 0 {
		t.health.Working(t.log, "comparing both clusters works again")
		t.retry, t.wait, t.failing = time.Time{}, 0, nil
		if p.more {
			t.retry = time.Now().Add(t.opts.Retry)
			return
		}
		t.last, t.compared = time.Now(), id
		if !t.waiting {
			// What waits for a person is to be found again by the next start, or
			// nobody would see that it waits.
			t.save()
		}
		return
	}
	t.failing = nil
	if err == nil {
		if p.blocked == "" && !p.more {
			// All others are done with; what waits or was left is not.
			t.failing = p.failedNames()
		}
		err = p.firstError()
	}
	// Each resource that failed said so by itself.
	t.health.Failing(t.log, reasonOf(err), "comparing both clusters fails; nothing is concluded from it", logging.Err(err),
		logging.SourceCluster(s.Source), logging.DestinationCluster(s.Destination))
	t.wait = min(max(2*t.wait, t.opts.Retry), t.opts.RetryMax)
	wait := t.wait*3/4 + rand.N(t.wait/4+1)
	if asked, ok := kube.RetryAfter(err); ok {
		wait = max(wait, asked)
	}
	t.retry = time.Now().Add(wait)
}

func (t *term) partition() state.PartitionID {
	return state.PartitionID{TopicID: t.assignment.TopicID, Number: t.assignment.Number}
}

func (t *term) load() {
	if t.opts.State == nil {
		return
	}
	// What cannot be read is compared again (guarantee 7).
	if raw, ok, err := t.opts.State.Meta(t.partition(), metaCompared); err == nil && ok && len(raw) == len(t.compared) {
		copy(t.compared[:], raw)
	}
}

func (t *term) save() {
	if t.opts.State == nil {
		return
	}
	c := t.opts.State.Change(t.partition())
	c.SetMeta(metaCompared, t.compared[:])
	if err := c.Commit(nil); err != nil {
		t.log.Warn("cannot remember the comparison; the next start compares again", logging.Err(err))
	}
}

// errNotAlive: this member has not heard from its group, so another may be elected.
var errNotAlive = errors.New("not heard from the consumer group")
