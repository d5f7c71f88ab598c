package synchronization

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/afterimage-dr/afterimage/internal/live"
	"github.com/afterimage-dr/afterimage/internal/manifest"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

// Options of a Service.
type Options struct {
	// Log holds the runs. It must stay open until Wait has returned.
	Log *stream.Client
	// Instance names this process in consumer groups, the same after a restart.
	Instance string
	// Session of the consumer groups; 0: that of package stream.
	Session time.Duration
	// Plugins by the names that SynchronizationSpec.PluginName returns.
	Plugins map[string]Plugin
	// Logger; nil: none.
	Logger *slog.Logger

	// topicPeriod replaces how often the topics are looked at, in tests.
	topicPeriod time.Duration
}

// Service runs the Synchronizations and SynchronizationPlans of manifests. Safe for
// concurrent use.
type Service struct {
	o         Options
	following sync.WaitGroup

	mu      sync.Mutex
	set     *manifest.Set
	ledgers map[string]*ledger // by namespace
	members map[string]*member // by namespace/key
}

// New makes one; Apply gives it work.
func New(o Options) *Service {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Service{o: o, ledgers: map[string]*ledger{}, members: map[string]*member{}}
}

// Apply makes the plans and Synchronizations of a set those that are run, until ctx
// ends: new ones begin, plans that have changed go on as they are now, and what is not
// named any more is stopped.
func (s *Service) Apply(ctx context.Context, set *manifest.Set) {
	if ctx.Err() != nil {
		return // Wait may have returned
	}
	s.mu.Lock()
	s.set = set
	gone := map[string]*member{}
	for id, m := range s.members {
		gone[id] = m
	}
	for _, p := range set.SynchronizationPlans {
		id := p.Namespace + "/" + topology.RunsPlanKey(p.Name)
		delete(gone, id)
		if m := s.members[id]; m != nil {
			m.plan.wanted.Set(p)
			continue
		}
		log := s.o.Logger.With(slog.String("synchronizationPlan", p.Namespace+"/"+p.Name))
		planner := &planner{wanted: live.New(p), log: log}
		s.members[id] = s.begin(ctx, &member{automation: planner, plan: planner, log: log}, p.Namespace)
	}
	for _, r := range set.Synchronizations {
		id := r.Namespace + "/" + r.Name
		delete(gone, id)
		if m := s.members[id]; m != nil {
			m.once.wanted.Set(r)
			continue
		}
		once := &once{wanted: live.New(r)}
		log := s.o.Logger.With(slog.String("namespace", r.Namespace))
		s.members[id] = s.begin(ctx, &member{automation: once, once: once, log: log}, r.Namespace)
	}
	for id := range gone {
		delete(s.members, id)
	}
	s.mu.Unlock()
	// Two of one name at a time would keep each other from being elected.
	for _, m := range gone {
		m.stop()
		<-m.done
	}
}

// begin has a member take part.
func (s *Service) begin(ctx context.Context, m *member, namespace string) *member {
	l := s.ledgers[namespace]
	if l == nil {
		l = &ledger{
			client: s.o.Log, topic: topology.RunsTopic(namespace), entries: map[string]entry{}, period: cmp.Or(s.o.topicPeriod, topicPeriod),
			log: s.o.Logger.With(slog.String("namespace", namespace)),
		}
		s.ledgers[namespace] = l
		s.following.Go(func() { l.follow(ctx) })
	}
	m.service, m.namespace, m.ledger, m.done = s, namespace, l, make(chan struct{})
	// A context of its own name: the ledger outlives the member that it was made for.
	own, stop := context.WithCancel(ctx)
	m.stop = stop
	go func() {
		defer close(m.done)
		m.run(own)
	}()
	return m
}

// Wait returns when nothing runs any more, after the context of Apply has ended.
func (s *Service) Wait() {
	s.mu.Lock()
	members := s.members
	s.members = map[string]*member{}
	s.mu.Unlock()
	for _, m := range members {
		<-m.done
	}
	s.following.Wait()
}

// attempt of a run, as the manifests are now.
func (s *Service) attempt(r *v1alpha1.Synchronization) (Attempt, error) {
	s.mu.Lock()
	set := s.set
	s.mu.Unlock()
	plugin := s.o.Plugins[r.Spec.PluginName()]
	if plugin == nil {
		return nil, fmt.Errorf("spec.plugin: %s cannot be run yet", r.Spec.Plugin)
	}
	return plugin(set, r)
}
