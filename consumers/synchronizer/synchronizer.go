// Package synchronizer writes the destination: it reads desired, does what each
// record asks for, and notes what became of it in outcomes.
//
// It guarantees that
//   - records of one key take effect in the order of the log, and no key waits
//     for another (guarantee 5);
//   - a position advances only past what took effect, or was put into quarantine
//     in the same transaction, and has its outcome acknowledged (guarantees 1, 2);
//   - what is applied for a key never goes down in version, against state, and
//     against what the destination object itself says (guarantee 3);
//   - nothing foreign is written or deleted: every write is preconditioned on
//     the uid and resourceVersion of an object known to be ours, or is a create
//     of what is absent (guarantee 9);
//   - a delete reaches the destination or is visible as failing (guarantee 6).
//
// It does not conclude deletes by itself: what it doubts it asks for in requests.
//
// A record's way through the files: partition.go reads it, lanes.go puts it in
// the order of its key, plan.go decides what it takes, write.go does that,
// outcome.go notes it, memory.go commits it. quarantine.go tries again what
// failed, drift.go compares everything once a period, census.go rebuilds lost
// state, fence.go, gate.go and zombie.go keep the wrong one from writing.
package synchronizer

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/afterimage-dr/afterimage/internal/fence"
	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// Component is the name of this component in logs, groups, settings and status.
const Component = "synchronizer"

// Options of a Synchronizer. What is zero below Incarnation has a default.
type Options struct {
	Settings    *settings.Live
	Log         *stream.Client
	Topics      topology.Topics
	State       *state.Stage
	Logger      *slog.Logger
	Destination *kube.Client
	// InstanceID is stable across restarts and unique in the group.
	InstanceID string
	// Incarnation names this run as the writer of records.
	Incarnation string

	// CommitEvery is how often memory is committed; default 50 ms.
	CommitEvery time.Duration
	// Session of the consumer group; default 30 s. Half of it is how long a
	// write may be believed in.
	Session time.Duration
	// RequestTimeout of every request to the destination; default 8 s, which must
	// stay below FenceValid.
	RequestTimeout time.Duration
	// FenceEvery and FenceValid: how often the fence is read, and how long one
	// successful read allows writes; default 3 s and 10 s.
	FenceEvery, FenceValid time.Duration
	// RetryMin and RetryMax bound the delay before a failed object is tried
	// again; default 1 s and 60 s.
	RetryMin, RetryMax time.Duration
	// WatchBackoff before a lost watch of the destination is renewed; default 1 s.
	WatchBackoff time.Duration
}

func (o *Options) setDefaults() {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&o.CommitEvery, 50*time.Millisecond)
	def(&o.Session, 30*time.Second)
	def(&o.RequestTimeout, fence.RequestTimeout)
	def(&o.FenceEvery, fence.ReadEvery)
	def(&o.FenceValid, fence.Valid)
	def(&o.RetryMin, time.Second)
	def(&o.RetryMax, time.Minute)
	def(&o.WatchBackoff, time.Second)
}

// defaultTasks at a time in a process (SPEC 28).
const defaultTasks = 32

// Synchronizer is the component of one process.
type Synchronizer struct {
	Options
	kube   *kube.Client // Destination with RequestTimeout
	pool   *pool
	gate   *gate
	fence  *barrier
	writer *stream.Writer

	resources  *kube.Served
	namespaces *namespaces
	census     *census
	drift      *drift
	identity   *identity

	mu    sync.Mutex
	parts map[int32]*partition

	lastSync   atomic.Int64 // unix nanoseconds of the last write that succeeded
	count      atomic.Int32 // partitions of the topic, once known
	undoing    sync.WaitGroup
	committing logging.State
	background context.Context // Run's
}

