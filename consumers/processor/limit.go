package processor

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// Guarantee 8, for changes of the configuration: a key whose object exists, and
// which only the new configuration leaves out, is not deleted when it is
// computed. It is held back, so that desired keeps it, until the whole of changes
// has been computed in every partition of this process. Then what is held back is
// compared with the limit once, over all of these partitions: within it, the
// tombstones follow at once; beyond it, they wait until a person confirms this
// configuration, or puts another one in force. Everything else goes on meanwhile.

const (
	metaBaseline = "baseline" // the configuration before the one in force, if it was wholly in force
	// heldSuffix behind the run's ID marks an entry that is held back.
	heldSuffix = "!"
	// verdictPoll is how often a partition asks whether the others are ready.
	verdictPoll = 50 * time.Millisecond
)

// reasonHeldBack is the reason of a record that stands in for what is held back.
const reasonHeldBack = "the configuration leaves it out, which waits to be confirmed"

// share is what one partition has to say about a change of the configuration.
// Its maps are never changed once it is published.
type share struct {
	generation int64
	token      string
	// done: the whole of changes has been computed; blocked: what it takes waits
	// for a person.
	done, blocked bool
	// tracked keys that desired held before, and those of them that are taken or
	// held back, by resource.
	tracked, taken map[string]int64
}

type verdict int

const (
	undecided verdict = iota // another partition is not ready
	allowed
	blocked
)

func resourceOf(key string) string {
	if parts := strings.SplitN(key, "/", 4); len(parts) == 4 {
		return strings.Join(parts[:3], "/")
	}
	return key
}

func add(to, n map[string]int64) {
	for k, v := range n {
		to[k] += v
	}
}

// heldBack tells whether a key is held back, in the present run.
func (w *partition) heldBack(e *state.Entry) bool {
	return !e.Deleted && w.fullRun.ID != "" && e.Mark == w.fullRun.ID+heldSuffix
}

// leftOut tells whether it is the configuration that leaves a record out, and
// not what became of the object or its namespace: that is the user's act.
func (w *partition) leftOut(r *topology.Record, old *state.Entry) bool {
	if moved(w.rules, r) {
		return false
	}
	if w.baseline == nil || old.Version.Generation < w.baseline.Config().Generation {
		return true // who took it, and why, is not known
	}
	return w.baseline.Apply(r).InScope
}

// moved tells whether an entry takes the object in another API version: it will
// be taken over under its new key, and deleted only if it is not.
func moved(rules *topology.Rules, r *topology.Record) bool {
	key, err := topology.ParseKey(r.Key)
	if err != nil {
		return false
	}
	for _, e := range rules.Config().Replication.Resources {
		if e.Group != key.Group || e.Resource != key.Resource || e.Version == key.Version {
			continue
		}
		now, as := key, *r
		now.Version = e.Version
		if as.Key = now.String(); rules.Apply(&as).InScope {
			return true
		}
	}
	return false
}

// holdBack leaves desired as it is for a key that the configuration leaves out.
// withheld: it is left out until a recovery. again: an older record of another
// incarnation is the last of its key.
func (w *partition) holdBack(b *batch, r *topology.Record, old state.Entry, withheld, again bool) error {
	e := old
	if old == (state.Entry{}) || old.Deleted {
		// Somebody downstream holds it: it is tracked, though desired lost it.
		e = state.Entry{}
		if w.fullRun.Tracked == nil {
			w.fullRun.Tracked = map[string]int64{}
		}
		w.fullRun.Tracked[resourceOf(r.Key)]++
	}
	// What was seen last is remembered, as computed by the old configuration.
	generation := e.Version.Generation
	e.Version, e.UID, e.Offset = r.Version, r.UID, r.Offset
	e.Version.Generation = generation
	e.Mark, e.Withheld = w.fullRun.ID+heldSuffix, withheld
	if again {
		// What desired held cannot be computed any more. The destination keeps it.
		e.Held, e.Hash = true, heldHash(reasonHeldBack)
		b.records = append(b.records, &topology.Record{
			Key: r.Key, Kind: topology.Object, Op: topology.Hold, Version: e.Version, UID: e.UID, ObservedAt: r.ObservedAt,
			Entry: -1, Reason: reasonHeldBack, Body: []byte("{}"), Repair: true,
		})
	}
	w.put(b, r.Key, old, e)
	return w.holding(b)
}

// holding notes, together with the first key, that some are held back.
func (w *partition) holding(b *batch) error {
	w.fullRun.Holding = true
	return w.setJSON(b, metaRun, w.fullRun)
}

// unweighed tells whether something is held back that was not judged yet.
func (w *partition) unweighed() bool {
	return w.fullRun.Reached && w.fullRun.Holding && !w.fullRun.Blocked
}

