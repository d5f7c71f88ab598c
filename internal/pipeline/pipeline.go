package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/status"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// StopTimeout is how long the components may take to stop. What is not done by
// then is as safe as after a SIGKILL (guarantee 10).
const StopTimeout = 10 * time.Second

// Pipeline runs LiveSynchronizations. Safe for concurrent use.
type Pipeline struct {
	options Options
	parts   *parts
	dir     *dataDir
	close   func() // what lies below the components
	logger  *slog.Logger
	began   time.Time
	ctx     context.Context
	cancel  context.CancelFunc

	// apply is held while the set of runners changes.
	apply sync.Mutex

	mu        sync.Mutex
	runners   map[string]running
	passes    map[string]*Pass
	before    map[string][]metav1.Condition // conditions as last reported
	manifests status.Manifests
	config    logging.State
}

// running is a LiveSynchronization that runs, whatever its plugin.
type running interface {
	// reaches tells whether it can take these settings while it runs.
	reaches(LiveSync) bool
	configure(LiveSync)
	// end stops it; ended is closed when it has.
	end()
	ended() <-chan struct{}
	// describe it without its status, with what is to be warned of.
	describe() (l status.LiveSynchronization, warnings []string)
	facts(now time.Time, log status.Stream) facts
}

// Start opens the data directory, the log and the memory, and begins to run
// syncs. It returns an error for what trying again cannot mend: a data directory
// in use or not writable (ErrInUse), a cluster configuration nobody could use.
// Servers that cannot be reached are no error: they are tried for as long as ctx
// lives. Call Wait after ctx ends.
func Start(ctx context.Context, o Options, syncs []LiveSync) (*Pipeline, error) {
	if o.Output == nil {
		o.Output = io.Discard
	}
	o.Output = logging.Shared(o.Output)
	dir, err := openDataDir(o.DataDir)
	if err != nil {
		return nil, err
	}
	p := &Pipeline{
		options: o, parts: o.parts, dir: dir, close: func() {}, began: time.Now(),
		runners: map[string]running{}, passes: map[string]*Pass{}, before: map[string][]metav1.Condition{},
		manifests: status.Manifests{LoadedAt: time.Now()},
	}
	p.logger = logging.New(o.Output, o.Level, "run", "")
	if p.parts == nil {
		if p.parts, p.close, err = open(o, dir, p.logger); err != nil {
			dir.close()
			return nil, err
		}
	}
	p.ctx, p.cancel = context.WithCancel(ctx)
	p.logger.Info("started", slog.String("version", o.Version), slog.String("instanceID", dir.instance), slog.String("dataDir", dir.path))
	if err := p.Apply(syncs); err != nil {
		p.cancel()
		return nil, errors.Join(err, p.Wait())
	}
	return p, nil
}

// Apply makes syncs the LiveSynchronizations that run: new ones are started,
// running ones get their settings, and those not named any more are stopped
// (their objects stay where they are).
func (p *Pipeline) Apply(syncs []LiveSync) error {
	p.apply.Lock()
	defer p.apply.Unlock()
	want := map[string]LiveSync{}
	for _, l := range syncs {
		want[l.id()] = l
	}
	running := p.snapshot()
	for _, id := range slices.Sorted(maps.Keys(running)) {
		r, l := running[id], want[id]
		if _, wanted := want[id]; wanted && r.reaches(l) {
			r.configure(l)
			delete(want, id)
			continue
		}
		r.end()
		<-r.ended()
		p.mu.Lock()
		delete(p.runners, id)
		delete(p.before, id)
		p.mu.Unlock()
	}
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(want)) {
		if x := p.pass(id); x != nil {
			x.displace()
		}
		r, err := p.start(want[id])
		if err != nil {
			errs = append(errs, fmt.Errorf("LiveSynchronization %s: %w", id, err))
			continue
		}
		p.mu.Lock()
		p.runners[id] = r
		p.mu.Unlock()
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.manifests = status.Manifests{LoadedAt: time.Now()}
	p.config.Working(p.logger, "manifests are valid again")
	return nil
}

// start runs what its plugin asks for.
func (p *Pipeline) start(l LiveSync) (running, error) {
	if l.Nodes != nil {
		return startNodes(p.ctx, p.parts, l), nil
	}
	return start(p.ctx, p.parts, p.options.Level, l)
}

// Log is the log of this process: it stays open until Wait closes it. embedded: it is
// the one inside this process, which instance names in consumer groups.
func (p *Pipeline) Log() (client *stream.Client, embedded bool, instance string) {
	return p.parts.log, len(p.options.Brokers) == 0, p.dir.instance
}

// ConfigError notes that the manifests cannot be used as they are now: the last
// good configuration stays in effect, and status says so.
func (p *Pipeline) ConfigError(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.manifests.Error = err.Error()
	if p.manifests.Since == nil {
		now := time.Now()
		p.manifests.Since = &now
	}
	p.config.Failing(p.logger, err.Error(), "manifests cannot be used, the last good ones stay in effect", logging.Err(err))
}

// Wait waits until everything has stopped after ctx has ended, or until
// StopTimeout is over, and closes what was opened.
func (p *Pipeline) Wait() error {
	<-p.ctx.Done()
	limit := time.After(StopTimeout)
	for id, r := range p.snapshot() {
		select {
		case <-r.ended():
		case <-limit:
			// The memory stays open: a component may still be using it.
			return fmt.Errorf("LiveSynchronization %s did not stop within %s; nothing is lost by ending it now", id, StopTimeout)
		}
	}
	for _, x := range p.allPasses() {
		select {
		case <-x.over:
		case <-limit:
			return fmt.Errorf("the pass over %s did not stop within %s; nothing is lost by ending it now", x.id, StopTimeout)
		}
	}
	p.close()
	p.logger.Info("stopped")
	p.dir.close()
	return nil
}

func (p *Pipeline) snapshot() map[string]running {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.runners)
}

func (p *Pipeline) pass(id string) *Pass {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.passes[id]
}

func (p *Pipeline) allPasses() map[string]*Pass {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.passes)
}

// Status is what there is to know, now.
func (p *Pipeline) Status() status.Process {
	now := time.Now()
	s := status.Process{
		Version: p.options.Version, PID: os.Getpid(), InstanceID: p.dir.instance, StartedAt: p.began, At: now, DataDir: p.dir.path,
		Stream: status.Stream{Kind: "embedded", Brokers: p.options.Brokers},
	}
	if len(p.options.Brokers) > 0 {
		s.Stream.Kind = "kafka"
	}
	s.Stream.Ready, s.Stream.Message = p.parts.healthy()
	all := p.snapshot()
	for _, id := range slices.Sorted(maps.Keys(all)) {
		l, warnings := all[id].describe()
		s.Stream.Warnings = append(s.Stream.Warnings, warnings...)
		l.Status = p.statusOf(id, all[id], now, s.Stream)
		s.LiveSynchronizations = append(s.LiveSynchronizations, l)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Manifests = p.manifests
	return s
}

func (p *Pipeline) statusOf(id string, r running, now time.Time, log status.Stream) v1alpha1.LiveSynchronizationStatus {
	f := r.facts(now, log)
	p.mu.Lock()
	defer p.mu.Unlock()
	f.before = p.before[id]
	st := compose(f)
	p.before[id] = st.Conditions
	return st
}

// streamCondition: topics that were found are of no use while no broker answers.
func streamCondition(c metav1.Condition, log status.Stream) metav1.Condition {
	if c.Status == metav1.ConditionTrue && !log.Ready {
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, "Unreachable", log.Message
	}
	return c
}
