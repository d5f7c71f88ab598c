package synchronization

import (
	"context"
	"log/slog"
	"sync"

	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/topology"
)

// member is this process's part in running an automation: it runs it while elected.
type member struct {
	service    *Service
	automation automation
	// One of them, which is the automation.
	plan *planner
	once *once

	namespace string
	ledger    *ledger
	log       *slog.Logger
	stop      context.CancelFunc
	done      chan struct{}
	health    logging.State
	refused   logging.State

	mu   sync.Mutex
	term *term // nil: not elected
}

// run takes part in the election until ctx ends, as long as there is something to do.
func (m *member) run(ctx context.Context) {
	ready := func() bool { ready, _ := m.ledger.state(); return ready }
	for m.await(ctx, func() bool { return ready() && !m.over() }) {
		m.serve(ctx)
	}
}

// serve takes part until ctx ends or there is nothing left to do.
func (m *member) serve(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		defer cancel()
		m.await(ctx, m.over)
	})
	defer watching.Wait()
	defer cancel()
	g := &stream.Group{
		Client: m.service.o.Log, Name: topology.RunsGroup(m.namespace, m.automation.key()), Topic: m.ledger.topic,
		InstanceID: m.service.o.Instance, Session: m.service.o.Session, Run: m.elected, Logger: m.log,
	}
	if err := g.Serve(ctx); err != nil && ctx.Err() == nil {
		m.log.Error("the election to run it cannot be taken part in", logging.Err(err))
		sleep(ctx, retryEvery)
	}
}

// await waits until something is so in the ledger; false: ctx ended before.
func (m *member) await(ctx context.Context, so func() bool) bool {
	for ctx.Err() == nil {
		_, news := m.ledger.news.Get()
		if so() {
			return true
		}
		select {
		case <-ctx.Done():
		case <-news:
		}
	}
	return false
}

// over tells whether nothing is left to do: a Synchronization has ended, or cannot be
// run under its name. A plan is never over.
func (m *member) over() bool {
	if m.once == nil {
		return false
	}
	wanted := m.once.wanted.Load()
	if t := m.current(); t.isOpen() {
		// What the log says may be the last word of one that lost the election.
		s := t.snapshot()[wanted.Name]
		return s != nil && finished(s) && len(t.unfinished()) == 0
	}
	kept := m.ledger.run(wanted.Name)
	if why := refusal(wanted, kept); why != "" {
		m.refused.Failing(m.log, why, "synchronization is not run as the manifests have it",
			slog.String("synchronization", wanted.Name), slog.String("error", why))
	}
	return kept != nil && (finished(kept) || planOf(kept) != "")
}

// elected runs the automation until the election is lost.
func (m *member) elected(ctx context.Context, a *stream.Assignment) error {
	w, err := m.service.o.Log.Writer()
	if err != nil {
		return err
	}
	defer w.Close()
	t := newTerm(m.automation, m.ledger, w, a.Alive, m.service.attempt, m.log)
	m.set(t)
	defer m.set(nil)
	err = t.serve(ctx)
	if ctx.Err() != nil {
		return nil
	}
	m.health.Failing(m.log, err.Error(), "running it is interrupted, it is tried again", logging.Err(err))
	return err
}

func (m *member) set(t *term) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.term = t
}

// current term; nil while another process is elected, or none.
func (m *member) current() *term {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.term
}
