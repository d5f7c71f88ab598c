package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/afterimage-dr/afterimage/internal/status"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

// ErrSameOwner: a LiveSynchronization owns at the destination what a pass would.
var ErrSameOwner = errors.New("a LiveSynchronization of the same name runs, and owns the same objects at the destination")

// Pass is a LiveSync that runs beside those of Apply for as long as somebody
// watches it: for one pass over everything it covers. It is the same pipeline,
// with the same guarantees; who has begun it decides when it has done enough.
type Pass struct {
	// Client and Topics of its log; Outcomes are the bounds of that topic from
	// before anything was begun.
	Client   *stream.Client
	Topics   topology.Topics
	Outcomes []stream.Partition

	p      *Pipeline
	r      *runner
	id     string
	ctx    context.Context
	cancel context.CancelCauseFunc
	end    sync.Once
	over   chan struct{} // closed when everything of it has stopped
}

// Begin begins a pass; end it with Stop. It waits while another one of the same
// namespace and name runs, for they own the same objects. It returns ErrSameOwner
// where a LiveSynchronization does, and an error where the log cannot be used now.
// What runs ends with the pipeline, not with ctx.
func (p *Pipeline) Begin(ctx context.Context, l LiveSync) (_ *Pass, err error) {
	x := &Pass{p: p, id: l.id(), Client: p.parts.log, Topics: topology.TopicsFor(l.Settings.Config.Namespace, l.Settings.Config.Name), over: make(chan struct{})}
	x.ctx, x.cancel = context.WithCancelCause(p.ctx)
	if err := p.admit(ctx, x); err != nil {
		x.cancel(err)
		return nil, err
	}
	defer func() {
		if err != nil {
			x.Stop()
		}
	}()
	if err := x.log(ctx); err != nil {
		return nil, err
	}
	if x.r, err = start(x.ctx, p.parts, p.options.Level, l); err != nil {
		return nil, err
	}
	return x, nil
}

// admit makes x the one pass of its name.
func (p *Pipeline) admit(ctx context.Context, x *Pass) error {
	for {
		p.apply.Lock()
		p.mu.Lock()
		_, taken := p.runners[x.id]
		other := p.passes[x.id]
		if !taken && other == nil {
			p.passes[x.id] = x
		}
		p.mu.Unlock()
		p.apply.Unlock()
		if taken {
			return ErrSameOwner
		}
		if other == nil {
			return nil
		}
		select {
		case <-other.over:
		case <-ctx.Done():
			return fmt.Errorf("waiting for another synchronization of the same owner to end: %w", context.Cause(ctx))
		case <-p.ctx.Done():
			return context.Cause(p.ctx)
		}
	}
}

// log makes the topics and notes where the outcomes end.
func (x *Pass) log(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, ensureTimeout)
	defer cancel()
	if _, err = x.p.parts.ensure(ctx, x.Topics); err == nil {
		x.Outcomes, err = x.Client.Partitions(ctx, x.Topics.Outcomes)
	}
	if err != nil {
		if ok, why := x.p.parts.healthy(); !ok && why != "" {
			err = errors.New(why) // says more than that the attempt took too long
		}
		return fmt.Errorf("topics cannot be found or made: %w", err)
	}
	return nil
}

// Done is closed when the pass cannot go on, because the pipeline ends or a
// LiveSynchronization took its place; Err says why.
func (x *Pass) Done() <-chan struct{} { return x.ctx.Done() }

// Err is why Done is closed.
func (x *Pass) Err() error { return context.Cause(x.ctx) }

// Stop ends the components and returns when they have stopped, or after StopTimeout.
func (x *Pass) Stop() {
	x.end.Do(func() {
		x.cancel(context.Canceled)
		if x.r != nil {
			select {
			case <-x.r.finish:
			case <-time.After(StopTimeout):
			}
		}
		x.p.mu.Lock()
		delete(x.p.passes, x.id)
		delete(x.p.before, x.id)
		x.p.mu.Unlock()
		close(x.over)
	})
}

// displace ends a pass whose place a LiveSynchronization takes.
func (x *Pass) displace() {
	x.cancel(ErrSameOwner)
	select {
	case <-x.over:
	case <-time.After(StopTimeout):
	}
}

// Status is what the components say, as of a LiveSynchronization.
func (x *Pass) Status() v1alpha1.LiveSynchronizationStatus {
	log := status.Stream{}
	log.Ready, log.Message = x.p.parts.healthy()
	return x.p.statusOf(x.id, x.r, time.Now(), log)
}

// Beat has a heartbeat sent through the log now.
func (x *Pass) Beat() {
	if c, ok := part[interface{ Beat() }](x.r, EventsListener); ok {
		c.Beat()
	}
}

// Answered tells whether the eventslistener has answered every request.
func (x *Pass) Answered(ctx context.Context) (bool, error) {
	c := x.r.live.Load().Config
	lag, _, err := x.Client.GroupLag(ctx, topology.GroupFor(c.Namespace, c.Name, EventsListener), x.Topics.Requests)
	return lag == 0, err
}

// CompareDestination has the synchronizer compare the destination with what was
// applied, and CompareClusters the reconciler both clusters.
func (x *Pass) CompareDestination() { resync(x.r, Synchronizer) }

// CompareClusters: see CompareDestination.
func (x *Pass) CompareClusters() { resync(x.r, Reconciler) }

func resync(r *runner, component string) {
	if c, ok := part[interface{ Resync() }](r, component); ok {
		c.Resync()
	}
}

// DestinationCompared is when the last complete CompareDestination began, and how
// many differences it found; zero: there was none yet.
func (x *Pass) DestinationCompared() (began time.Time, differences int) {
	if c, ok := part[interface {
		LastComparison() (began time.Time, differences int)
	}](x.r, Synchronizer); ok {
		return c.LastComparison()
	}
	return time.Time{}, 0
}

// ClustersCompared is the same of CompareClusters.
func (x *Pass) ClustersCompared() (began time.Time, orphans int) {
	if c, ok := part[interface {
		LastComparison() (began time.Time, orphans int)
	}](x.r, Reconciler); ok {
		return c.LastComparison()
	}
	return time.Time{}, 0
}

// Archived tells whether everything that was seen in the source up to a moment is
// in the bucket, or counted as failing; true where there is no bucket.
func (x *Pass) Archived(at time.Time) bool {
	if x.r.bucket == nil {
		return true
	}
	c, ok := part[interface{ Archived() time.Time }](x.r, Archiver)
	return ok && !c.Archived().Before(at)
}

// part is a component that runs now, seen as a T.
func part[T any](r *runner, name string) (t T, ok bool) {
	for _, s := range r.components {
		if s.name == name {
			t, ok = s.component().(T)
		}
	}
	return t, ok
}
