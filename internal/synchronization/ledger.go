package synchronization

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/live"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

const (
	// ensureTimeout of one attempt to find or make the topic.
	ensureTimeout = 15 * time.Second
	// topicPeriod is how often the topic is looked at while nothing is written.
	topicPeriod = 15 * time.Second
	// retryEvery is the pause before what the log refused is tried again.
	retryEvery = 2 * time.Second
)

// errTopicChanged: the topic of the runs is not the one that was read.
var errTopicChanged = errors.New("the topic of the runs was made anew")

// ledger is the runs of a namespace as the log has them: it follows the topic for as
// long as the process runs, whoever writes.
type ledger struct {
	client *stream.Client
	topic  string
	log    *slog.Logger
	// period is how often the topic is looked at while nothing is written.
	period time.Duration
	// news is set whenever something has changed.
	news live.Value[uint64]

	mu      sync.Mutex
	topicID [16]byte
	// position: everything before it was read.
	position int64
	entries  map[string]entry
	ready    bool
	trouble  string
}

// entry is the last record of a key.
type entry struct {
	offset int64
	writer string
	// One of them.
	run  *v1alpha1.Synchronization
	plan *v1alpha1.SynchronizationPlan
}

// follow reads the topic until ctx ends, and brings it about where there is none.
func (l *ledger) follow(ctx context.Context) {
	var state logging.State
	for ctx.Err() == nil {
		err := l.followOnce(ctx, &state)
		if ctx.Err() != nil {
			return
		}
		l.set(func() { l.ready, l.trouble = false, err.Error() })
		state.Failing(l.log, "LedgerUnreadable", "the log of the runs cannot be read, it is tried again", logging.Err(err))
		sleep(ctx, retryEvery)
	}
}

func (l *ledger) followOnce(ctx context.Context, state *logging.State) error {
	warnings, err := l.ensure(ctx)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		l.log.Warn("topic setting differs", slog.String("warning", w))
	}
	p, err := l.client.Bounds(ctx, l.topic, 0)
	if err != nil {
		return err
	}
	l.set(func() {
		if p.TopicID != l.topicID {
			l.topicID, l.position, l.entries = p.TopicID, 0, map[string]entry{}
		}
	})
	if err := l.read(ctx, p); err != nil {
		return err
	}
	l.set(func() { l.ready, l.trouble = true, "" })
	state.Working(l.log, "the log of the runs can be read again")
	tail, err := l.client.TailOf(p, p.End)
	if err != nil {
		return err
	}
	defer tail.Close()
	for {
		// A topic that was deleted comes back only if somebody makes it anew; then
		// the tail says that it is another one.
		wait, cancel := context.WithTimeout(ctx, l.period)
		recs, err := tail.Next(wait)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			_, err = l.ensure(ctx)
		}
		if err != nil {
			return err
		}
		l.set(func() {
			for _, r := range recs {
				l.apply(r)
			}
		})
	}
}

// ensure finds or makes the topic.
func (l *ledger) ensure(ctx context.Context) (warnings []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, ensureTimeout)
	defer cancel()
	return l.client.Ensure(ctx, l.topic, stream.TopicSettings{Partitions: 1, Replication: -1, Configs: topology.RunsConfigs()})
}

// catchUp reads what the topic holds now.
func (l *ledger) catchUp(ctx context.Context) error {
	p, err := l.client.Bounds(ctx, l.topic, 0)
	if err != nil {
		return err
	}
	return l.read(ctx, p)
}

func (l *ledger) read(ctx context.Context, p stream.Partition) error {
	l.mu.Lock()
	from, same := max(l.position, p.Start), p.TopicID == l.topicID
	l.mu.Unlock()
	if !same {
		return errTopicChanged
	}
	if err := l.client.Read(ctx, l.topic, 0, from, p.End, func(r *kgo.Record) error {
		l.set(func() { l.apply(r) })
		return nil
	}); err != nil {
		return err
	}
	l.set(func() { l.position = max(l.position, p.End) })
	return nil
}

// apply notes a record. Two may be reading: each reads in order, so that what one has
// read is not news from the other.
func (l *ledger) apply(r *kgo.Record) {
	if r.Offset < l.position {
		return
	}
	l.position = r.Offset + 1
	key := string(r.Key)
	e := entry{offset: r.Offset, writer: writerOf(r)}
	var err error
	switch plan := topology.IsRunsPlanKey(key); {
	case len(r.Value) == 0:
		delete(l.entries, key)
		return
	case plan:
		e.plan = &v1alpha1.SynchronizationPlan{}
		err = json.Unmarshal(r.Value, e.plan)
	default:
		e.run = &v1alpha1.Synchronization{}
		err = json.Unmarshal(r.Value, e.run)
	}
	if err != nil {
		l.log.Error("a record of the runs cannot be read, it is passed over", slog.String("key", key), slog.Int64("offset", r.Offset), logging.Err(err))
		return
	}
	l.entries[key] = e
}

func (l *ledger) set(change func()) {
	l.mu.Lock()
	change()
	l.mu.Unlock()
	l.news.Set(l.news.Load() + 1)
}

// state tells whether everything was read, and why not.
func (l *ledger) state() (ready bool, trouble string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ready, l.trouble
}

// id of the topic that was read.
func (l *ledger) id() [16]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.topicID
}

// run of a name, a copy; nil: there is none.
func (l *ledger) run(name string) *v1alpha1.Synchronization {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entries[name].run.DeepCopy()
}

// plan is what is kept of a plan, a copy; nil: nothing.
func (l *ledger) plan(name string) *v1alpha1.SynchronizationPlan {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entries[topology.RunsPlanKey(name)].plan.DeepCopy()
}

// runsOf a plan, copies.
func (l *ledger) runsOf(plan string) map[string]*v1alpha1.Synchronization {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]*v1alpha1.Synchronization{}
	for key, e := range l.entries {
		if e.run != nil && planOf(e.run) == plan {
			out[key] = e.run.DeepCopy()
		}
	}
	return out
}

// overwritten tells whether somebody else's record of a key lies behind one's own.
func (l *ledger) overwritten(key, writer string, own int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.position <= own {
		return false
	}
	e, ok := l.entries[key]
	return !ok || e.writer != writer
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
