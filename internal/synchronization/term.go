package synchronization

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

const (
	// lookEvery bounds how late a time of a schedule is seen where timers do not
	// count: while the machine slept, or when its clock was set.
	lookEvery = 30 * time.Second
	// progressEvery is how often the counts of a run are put into the log.
	progressEvery = 5 * time.Second
)

// automation is a plan or a single Synchronization: what a term is about.
type automation interface {
	// key that the term is elected for.
	key() string
	// open takes up what the log holds, and returns the runs it has had.
	open(l *ledger, now time.Time) map[string]*v1alpha1.Synchronization
	// step does what is due, and says when it wants to be asked again (zero: when
	// something has changed). Its error is the context's.
	step(ctx context.Context, t *term, now time.Time) (wake time.Time, err error)
	// changed is closed when the manifests say something else.
	changed() <-chan struct{}
}

// term is the time in which this process is elected to run an automation. Its loop
// alone writes, so that the records of a key are in order.
type term struct {
	automation automation
	ledger     *ledger
	alive      func() bool
	writer     *stream.Writer
	// id marks the records of this term.
	id      string
	attempt func(s *v1alpha1.Synchronization) (Attempt, error)
	log     *slog.Logger
	refused logging.State

	// news wakes the loop.
	news    chan struct{}
	working sync.WaitGroup

	mu     sync.Mutex
	opened bool
	// runs by name, as they are now.
	runs map[string]*v1alpha1.Synchronization
	// active are those that are being made.
	active map[string]context.CancelCauseFunc
	// kept is what was written last, by key: a run or a plan.
	kept map[string]kept
}

// kept is a record of this term.
type kept struct {
	object any // nil: a tombstone
	offset int64
	at     time.Time
	stale  bool // the run has other counts by now
}

func newTerm(a automation, l *ledger, w *stream.Writer, alive func() bool, attempt func(*v1alpha1.Synchronization) (Attempt, error), log *slog.Logger) *term {
	id := make([]byte, 8)
	_, _ = rand.Read(id) // never fails
	return &term{
		automation: a, ledger: l, writer: w, alive: alive, attempt: attempt, log: log,
		id: hex.EncodeToString(id), news: make(chan struct{}, 1),
		runs: map[string]*v1alpha1.Synchronization{}, active: map[string]context.CancelCauseFunc{}, kept: map[string]kept{},
	}
}

