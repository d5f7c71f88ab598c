package pipeline

import (
	"log/slog"
	"time"

	"github.com/afterimage-dr/afterimage/consumers/archiver"
	"github.com/afterimage-dr/afterimage/consumers/processor"
	"github.com/afterimage-dr/afterimage/consumers/synchronizer"
	"github.com/afterimage-dr/afterimage/producers/eventslistener"
	"github.com/afterimage-dr/afterimage/producers/reconciler"
	"github.com/afterimage-dr/afterimage/state"
)

// The components, as manifests, logs and status name them.
const (
	EventsListener = "eventslistener"
	Processor      = "processor"
	Synchronizer   = "synchronizer"
	Reconciler     = "reconciler"
	// Archiver runs only where there is a bucket.
	Archiver = "archiver"
)

// factories make the components, in the order of the pipeline.
func (s *shared) factories() []factory {
	return []factory{s.eventsListener, s.processor, s.synchronizer, s.reconciler, s.archiver}
}

// component supervises what build makes of the runner's clusters and topics. The
// consumer ID in logs is for those of which there may be several.
func (r *runner) component(name, consumerID string, build func(*slog.Logger) Component) *supervised {
	logger := r.parts.logger(name, consumerID, r.level(name))
	return &supervised{name: name, logger: logger, make: func() Component { return build(logger) }}
}

// stage is a component's own part of the memory.
func (s *shared) stage(r *runner, component string) *state.Stage {
	c := r.live.Load().Config
	return s.memory.Stage(c.Namespace + "/" + c.Name + "/" + component)
}

func (s *shared) eventsListener(r *runner) *supervised {
	return r.component(EventsListener, "", func(l *slog.Logger) Component {
		return eventslistener.New(eventslistener.Options{
			Settings: r.live, Log: s.client, Topics: r.topics, State: s.stage(r, EventsListener), Logger: l,
			InstanceID: s.instance, Incarnation: s.incarnation, Session: s.session, Source: r.sourceKube,
		})
	})
}

func (s *shared) processor(r *runner) *supervised {
	return r.component(Processor, s.instance, func(l *slog.Logger) Component {
		return processor.New(processor.Options{
			Settings: r.live, Log: s.client, Topics: r.topics, State: s.stage(r, Processor), Logger: l,
			InstanceID: s.instance, Incarnation: s.incarnation, Session: s.session,
		})
	})
}

func (s *shared) synchronizer(r *runner) *supervised {
	return r.component(Synchronizer, s.instance, func(l *slog.Logger) Component {
		return synchronizer.New(synchronizer.Options{
			Settings: r.live, Log: s.client, Topics: r.topics, State: s.stage(r, Synchronizer), Logger: l,
			InstanceID: s.instance, Incarnation: s.incarnation, Session: s.session, Destination: r.destinationKube,
		})
	})
}

func (s *shared) reconciler(r *runner) *supervised {
	return r.component(Reconciler, "", func(l *slog.Logger) Component {
		return reconciler.New(reconciler.Options{
			Settings: r.live, Log: s.client, Topics: r.topics, State: s.stage(r, Reconciler), Logger: l,
			InstanceID: s.instance, Incarnation: s.incarnation, Session: s.session, Source: r.sourceKube, Destination: r.destinationKube,
		})
	})
}

// archiver is nil where no bucket is configured.
func (s *shared) archiver(r *runner) *supervised {
	if r.bucket == nil {
		return nil
	}
	return r.component(Archiver, s.instance, func(l *slog.Logger) Component {
		return archiver.New(archiver.Options{
			Settings: r.live, Bucket: r.bucket, Log: s.client, Topics: r.topics, State: s.stage(r, Archiver), Logger: l,
			InstanceID: s.instance, Session: s.session, Yield: r.replicating,
		})
	})
}

// writing is how long after a write the next is expected.
const writing = 250 * time.Millisecond

// replicating tells whether the destination is being written by this process.
func (r *runner) replicating() bool {
	for _, c := range r.components {
		if w, ok := c.component().(interface{ LastWrite() time.Time }); ok {
			return time.Since(w.LastWrite()) < writing
		}
	}
	return false
}
