package eventslistener

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// Component is the name in status, logs and the consumer group.
const Component = "eventslistener"

// Options of a listener. Zero intervals and limits mean the defaults.
type Options struct {
	Settings *settings.Live
	Log      *stream.Client
	Topics   topology.Topics
	// State remembers what changes holds; its own stage, shared with nobody.
	State  *state.Stage
	Logger *slog.Logger
	// InstanceID in the consumer group: stable across restarts.
	InstanceID string
	// Incarnation names this process in header "writer"; unique for each start.
	Incarnation string
	// Source cluster; only read.
	Source *kube.Client

	// Session of the consumer group; default [stream.Group]'s.
	Session time.Duration
	// Heartbeat between two probes of the source and their records; default 10 s.
	Heartbeat time.Duration
	// SecondLook is the least time between missing an object and concluding that
	// it was deleted; default 10 s.
	SecondLook time.Duration
	// WatchTimeout is how long a watch may be behind what a probe showed before
	// it counts as hung; default 90 s (a bookmark comes about each minute).
	WatchTimeout time.Duration
	// WatchSilence is how long a watch may say nothing at all; default 150 s.
	WatchSilence time.Duration
	// Retry bounds how long a resource that fails or is not served is left
	// before it is tried again; default 10 s.
	Retry time.Duration
	// PageSize of listings; default 500.
	PageSize int64
	// MaxUnapplied bounds the records of listings that consumers have not applied
	// yet; default 1000, negative: no bound.
	MaxUnapplied int64
	// Stuck is how long no consumer may advance before listings stop waiting for
	// them; default 10 s.
	Stuck time.Duration
	// CommitInterval between two commits of what is acknowledged; default 100 ms.
	CommitInterval time.Duration
}

func (o *Options) setDefaults() {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&o.Heartbeat, 10*time.Second)
	set(&o.SecondLook, 10*time.Second)
	set(&o.WatchTimeout, 90*time.Second)
	set(&o.WatchSilence, 150*time.Second)
	set(&o.Retry, 10*time.Second)
	set(&o.Stuck, 10*time.Second)
	set(&o.CommitInterval, 100*time.Millisecond)
	if o.PageSize <= 0 {
		o.PageSize = 500
	}
	if o.MaxUnapplied == 0 {
		o.MaxUnapplied = 1000
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Listener reads one source for one LiveSynchronization.
type Listener struct {
	opts Options
	log  *slog.Logger
	// health of what the elected listener needs as a whole.
	health logging.State

	mu     sync.Mutex
	term   *term // nil: not elected, or between two terms
	elects bool  // elected
	// counts survive terms; see Counters.
	counts counters
	// hurry asks for a heartbeat before its time.
	hurry chan struct{}
}

// New makes a listener; Run starts it.
func New(o Options) *Listener {
	o.setDefaults()
	return &Listener{opts: o, log: o.Logger, hurry: make(chan struct{}, 1)}
}

// Beat asks for a heartbeat now, for who waits to see one arrive; several
// requests are one, and one that is not elected keeps it for when it is.
func (l *Listener) Beat() {
	select {
	case l.hurry <- struct{}{}:
	default:
	}
}

// Run takes part in the election until ctx ends, and works while elected.
// Passing trouble is retried and said once; it returns nil when ctx ends.
func (l *Listener) Run(ctx context.Context) error {
	s := l.opts.Settings.Load()
	g := &stream.Group{
		Client:     l.opts.Log,
		Name:       topology.GroupFor(s.Config.Namespace, s.Config.Name, Component),
		Topic:      l.opts.Topics.Requests,
		InstanceID: l.opts.InstanceID,
		Session:    l.opts.Session,
		Run:        l.elected,
	}
	err := g.Serve(ctx)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// elected works until this member loses the partition. It starts again by
// itself, so that a resource, a broker or the source that fails for a while does
// not cost the membership.
func (l *Listener) elected(ctx context.Context, a *stream.Assignment) error {
	l.log.InfoContext(ctx, "elected to read the source", "partition", a.Number)
	l.setElected(true)
	defer l.setElected(false)
	wait := backoff{max: l.opts.Retry}
	for ctx.Err() == nil {
		began := time.Now()
		err := l.serveTerm(ctx, a)
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) > time.Minute {
			wait.reset()
		}
		if errors.Is(err, stream.ErrTopicRecreated) && requestsGone(ctx, l.opts.Log, a) {
			return err // the group finds the topic as it is now
		}
		if errors.Is(err, errBeginAgain) {
			l.log.InfoContext(ctx, "beginning again", "reason", err.Error())
			wait.sleep(ctx)
			continue
		}
		l.health.Failing(l.log, reasonOf(err), "reading the source is interrupted", logging.Err(err))
		wait.sleep(ctx)
	}
	l.log.InfoContext(context.WithoutCancel(ctx), "no longer elected to read the source")
	return nil
}

func (l *Listener) serveTerm(ctx context.Context, a *stream.Assignment) error {
	t := newTerm(l, a)
	l.mu.Lock()
	l.term = t
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.term = nil
		l.mu.Unlock()
	}()
	return t.run(ctx)
}

func (l *Listener) setElected(is bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.elects = is
}

// requestsGone tells whether the topic that elected us is no longer what it was.
func requestsGone(ctx context.Context, log *stream.Client, a *stream.Assignment) bool {
	id, err := log.TopicID(ctx, a.Topic)
	return err == nil && id != a.TopicID
}