// serve works until ctx ends or the log is another one.
func (t *term) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer t.working.Wait()
	defer cancel()
	if err := t.ledger.catchUp(ctx); err != nil {
		return err
	}
	topicID := t.ledger.id()
	t.open(t.automation.open(t.ledger, time.Now()))
	if err := t.resume(ctx); err != nil {
		return err
	}
	for {
		// Before anything: what is asked for next may follow from it.
		_, ledgerNews := t.ledger.news.Get()
		changed := t.automation.changed()
		if t.ledger.id() != topicID {
			return errTopicChanged
		}
		if err := t.persist(ctx); err != nil {
			return err
		}
		wake, err := t.automation.step(ctx, t, time.Now().Round(0)) // without the clock that stands still in sleep
		if err != nil {
			return err
		}
		timer := time.NewTimer(t.pause(wake))
		select {
		case <-ctx.Done():
		case <-changed:
		case <-ledgerNews:
		case <-t.news:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// open begins with the runs that the log has.
func (t *term) open(runs map[string]*v1alpha1.Synchronization) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.runs, t.opened = runs, true
}

// isOpen tells whether the term knows more than the log; a nil one does not.
func (t *term) isOpen() bool {
	if t == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.opened
}

// pause until a moment, and at most until the next look.
func (t *term) pause(wake time.Time) time.Duration {
	most := lookEvery
	t.mu.Lock()
	if len(t.active) > 0 {
		most = progressEvery
	}
	t.mu.Unlock()
	if wake.IsZero() {
		return most
	}
	return max(0, min(most, wake.Sub(time.Now().Round(0))))
}

// resume goes on with what was cut off.
func (t *term) resume(ctx context.Context) error {
	runs := t.snapshot()
	for _, name := range slices.Sorted(maps.Keys(runs)) {
		if s := runs[name]; !finished(s) {
			t.log.Info("synchronization goes on", slog.String("synchronization", name))
			if err := t.launch(ctx, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// launch puts into the log that a run runs, and then runs it.
func (t *term) launch(ctx context.Context, s *v1alpha1.Synchronization) error {
	s = s.DeepCopy()
	s.Status = begun(s, time.Now())
	if err := t.put(ctx, s.Name, s); err != nil {
		return err
	}
	attempt, err := t.attempt(s)
	if err != nil {
		attempt = func(context.Context, func(v1alpha1.SynchronizationResult)) (Outcome, error) {
			return Outcome{}, Permanent(err)
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	t.mu.Lock()
	t.runs[s.Name], t.active[s.Name] = s, cancel
	t.mu.Unlock()
	log := t.log.With(slog.String("synchronization", s.Name))
	t.working.Go(func() {
		defer cancel(nil)
		status := Execute(ctx, s.DeepCopy(), attempt, ExecuteOptions{
			Logger: log,
			Report: func(status v1alpha1.SynchronizationStatus) { t.note(s.Name, status) },
		})
		t.mu.Lock()
		delete(t.active, s.Name)
		t.mu.Unlock()
		switch status.State {
		case v1alpha1.StateComplete:
			log.Info("synchronization is complete", slog.Any("result", status.Result))
		case v1alpha1.StateFailed:
			log.Error("synchronization failed", slog.Any("result", status.Result), slog.String("reason", status.Conditions[0].Reason), slog.String("error", status.Conditions[0].Message))
		}
		t.wake()
	})
	return nil
}

// note takes a new status of a run.
func (t *term) note(name string, status v1alpha1.SynchronizationStatus) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.runs[name].DeepCopy()
	s.Status = status
	t.runs[name] = s
	k := t.kept[name]
	k.stale = true
	t.kept[name] = k
}

func (t *term) wake() {
	select {
	case t.news <- struct{}{}:
	default:
	}
}

// persist puts into the log what has changed, and what a process that is no longer
// elected has overwritten.
func (t *term) persist(ctx context.Context) error {
	now := time.Now()
	t.mu.Lock()
	due := map[string]any{}
	for key, k := range t.kept {
		s := t.runs[key]
		switch _, active := t.active[key]; {
		case k.stale && (!active || now.Sub(k.at) >= progressEvery):
			due[key] = s
		case t.ledger.overwritten(key, t.id, k.offset) && k.object != nil:
			due[key] = k.object
			if s != nil {
				due[key] = s
			}
		}
	}
	t.mu.Unlock()
	for key, object := range due {
		if err := t.put(ctx, key, object); err != nil {
			return err
		}
	}
	return nil
}

// put appends a record (nil: a tombstone), however long that takes; the error is the
// context's, or that the topic is another one.
func (t *term) put(ctx context.Context, key string, object any) error {
	t.mu.Lock()
	k := t.kept[key]
	k.stale = false
	t.kept[key] = k
	t.mu.Unlock()
	rec, err := record(t.ledger.topic, key, t.id, object)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		// A member that has not heard from its group must not write (guarantee 4).
		if !t.alive() {
			sleep(ctx, time.Second)
			continue
		}
		fresh := *rec // a record that failed may not be used again
		err := t.writer.AppendSync(ctx, &fresh)
		switch {
		case err == nil:
			t.refused.Working(t.log, "runs can be written to the log again")
			t.mu.Lock()
			k := t.kept[key]
			k.object, k.offset, k.at = object, fresh.Offset, time.Now()
			t.kept[key] = k
			t.mu.Unlock()
			return nil
		case errors.Is(err, stream.ErrTopicRecreated), errors.Is(err, stream.ErrClosed):
			return err
		case ctx.Err() == nil:
			t.refused.Failing(t.log, "Refused", "a run cannot be written to the log, it is tried again", logging.Err(err))
			sleep(ctx, retryEvery)
		}
	}
	return ctx.Err()
}

// forget removes a run.
func (t *term) forget(ctx context.Context, name string) error {
	t.mu.Lock()
	delete(t.runs, name)
	t.mu.Unlock()
	if err := t.put(ctx, name, nil); err != nil {
		return err
	}
	t.mu.Lock()
	delete(t.kept, name)
	t.mu.Unlock()
	return nil
}

// stop ends an active run, which is noticed when it has ended.
func (t *term) stop(name string, why error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if cancel := t.active[name]; cancel != nil {
		cancel(why)
	}
}

// unfinished are the names of the runs whose end is not in the log yet, sorted.
func (t *term) unfinished() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var names []string
	for name := range t.runs {
		if t.active[name] != nil || t.kept[name].stale {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// snapshot of the runs; they are not changed any more.
func (t *term) snapshot() map[string]*v1alpha1.Synchronization {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.runs)
}
