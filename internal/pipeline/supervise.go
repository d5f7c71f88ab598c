package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// Component is what a component of the pipeline can do.
type Component interface {
	// Run works until ctx ends and returns nil then.
	Run(ctx context.Context) error
	// Report fills in what the component knows; cheap and safe at any time.
	Report(*v1alpha1.LiveSynchronizationStatus)
}

// backoff between two starts of a component that ended with an error.
const (
	backoffFirst = 500 * time.Millisecond
	backoffMost  = 30 * time.Second
	// backoffReset: what ran this long before it failed starts over quickly.
	backoffReset = time.Minute
)

// supervised is a component that is started again whenever it ends.
type supervised struct {
	name   string
	make   func() Component
	logger *slog.Logger

	mu      sync.Mutex
	running Component
	why     string
	message string
}

// run starts the component, and starts it again after a growing pause, until ctx ends.
func (s *supervised) run(ctx context.Context) {
	var failing logging.State
	pause := backoffFirst
	for ctx.Err() == nil {
		began := time.Now()
		c := s.make()
		s.set(c, "", "")
		err := c.Run(ctx)
		if ctx.Err() != nil {
			break
		}
		if err == nil {
			err = errors.New("it ended without being asked to")
		}
		if time.Since(began) > backoffReset {
			pause = backoffFirst
			failing.Working(s.logger, "component had recovered")
		}
		s.set(nil, "Restarting", err.Error())
		failing.Failing(s.logger, err.Error(), "component ended, it is started again", logging.Err(err))
		sleep(ctx, jitter(pause))
		pause = min(2*pause, backoffMost)
	}
	s.set(nil, "Stopped", "")
}

func (s *supervised) set(c Component, why, message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running, s.why, s.message = c, why, message
}

// component is what runs now, nil while nothing does.
func (s *supervised) component() Component {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running
}

// report asks the component, or says why there is none.
func (s *supervised) report() v1alpha1.LiveSynchronizationStatus {
	s.mu.Lock()
	c, why, message := s.running, s.why, s.message
	s.mu.Unlock()
	var st v1alpha1.LiveSynchronizationStatus
	if c == nil {
		if why == "" {
			why = "Starting"
		}
		st.Components = []v1alpha1.ComponentStatus{{Name: s.name, Reason: why, Message: message}}
		return st
	}
	c.Report(&st)
	if l, ok := c.(interface{ OldestPending() (time.Time, bool) }); ok && st.Lag == nil && allReady(st.Components) {
		st.Lag = &metav1.Duration{}
		if oldest, pending := l.OldestPending(); pending {
			st.Lag.Duration = max(time.Since(oldest), 0)
		}
	}
	return st
}

func allReady(components []v1alpha1.ComponentStatus) bool {
	return !slices.ContainsFunc(components, func(c v1alpha1.ComponentStatus) bool { return !c.Ready })
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// jitter spreads d by a quarter up and down, so that many do not retry as one.
func jitter(d time.Duration) time.Duration {
	return d*3/4 + rand.N(d/2+1)
}
