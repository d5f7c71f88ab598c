package reconciler

import (
	"context"
	"fmt"
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
const Component = "reconciler"

// Options of a reconciler. Zero intervals and limits mean the defaults.
type Options struct {
	Settings *settings.Live
	Log      *stream.Client
	Topics   topology.Topics
	// State remembers the topic ID of changes that was compared last; its own
	// stage. Nil: every start compares.
	State  *state.Stage
	Logger *slog.Logger
	// InstanceID in the consumer group: stable across restarts.
	InstanceID string
	// Incarnation names this process in header "writer"; unique for each start.
	Incarnation string
	// Source and Destination clusters; both are only read.
	Source, Destination *kube.Client

	// Session of the consumer group; default [stream.Group]'s.
	Session time.Duration
	// StartDelay is how long the first comparison waits, so that the additive
	// listing comes first; default 15 s.
	StartDelay time.Duration
	// Settle is how long a delete that is on its way has before an object that
	// exists only in the destination is looked at again; default 10 s.
	Settle time.Duration
	// TopicPoll is how often the topic ID of changes is looked at; default 10 s.
	TopicPoll time.Duration
	// Retry is the first wait before resources that failed are tried again, and
	// RetryMax the longest; default 5 s and 5 min.
	Retry, RetryMax time.Duration
	// PageSize of listings; default 500.
	PageSize int64
	// MaxRequests of one comparison; default 5000. What is left is asked for by
	// another comparison after Retry.
	MaxRequests int
}

func (o *Options) setDefaults() {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&o.StartDelay, 15*time.Second)
	set(&o.Settle, 10*time.Second)
	set(&o.TopicPoll, 10*time.Second)
	set(&o.Retry, 5*time.Second)
	set(&o.RetryMax, 5*time.Minute)
	if o.PageSize <= 0 {
		o.PageSize = 500
	}
	if o.MaxRequests <= 0 {
		o.MaxRequests = 5000
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Reconciler compares one destination with one source.
type Reconciler struct {
	opts Options
	log  *slog.Logger
	// source and destination answer with metadata only.
	source, destination *kube.Client

	// health of the comparison as a whole.
	health logging.State

	mu     sync.Mutex
	status status
	// trigger asks for a comparison before its time.
	trigger chan struct{}
}

// New makes a reconciler; Run starts it.
func New(o Options) *Reconciler {
	o.setDefaults()
	return &Reconciler{opts: o, log: o.Logger, source: o.Source.Metadata(), destination: o.Destination.Metadata(), trigger: make(chan struct{}, 1)}
}

// Resync compares now, or as soon as this member is elected.
func (r *Reconciler) Resync() {
	select {
	case r.trigger <- struct{}{}:
	default:
	}
}

// Run takes part in the election until ctx ends, and compares while elected: a
// consumer group on the one partition of requests, for membership only.
func (r *Reconciler) Run(ctx context.Context) error {
	s := r.opts.Settings.Load()
	g := &stream.Group{
		Client:     r.opts.Log,
		Name:       topology.GroupFor(s.Config.Namespace, s.Config.Name, Component),
		Topic:      r.opts.Topics.Requests,
		InstanceID: r.opts.InstanceID,
		Session:    r.opts.Session,
		Run:        r.elected,
	}
	err := g.Serve(ctx)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (r *Reconciler) elected(ctx context.Context, a *stream.Assignment) error {
	w, err := r.opts.Log.Writer()
	if err != nil {
		return fmt.Errorf("writer for %s: %w", r.opts.Topics.Requests, err)
	}
	defer w.Close()
	r.update(func(s *status) { s.elected = true })
	// What this member found is for the next elected one to find, and to tell.
	defer r.update(func(s *status) { s.elected, s.err, s.blocked = false, nil, "" })
	t := &term{Reconciler: r, assignment: a, recent: map[string]time.Time{}, said: map[string]*logging.State{}, append: func(ctx context.Context, keys []string) error {
		return w.AppendSync(ctx, r.encode(a.Number, keys)...)
	}}
	t.serve(ctx)
	return nil
}

// clusters are the attributes of lines about both clusters.
func clusters(s settings.Settings) []any {
	return []any{logging.SourceCluster(s.Source), logging.DestinationCluster(s.Destination), logging.LastUpdate(s)}
}
