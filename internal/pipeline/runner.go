package pipeline

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"reflect"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/live"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/internal/status"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/state/bucket"
	"github.com/afterimage-dr/afterimage/topology"
)

const (
	// ensureTimeout of one attempt to find or make the topics.
	ensureTimeout = 15 * time.Second
	// topicsPeriod is how often the topics are looked at while the components run.
	topicsPeriod = 15 * time.Second
)

// runner runs one LiveSynchronization.
type runner struct {
	parts  *parts
	logger *slog.Logger
	live   *settings.Live
	topics topology.Topics
	reach  reach
	bucket *live.Value[bucket.Options] // nil: none
	began  time.Time

	source, destination cluster
	sourceKube          *kube.Client
	destinationKube     *kube.Client
	clusters            [2]*probe
	components          []*supervised
	levels              map[string]*slog.LevelVar
	fallback            slog.Level

	// work is where the components run; ending it halts them.
	work   context.Context
	stop   context.CancelFunc
	finish chan struct{}

	mu         sync.Mutex
	generation int64
	stream     metav1.Condition
	warnings   []string
	halted     *metav1.Condition
	streamLog  logging.State
}

// start begins to run a LiveSynchronization; end it with its stop.
func start(ctx context.Context, p *parts, fallback slog.Level, l LiveSync) (*runner, error) {
	c := l.Settings.Config
	r := &runner{
		parts: p, live: live.New(l.Settings), topics: topology.TopicsFor(c.Namespace, c.Name),
		reach: reachOf(l),
		began: time.Now(), levels: map[string]*slog.LevelVar{}, fallback: fallback, finish: make(chan struct{}),
		clusters: [2]*probe{{condition: "SourceReachable"}, {condition: "DestinationReachable"}},
		stream:   metav1.Condition{Type: "StreamReady", Status: metav1.ConditionUnknown, Reason: "Starting"},
	}
	var err error
	if r.source, r.sourceKube, err = p.connect(l.Source); err != nil {
		return nil, err
	}
	if r.destination, r.destinationKube, err = p.connect(l.Destination); err != nil {
		return nil, err
	}
	r.logger = p.logger("run", "", r.level("run")).With(logging.LiveSynchronization(c.Namespace, c.Name))
	if l.Bucket != nil {
		r.bucket = live.New(*l.Bucket)
	}
	for _, f := range p.factories {
		if c := f(r); c != nil {
			r.components = append(r.components, c)
		}
	}
	r.configure(l)
	r.work, r.stop = context.WithCancel(ctx)
	go r.run()
	return r, nil
}

// run brings the topics about, then runs the components until stopped.
func (r *runner) run() {
	defer close(r.finish)
	var wg sync.WaitGroup
	defer wg.Wait()
	first := make(chan struct{})
	wg.Go(func() { r.probes(r.work, first) })
	if !r.ensureTopics(r.work) {
		return
	}
	// The loop guard wants to know the destination before anything is logged, but
	// a destination that is down must not keep the source's changes out of the log.
	select {
	case <-first:
	case <-time.After(firstProbePeriod):
	case <-r.work.Done():
	}
	wg.Go(func() { r.keepTopics(r.work) })
	for _, c := range r.components {
		wg.Go(func() { c.run(r.work) })
	}
}

// keepTopics looks at the topics again and again: one that was deleted is made
// anew (the components fill it again), and one whose partitions were increased
// ends all work before a key's records come to be in two partitions.
func (r *runner) keepTopics(ctx context.Context) {
	period := cmp.Or(r.parts.topicsPeriod, topicsPeriod)
	for sleep(ctx, jitter(period)); ctx.Err() == nil; sleep(ctx, jitter(period)) {
		attempt, cancel := context.WithTimeout(ctx, ensureTimeout)
		warnings, err := r.parts.ensure(attempt, r.topics)
		cancel()
		switch {
		case errors.Is(err, stream.ErrPartitionCount):
			r.halt("PartitionCountChanged", err.Error()+"; nothing is replicated until the topics are as they were: "+
				"delete them (the source is read again) and start again")
		case err == nil:
			r.setStream(metav1.ConditionTrue, "TopicsReady", "", warnings)
			r.streamLog.Working(r.logger, "topics found or made")
		case ctx.Err() == nil:
			// A broker that is away is told by its health, not here: what is known
			// of the topics is not less true.
			r.streamLog.Failing(r.logger, "TopicsMissing", "topics cannot be found or made, it is tried again", logging.Err(err))
		}
	}
}