// New makes a synchronizer; Run runs it.
func New(o Options) *Synchronizer {
	o.setDefaults()
	s := &Synchronizer{
		Options: o,
		kube:    o.Destination.WithTimeout(o.RequestTimeout),
		pool:    newPool(defaultTasks),
		parts:   map[int32]*partition{},
	}
	s.fence = newBarrier(s)
	s.gate = newGate(o.Settings, s.fence)
	s.resources = kube.NewServed(s.kube)
	s.namespaces = newNamespaces()
	s.census = newCensus(s)
	s.drift = newDrift(s)
	s.identity = newIdentity(s)
	return s
}

// Run works until ctx ends, and returns nil then. Passing trouble is retried
// inside. An error means that it could not start.
func (s *Synchronizer) Run(ctx context.Context) error {
	w, err := s.Log.Writer()
	if err != nil {
		return err
	}
	s.writer = w
	defer w.Close()
	s.background = ctx
	defer s.undoing.Wait()

	c := s.Settings.Load().Config
	group := &stream.Group{
		Client: s.Log, Topic: s.Topics.Desired,
		Name:       topology.GroupFor(c.Namespace, c.Name, Component),
		InstanceID: s.InstanceID, Session: s.Session,
		Run: s.runPartition,
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, run := range []func(context.Context) error{
		group.Serve, s.fence.run, s.watchSettings, s.identity.run, s.watchNamespaces, s.watchDefinitions, s.drift.run,
	} {
		g.Go(func() error { return run(ctx) })
	}
	if err := g.Wait(); s.background.Err() == nil {
		return err
	}
	return nil
}

// watchSettings follows the number of concurrent tasks.
func (s *Synchronizer) watchSettings(ctx context.Context) error {
	for {
		v, changed := s.Settings.Get()
		n := v.ConcurrentTasks[Component]
		if n <= 0 {
			n = defaultTasks
		}
		s.pool.setLimit(n)
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// LastWrite is when something was last written to the destination; zero: never.
func (s *Synchronizer) LastWrite() time.Time {
	if n := s.lastSync.Load(); n > 0 {
		return time.Unix(0, n)
	}
	return time.Time{}
}

// Resync compares the destination with what was applied, now.
func (s *Synchronizer) Resync() { s.drift.now() }

// LastComparison is when the last complete comparison of the destination with what
// was applied began (zero: there was none yet), and how many differences it found.
// They are being repaired, or asked about; what was failing already is not among them.
func (s *Synchronizer) LastComparison() (began time.Time, differences int) {
	if c := s.drift.newest.Load(); c != nil {
		return c.began, c.differences
	}
	return time.Time{}, 0
}

func (s *Synchronizer) partitions() []*partition {
	s.mu.Lock()
	defer s.mu.Unlock()
	ps := make([]*partition, 0, len(s.parts))
	for _, p := range s.parts {
		ps = append(ps, p)
	}
	return ps
}

// policy is what the settings say about writing, as of now.
type policy struct {
	forceNamespaces, adopt, recreate bool
	deletion                         string
	// former sources of the partition's configuration.
	former []string
}

func (s *Synchronizer) policy() policy {
	r := s.Settings.Load().Config.Replication
	return policy{forceNamespaces: r.ForceNamespaceCreation, adopt: r.AdoptExisting, recreate: r.RecreateOnImmutable, deletion: r.DeletionPolicy}
}

func (s *Synchronizer) debug() bool { return s.Logger.Enabled(context.Background(), slog.LevelDebug) }

// log writes a line about one object of the destination.
func (s *Synchronizer) log(level slog.Level, msg string, w *want, uid, rv string, attrs ...slog.Attr) {
	if !s.Logger.Enabled(context.Background(), level) {
		return
	}
	v := s.Settings.Load()
	attrs = append(attrs,
		logging.Event(w.op),
		logging.SourceObject(w.key, w.uid, w.version.RV),
		logging.DestinationObject(w.key, uid, rv),
		logging.DestinationCluster(v.Destination),
		logging.LastUpdate(v),
	)
	s.Logger.LogAttrs(context.Background(), level, msg, attrs...)
}
