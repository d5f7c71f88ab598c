package archiver

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/afterimage-dr/afterimage/internal/breaker"
	"github.com/afterimage-dr/afterimage/internal/failpoint"
	"github.com/afterimage-dr/afterimage/internal/live"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/state/bucket"
	"github.com/afterimage-dr/afterimage/topology"
)

// Component is the name of this component in logs, groups, settings and status.
const Component = "archiver"

// defaultTasks at a time in a process: most of an upload is waiting.
const defaultTasks = 32

// Options of an Archiver. What is zero below InstanceID has a default.
type Options struct {
	Settings *settings.Live
	// Bucket says where the originals go. New credentials take effect at once.
	Bucket *live.Value[bucket.Options]
	Log    *stream.Client
	Topics topology.Topics
	State  *state.Stage
	Logger *slog.Logger
	// InstanceID is the static group member: stable across restarts.
	InstanceID string

	// Session of the consumer group; default: the group's.
	Session time.Duration
	// CommitEvery is how often memory is committed; default 50 ms.
	CommitEvery time.Duration
	// RequestTimeout of one operation on the bucket; default 30 s.
	RequestTimeout time.Duration
	// RetryMin and RetryMax bound the delay before a failed object is tried
	// again; default 1 s and 60 s.
	RetryMin, RetryMax time.Duration
	// ProbeEvery is how often a bucket that works is probed; default 1 min.
	ProbeEvery time.Duration
	// MaxPositionAge is the age from which a position is not trusted, because a
	// tombstone may have expired since; default 6.5 days, most of the least
	// delete.retention.ms.
	MaxPositionAge time.Duration

	// Yield, if set, tells that the destination is being written now: then the
	// archiver takes only a small part of the CPUs.
	Yield func() bool

	// open makes the client of a bucket.
	open func(bucket.Options) (store, error)
	// limit of what the comparison may remove unconfirmed.
	limit breaker.Limit
	// fault lets tests fail at a step.
	fault func(step string) error
}

// store is what the archiver needs of a bucket.
type store interface {
	Probe(ctx context.Context) error
	Put(ctx context.Context, o bucket.Original) (stored bool, err error)
	PutKnown(ctx context.Context, o bucket.Original, etag string) (stored bool, err error)
	Get(ctx context.Context, path string) (bucket.Original, error)
	Delete(ctx context.Context, path string, v topology.Version) error
	List(ctx context.Context, prefix string, fn func(bucket.Entry) error) error
}

func (o *Options) setDefaults() {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&o.CommitEvery, 50*time.Millisecond)
	def(&o.RequestTimeout, 30*time.Second)
	def(&o.RetryMin, time.Second)
	def(&o.RetryMax, time.Minute)
	def(&o.ProbeEvery, time.Minute)
	def(&o.MaxPositionAge, 156*time.Hour)
	if o.open == nil {
		o.open = func(b bucket.Options) (store, error) { return bucket.New(b) }
	}
	if o.limit == (breaker.Limit{}) {
		o.limit = breaker.Default()
	}
}

// Archiver is the component of one process.
type Archiver struct {
	Options
	// namespace and name of the LiveSynchronization; they never change.
	namespace, name string

	pool   *pool
	health *health
	resync *resync
	census *census
	pacer  *pacer

	mu    sync.Mutex
	parts map[int32]*partition
	// troubles are why partitions cannot be worked on, by number.
	troubles map[int32]string
	serving  bool
	trouble  error // why the group cannot be served
	counts   Counts

	total      atomic.Int32 // partitions of the topic, once known
	committing logging.State
	// saidGeneration is that of the configuration whose coming into force was
	// logged last: once a process, not once a partition.
	saidGeneration atomic.Int64
}

// Counts of what was done since the start of the process.
type Counts struct {
	// Stored originals; Removed ones.
	Stored, Removed int64
	// Unchanged: the bucket held what was to be stored.
	Unchanged int64
	// Stale records were older than what was done for their key already.
	Stale int64
	// Undecodable records were passed over.
	Undecodable int64
	// Compared is how often the whole bucket was compared.
	Compared int64
	// Foreign objects under our prefix at the last comparison: left alone.
	Foreign int64
}

