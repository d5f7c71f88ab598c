package eventslistener

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/topology"
)

// defaultPages is how many pages of listings are in memory at a time, unless
// concurrentTasks says otherwise.
const defaultPages = 8

// errRewound ends a round: the source's resourceVersions went back.
var errRewound = errors.New("the source's resourceVersions went back")

// term is the time between being elected and losing the election, or an error.
// It is a sequence of rounds, each under one epoch and one source cluster.
type term struct {
	l      *Listener
	opts   *Options
	log    *slog.Logger
	source *kube.Client
	a      *stream.Assignment
	m      *memory
	// end ends the term.
	end context.CancelCauseFunc

	rules atomic.Pointer[topology.Rules]
	// epoch of the round; written only between rounds.
	epoch atomic.Int64
	// gone is when the log last heard from a listener before this term.
	gone time.Time

	config   configuration
	stamps   *stamps
	absence  *absence
	pace     *pacer
	requests *requests
	resolver *resolver
	oversize oversize
	// pages holds a token for each page of a listing in memory.
	pages chan struct{}

	mu    sync.Mutex
	lives map[string]*life // by name of the entry
	// stampLife reads namespaces for their labels, beside any entry.
	stampLife *life
	highest   map[string]string
	endRound  context.CancelCauseFunc
	verified  time.Time
	halted    string // why nothing is read, for status
	opened    bool   // the memory is at the end of changes
	ready     bool
}

func newTerm(l *Listener, a *stream.Assignment) *term {
	t := &term{
		l: l, opts: &l.opts, log: l.log, source: l.opts.Source, a: a,
		lives: map[string]*life{}, highest: map[string]string{},
	}
	t.absence = newAbsence(t)
	t.pace = newPacer(t)
	t.requests = newRequests(t)
	t.pages = make(chan struct{}, max(1, cmp.Or(l.opts.Settings.Load().ConcurrentTasks[Component], defaultPages)))
	t.resolver = newResolver(t)
	return t
}

// run works until ctx ends or the term cannot go on.
func (t *term) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t.end = cancel
	if err := t.open(ctx); err != nil {
		return err
	}
	var background sync.WaitGroup
	background.Go(func() { t.m.committer(ctx, t.opts.CommitInterval) })
	background.Go(func() { t.pace.run(ctx) })
	defer t.m.writer.Close()
	defer background.Wait()
	defer cancel(nil)
	for {
		err := t.round(ctx)
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if errors.Is(err, errRewound) {
			err = t.openEpoch(ctx, err.Error())
		}
		if err != nil {
			return err
		}
	}
}

// open reads changes to its end.
func (t *term) open(ctx context.Context) error {
	w, err := t.opts.Log.Writer()
	if err != nil {
		return fmt.Errorf("making a writer: %w", err)
	}
	m := &memory{
		ctx: ctx, log: t.opts.Log, stage: t.opts.State, writer: w, topic: t.opts.Topics.Changes, incarnation: t.opts.Incarnation,
		alive: t.a.Alive, fail: t.end, suspect: t.requests.suspect, foreign: t.foreign, counts: &t.l.counts,
	}
	t.m = m
	if err := openMemory(ctx, m); err != nil {
		w.Close()
		return err
	}
	t.mu.Lock()
	t.opened = true
	t.mu.Unlock()
	if err := t.opts.State.DropOthers(t.m.topicID, t.a.TopicID); err != nil {
		t.log.WarnContext(ctx, "cannot drop the memory of former topics", logging.Err(err))
	}
	for _, p := range t.m.parts {
		t.epoch.Store(max(t.epoch.Load(), p.facts.Epoch))
		if p.facts.Alive.After(t.gone) {
			t.gone = p.facts.Alive
		}
	}
	for _, p := range t.m.parts {
		if p.facts.Epoch == t.epoch.Load() {
			for subject, rv := range p.facts.Seen {
				t.see(subject, rv)
			}
		}
	}
	return nil
}

// round reads the source until the epoch or the cluster changes.
func (t *term) round(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t.mu.Lock()
	t.endRound = cancel
	t.mu.Unlock()
	s, err := t.identify(ctx)
	if err != nil {
		return err
	}
	if err := t.configure(ctx, s); err != nil {
		return err
	}
	if err := t.markGap(ctx); err != nil {
		return err
	}
	t.stamps = newStamps(t)
	t.mu.Lock()
	t.stampLife = t.stamps.lf
	t.mu.Unlock()
	var work sync.WaitGroup
	run := func(what func(context.Context) error) {
		work.Go(func() {
			if err := what(ctx); err != nil && ctx.Err() == nil {
				cancel(err)
			}
		})
	}
	run(t.stamps.run)
	run(t.conduct)
	run(t.beat)
	run(t.requests.run)
	t.setReady(true)
	<-ctx.Done()
	t.setReady(false)
	work.Wait()
	return context.Cause(ctx)
}