// ensureTopics tries until the topics are there as they should be; false: stopped.
func (r *runner) ensureTopics(ctx context.Context) bool {
	for pause := backoffFirst; ctx.Err() == nil; pause = min(2*pause, backoffMost) {
		attempt, cancel := context.WithTimeout(ctx, ensureTimeout)
		warnings, err := r.parts.ensure(attempt, r.topics)
		cancel()
		if err == nil {
			r.setStream(metav1.ConditionTrue, "TopicsReady", "", warnings)
			r.streamLog.Working(r.logger, "topics found or made")
			for _, w := range warnings {
				r.logger.Warn("topic setting differs", slog.String("warning", w))
			}
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		if ok, why := r.parts.healthy(); !ok && why != "" {
			err = errors.New(why) // says more than that the attempt took too long
		}
		reason := "TopicsMissing"
		if errors.Is(err, stream.ErrPartitionCount) {
			reason = "PartitionCountChanged"
		}
		r.setStream(metav1.ConditionFalse, reason, err.Error(), nil)
		r.streamLog.Failing(r.logger, "TopicsMissing", "topics cannot be found or made, it is tried again", logging.Err(err))
		sleep(ctx, jitter(pause))
	}
	return false
}

func (r *runner) setStream(status metav1.ConditionStatus, reason, message string, warnings []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := metav1.Condition{Type: "StreamReady", Status: status, Reason: reason, Message: message, LastTransitionTime: r.stream.LastTransitionTime}
	if c.Status != r.stream.Status {
		c.LastTransitionTime = metav1.Now()
	}
	r.stream, r.warnings = c, warnings
}

// halt ends the components and says why, until the process is started again or
// the manifests reach other clusters.
func (r *runner) halt(reason, message string) {
	r.mu.Lock()
	first := r.halted == nil
	if first {
		r.halted = &metav1.Condition{Type: reason, Status: metav1.ConditionTrue, Reason: reason, Message: message, LastTransitionTime: metav1.Now()}
	}
	r.mu.Unlock()
	if first {
		r.logger.Error("replication halted", slog.String("reason", reason), slog.String("message", message))
		r.stop()
	}
}

// configure gives the components new settings; what is known of the clusters stays.
func (r *runner) configure(l LiveSync) {
	for name, level := range r.levels {
		want, err := logging.ParseLevel(l.LogLevels[name])
		if err != nil || l.LogLevels[name] == "" {
			want = r.fallback
		}
		level.Set(want)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.generation = l.Generation
	s := l.Settings
	s.Config.DestinationUID = r.live.Load().Config.DestinationUID
	r.live.Set(s)
	if r.bucket != nil && l.Bucket != nil && !reflect.DeepEqual(r.bucket.Load(), *l.Bucket) {
		r.bucket.Set(*l.Bucket)
	}
}

// level is the log level of a component, which changes with the settings.
func (r *runner) level(component string) *slog.LevelVar {
	if r.levels[component] == nil {
		r.levels[component] = new(slog.LevelVar)
		r.levels[component].Set(r.fallback)
	}
	return r.levels[component]
}

// reach is what a runner works on: the clusters, and which bucket if any.
type reach struct {
	source, destination [sha256.Size]byte
	bucket              string
}

func reachOf(l LiveSync) reach {
	r := reach{source: fingerprint(l.Source), destination: fingerprint(l.Destination)}
	if b := l.Bucket; b != nil {
		r.bucket = b.Endpoint + "/" + b.Name + "/" + b.Prefix
	}
	return r
}

// reaches tells whether the runner works on the clusters and the bucket l names.
func (r *runner) reaches(l LiveSync) bool { return l.Nodes == nil && r.reach == reachOf(l) }

func (r *runner) end()                   { r.stop() }
func (r *runner) ended() <-chan struct{} { return r.finish }

func (r *runner) describe() (l status.LiveSynchronization, warnings []string) {
	set := r.live.Load()
	r.mu.Lock()
	defer r.mu.Unlock()
	return status.LiveSynchronization{Namespace: set.Config.Namespace, Name: set.Config.Name, Suspend: set.Suspend, CreatedAt: r.began}, r.warnings
}

func (r *runner) facts(now time.Time, log status.Stream) facts {
	f := facts{now: now, suspend: r.live.Load().Suspend, conditions: []metav1.Condition{r.clusters[0].status(), r.clusters[1].status()}}
	r.mu.Lock()
	f.generation = r.generation
	f.conditions = append(f.conditions, streamCondition(r.stream, log))
	if r.halted != nil {
		f.conditions = append(f.conditions, *r.halted)
	}
	r.mu.Unlock()
	for _, c := range r.components {
		f.parts = append(f.parts, c.report())
	}
	return f
}