// New makes an archiver; Run runs it.
func New(o Options) *Archiver {
	o.setDefaults()
	c := o.Settings.Load().Config
	a := &Archiver{
		Options: o, namespace: c.Namespace, name: c.Name,
		pool: newPool(defaultTasks), parts: map[int32]*partition{}, troubles: map[int32]string{},
	}
	a.health = newHealth(a)
	a.resync = newResync(a)
	a.census = &census{a: a}
	a.pacer = newPacer(a)
	return a
}

// Run takes part in the group and works on the partitions it is given until ctx
// ends. Passing trouble is retried inside and said once.
func (a *Archiver) Run(ctx context.Context) error {
	g, inner := errgroup.WithContext(ctx)
	for _, run := range []func(context.Context) error{
		a.serve, a.watchSettings, a.health.run, a.health.watchBucket, a.health.watchSuspension, a.resync.run,
	} {
		g.Go(func() error { return run(inner) })
	}
	if err := g.Wait(); ctx.Err() == nil {
		return err
	}
	return nil
}

// serve takes part in the group.
func (a *Archiver) serve(ctx context.Context) error {
	group := &stream.Group{
		Client: a.Log, Name: topology.GroupFor(a.namespace, a.name, Component), Topic: a.Topics.Changes,
		InstanceID: a.InstanceID, Session: a.Session, Run: a.assigned,
	}
	for {
		a.setServing(true, nil)
		err := group.Serve(ctx)
		a.setServing(false, err)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			a.Logger.Error("taking part in the consumer group failed", logging.Err(err))
		}
		if !sleep(ctx, time.Second) {
			return nil
		}
	}
}

func (a *Archiver) setServing(on bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.serving, a.trouble = on, err
}

// watchSettings follows the number of concurrent tasks.
func (a *Archiver) watchSettings(ctx context.Context) error {
	for {
		v, changed := a.Settings.Get()
		n := v.ConcurrentTasks[Component]
		if n <= 0 {
			n = defaultTasks
		}
		a.pool.setLimit(n)
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// Compare compares the bucket with the log, now.
func (a *Archiver) Compare() { a.resync.now() }

// working are the partitions that are being worked on.
func (a *Archiver) working() []*partition {
	a.mu.Lock()
	defer a.mu.Unlock()
	ps := make([]*partition, 0, len(a.parts))
	for _, p := range a.parts {
		ps = append(ps, p)
	}
	return ps
}

// partitionCount is the number of partitions of the topic. It never changes.
func (a *Archiver) partitionCount(ctx context.Context) (int32, error) {
	if n := a.total.Load(); n > 0 {
		return n, nil
	}
	ps, err := a.Log.Partitions(ctx, a.Topics.Changes)
	if err != nil {
		return 0, err
	}
	a.total.Store(int32(len(ps)))
	return int32(len(ps)), nil
}

// count changes the counters.
func (a *Archiver) count(change func(*Counts)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(&a.counts)
}

// Counts returns the counters.
func (a *Archiver) Counts() Counts {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.counts
}

// step is a place at which tests kill the process or make it fail.
func (a *Archiver) step(name string) error {
	failpoint.Hit(Component + "/" + name)
	if a.fault != nil {
		return a.fault(name)
	}
	return nil
}

// sleep waits for d; false: ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// Archived is the moment up to which the changes seen in the source are in the
// bucket or counted as failing; zero while that is not known of every partition.
func (a *Archiver) Archived() time.Time {
	parts := a.working()
	if len(parts) == 0 || int32(len(parts)) != a.total.Load() {
		return time.Time{}
	}
	var oldest time.Time
	for i, p := range parts {
		p.mu.Lock()
		at, caughtUp := p.archived, p.caughtUp
		p.mu.Unlock()
		if !caughtUp {
			return time.Time{}
		}
		if i == 0 || at.Before(oldest) {
			oldest = at
		}
	}
	return oldest
}
