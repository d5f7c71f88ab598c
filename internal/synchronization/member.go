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

// run takes part in the election until ctx ends, or until there is nothing left to do.
func (m *member) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !m.await(ctx, func() bool { ready, _ := m.ledger.state(); return ready }) {
		return
	}
	if m.once != nil {
		if m.over() {
			return
		}
		var watching sync.WaitGroup
		defer watching.Wait()
		watching.Go(func() {
			if m.await(ctx, m.over) {
				cancel()
			}
		})
	}
	g := &stream.Group{
		Client: m.service.o.Log, Name: topology.RunsGroup(m.namespace, m.automation.key()), Topic: m.ledger.topic,
		InstanceID: m.service.o.Instance, Session: m.service.o.Session, Run: m.elected, Logger: m.log,
	}
	if err := g.Serve(ctx); err != nil && ctx.Err() == nil {
		m.log.Error("the election to run it cannot be taken part in", logging.Err(err))
	}
	cancel()
}

// await waits until something is so in the ledger; false: ctx ended before.
func (m *member) await(ctx context.Context, so func() bool) bool {
	for {
		_, news := m.ledger.news.Get()
		if so() {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-news:
		}
	}
}

// over tells whether the log says that a Synchronization has ended, or that it cannot
// be run under its name.
func (m *member) over() bool {
	wanted, kept := m.once.wanted.Load(), m.ledger.run(m.once.key())
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