func (t *term) setReady(ready bool) {
	t.mu.Lock()
	t.ready = ready
	t.mu.Unlock()
	if ready {
		t.l.health.Working(t.log, "reading the source again")
	}
}

// interrupt ends the round.
func (t *term) interrupt(err error) {
	t.mu.Lock()
	end := t.endRound
	t.mu.Unlock()
	if end != nil {
		end(err)
	}
}

// conduct starts, stops and wakes the lives of resources as the settings ask.
func (t *term) conduct(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	last := time.Now()
	confirmed := t.opts.Settings.Load().ConfirmPrune
	for {
		s, changed := t.opts.Settings.Get()
		if err := t.configure(ctx, s); err != nil {
			return err
		}
		t.arrange(ctx, &work)
		if s.ConfirmPrune != confirmed {
			confirmed = s.ConfirmPrune
			t.absence.confirmed()
		}
		var resync, retry <-chan time.Time
		if s.ResyncPeriod > 0 {
			resync = time.After(time.Until(last.Add(s.ResyncPeriod)))
		}
		if t.resolver.waiting() {
			retry = time.After(t.opts.Retry)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		case <-t.resolver.wake:
		case <-retry:
		case <-resync:
			last = time.Now()
			t.relist()
		}
	}
}

// arrange makes the running lives those of the covered, served resources.
func (t *term) arrange(ctx context.Context, work *sync.WaitGroup) {
	wanted := t.resolver.resources()
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, lf := range t.lives {
		if _, ok := wanted[name]; !ok || lf.ended.Load() {
			lf.stop()
			delete(t.lives, name)
		}
	}
	for name, r := range wanted {
		if t.lives[name] != nil {
			continue
		}
		lf := newLife(t, r)
		ctx, cancel := context.WithCancel(ctx)
		lf.stop = cancel
		t.lives[name] = lf
		work.Go(func() {
			defer cancel()
			lf.run(ctx)
		})
	}
}

// relist has every resource listed and compared, and the namespaces before them.
func (t *term) relist() {
	if t.stamps != nil {
		t.stamps.life().relist()
	}
	for _, lf := range t.everyLife() {
		lf.relist()
	}
}

// namespaces is the life that reads them for their labels, if anything needs it.
func (t *term) namespaces() *life {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, lf := range t.lives {
		if lf.r.Namespaced {
			return t.stampLife
		}
	}
	return nil
}

func (t *term) everyLife() []*life {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*life, 0, len(t.lives))
	for _, lf := range t.lives {
		all = append(all, lf)
	}
	return all
}

// see notes a resourceVersion the source has shown.
func (t *term) see(subject, rv string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if olderRV(t.highest[subject], rv) {
		t.highest[subject] = rv
	}
}

// seen is the highest resourceVersion the source has shown of a resource.
func (t *term) seen(subject string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.highest[subject]
}

// markGap notes an interval in which nobody watched: states may have existed
// which the log never saw.
func (t *term) markGap(ctx context.Context) error {
	from, to := t.gone, time.Now()
	t.gone = time.Time{} // once a term
	if from.IsZero() || to.Sub(from) < 2*t.opts.Heartbeat {
		return nil
	}
	body, _ := json.Marshal(topology.GapBody{From: from, To: to}) // plain data always marshals
	return t.m.broadcast(ctx, topology.Record{
		// One key for each gap, so that compaction keeps them all.
		Key: topology.ControlKey(topology.Gap, strconv.FormatInt(from.Unix(), 10)), Kind: topology.Gap,
		Version: topology.Version{Epoch: t.epoch.Load()}, Body: body,
	})
}

// foreign looks at a control record of another writer that landed in our term.
func (t *term) foreign(r topology.Record) {
	if r.Version.Epoch > t.epoch.Load() {
		t.end(fmt.Errorf("another writer opened epoch %d: %w", r.Version.Epoch, errBeginAgain))
		return
	}
	if r.Kind == topology.Configured {
		// Ours must be the last one, or compaction would leave the other.
		t.config.spoil(r)
		t.resolver.signal()
	}
}

// settings as they stand now.
func (t *term) settings() settings.Settings { return t.opts.Settings.Load() }

// cluster is the log attribute of the source.
func (t *term) cluster() slog.Attr { return logging.SourceCluster(t.settings().Source) }