// newRun begins a run; what the same configuration was judged by stays.
func (w *partition) newRun() error {
	old := w.fullRun
	w.awaiting, w.recount = nil, false
	w.fullRun = run{ID: newRunID(), Generation: w.rules.Config().Generation}
	if old.Generation == w.fullRun.Generation {
		w.fullRun.Tracked, w.fullRun.Gone, w.fullRun.Blocked, w.fullRun.Holding = old.Tracked, old.Gone, old.Blocked, old.Holding
		w.recount = true
		w.publish(false)
		return nil
	}
	w.fullRun.Tracked = map[string]int64{}
	err := w.State.Each(w.id, "", func(key string, e state.Entry) error {
		if !e.Deleted && !topology.IsControl(key) {
			w.fullRun.Tracked[resourceOf(key)]++
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("counting what desired holds: %w", err)
	}
	w.publish(false)
	return nil
}

// replaces remembers the configuration that another is about to replace, if
// every key was computed with it and nothing of it was held back. Otherwise some
// keys are as older ones wanted them.
func (w *partition) replaces(b *batch) error {
	w.baseline = nil
	if w.rules == nil || !w.fullRun.Reached || w.fullRun.Holding || w.fullRun.Generation != w.rules.Config().Generation {
		b.change.SetMeta(metaBaseline, nil)
		return nil
	}
	w.baseline = w.rules
	return w.setJSON(b, metaBaseline, w.rules.Config())
}

// loadBaseline reads what replaces remembered. What does not compile any more is
// as good as unknown.
func (w *partition) loadBaseline() error {
	var config topology.Config
	if err := w.loadJSON(metaBaseline, &config); err != nil {
		return err
	}
	if w.baseline = nil; config.Generation != 0 {
		w.baseline, _ = topology.Compile(config)
	}
	return nil
}

// publish lets the other partitions and the status know.
func (w *partition) publish(done bool) {
	s := share{done: done, blocked: w.fullRun.Blocked, tracked: maps.Clone(w.fullRun.Tracked), taken: map[string]int64{}}
	if w.rules != nil {
		config := w.rules.Config()
		s.generation, s.token = config.Generation, config.PruneToken()
	}
	add(s.taken, w.fullRun.Gone)
	add(s.taken, w.awaiting)
	w.note(func(st *status) { st.share = s })
}

// countHeld counts what is held back.
func (w *partition) countHeld() error {
	if !w.recount {
		return nil
	}
	n := map[string]int64{}
	err := w.State.Each(w.id, "", func(key string, e state.Entry) error {
		if w.heldBack(&e) {
			n[resourceOf(key)]++
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("counting what is held back: %w", err)
	}
	w.awaiting, w.recount = n, false
	return nil
}

// weigh asks whether what is held back may go, when there is something and
// everything was computed.
func (w *partition) weigh(ctx context.Context, s settings.Settings) error {
	if !w.fullRun.Reached || !w.fullRun.Holding && !w.recount {
		return nil
	}
	if err := w.countHeld(); err != nil {
		return err
	}
	w.publish(true)
	switch {
	case len(w.awaiting) == 0:
		return w.release(ctx) // nothing is left of it
	case w.fullRun.Blocked && !s.ConfirmsPrune(w.status().share.token):
		return nil
	}
	switch verdict, why := w.judge(s, w.status().share); verdict {
	case allowed:
		return w.release(ctx)
	case blocked:
		return w.block(ctx, why)
	}
	return nil
}

// block waits for a person. It is remembered: fewer partitions after a restart
// must not come to another verdict.
func (w *partition) block(ctx context.Context, why string) error {
	w.fullRun.Blocked = true
	b := w.batch()
	if err := w.setJSON(b, metaRun, w.fullRun); err != nil {
		return err
	}
	if err := w.commit(ctx, b, nil); err != nil {
		return err
	}
	w.publish(true)
	if why != "" {
		w.Logger.Error("deletes by a change of the configuration are held back until a person confirms them",
			"reason", why, "token", w.status().share.token)
	}
	return w.forwardDeferred(ctx)
}

// release appends the tombstones of what is held back.
func (w *partition) release(ctx context.Context) error {
	generation, b := w.rules.Config().Generation, w.batch()
	gone := maps.Clone(w.fullRun.Gone)
	if gone == nil {
		gone = map[string]int64{}
	}
	flush := func() error {
		w.fullRun.Gone = maps.Clone(gone)
		if err := w.setJSON(b, metaRun, w.fullRun); err != nil {
			return err
		}
		if err := w.commit(ctx, b, nil); err != nil {
			return err
		}
		b.records = b.records[:0]
		clear(b.fresh)
		return nil
	}
	err := w.State.Each(w.id, "", func(name string, e state.Entry) error {
		if !w.heldBack(&e) {
			return nil
		}
		r := &topology.Record{Key: name, Kind: topology.Object, Op: topology.Delete, UID: e.UID, Entry: -1}
		switch {
		case uncovered(w.rules, name):
			r.Reason = topology.ReasonUncovered
		case e.Withheld:
			r.Reason = topology.SkipHeldBack
		}
		old := e
		e.Version.Generation = max(generation, e.Version.Generation)
		e.Deleted, e.Held, e.Hash, e.Mark = true, false, "", w.fullRun.ID
		r.Version = e.Version
		r.Repair = old.Hash == distrusted
		w.put(b, name, old, e)
		b.records = append(b.records, r)
		gone[resourceOf(name)]++
		if len(b.records) < chunk {
			return nil
		}
		return flush()
	})
	if err != nil {
		return fmt.Errorf("deleting what the configuration leaves out: %w", err)
	}
	if w.fullRun.Blocked {
		w.Logger.Warn("deleting what the configuration leaves out", "partition", w.number, "generation", generation)
	}
	w.fullRun.Holding, w.fullRun.Blocked = false, false
	if err := flush(); err != nil {
		return err
	}
	w.awaiting, w.recount = nil, false
	w.publish(true)
	return w.forwardDeferred(ctx)
}
