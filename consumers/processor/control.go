package processor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// run is one pass over the whole of changes. Every key it computes is marked
// with its ID, so that at its end the keys of desired that changes does not hold
// can be told.
type run struct {
	ID string `json:"id"`
	// Reached: the end of the stretch that was folded has been processed once.
	Reached bool `json:"reached,omitempty"`
	// Swept are the resources whose missing keys have been asked for.
	Swept []string `json:"swept,omitempty"`
	// Generation of the configuration it computes with.
	Generation int64 `json:"generation,omitempty"`
	// Tracked keys that desired held before this configuration, and those that are
	// Gone since because it leaves them out, by resource.
	Tracked map[string]int64 `json:"tracked,omitempty"`
	Gone    map[string]int64 `json:"gone,omitempty"`
	// Holding: some may be held back; Blocked: until a person confirms.
	Holding bool `json:"holding,omitempty"`
	Blocked bool `json:"blocked,omitempty"`
}

// deferral is a control record that waits until all before it is processed.
type deferral struct {
	Key    string `json:"key"`
	Offset int64  `json:"offset"`
}

// control handles a control record of changes.
//
// Inside a folded stretch a key's only processed record may stand behind a
// heartbeat or a listing marker that speaks of its earlier ones. These two
// promise that everything before them is there, so they wait for the stretch's
// end. A heartbeat also waits for what a change of the configuration takes away.
func (w *partition) control(ctx context.Context, b *batch, r *topology.Record) error {
	early := r.Offset < w.stretchEnd && (r.Kind == topology.Heartbeat || r.Kind == topology.Listed)
	if early || r.Kind == topology.Heartbeat && w.unweighed() {
		w.deferred = slices.DeleteFunc(w.deferred, func(d deferral) bool { return d.Key == r.Key })
		w.deferred = append(w.deferred, deferral{Key: r.Key, Offset: r.Offset})
		return w.setJSON(b, metaDeferred, w.deferred)
	}
	if r.Kind == topology.Listed {
		if err := w.sweepListed(ctx, b, r); err != nil {
			return err
		}
	}
	return w.forward(b, r)
}

// forward appends a control record to desired, in its place among the objects.
func (w *partition) forward(b *batch, r *topology.Record) error {
	old, known, err := w.get(b, r.Key)
	if err != nil {
		return err
	}
	e, out := controlEntry(r), *r
	out.Managers = nil
	if known && !newer(r.Kind, e, old) {
		if r.Kind != topology.Heartbeat || !r.Requested {
			return nil
		}
		// Somebody waits to see it arrive. What was verified stays so.
		e.Hash, out.VerifiedAt = old.Hash, verifiedBy(old)
	}
	w.put(b, r.Key, old, e)
	b.records = append(b.records, &out)
	return nil
}

// learnControl takes a control record of desired into the memory.
func (w *partition) learnControl(b *batch, r *topology.Record, old state.Entry, known bool) error {
	if e := controlEntry(r); !known || newer(r.Kind, e, old) {
		w.put(b, r.Key, old, e)
	}
	return nil
}

// controlEntry is how a control record is remembered: a heartbeat by its time,
// anything else by its content.
func controlEntry(r *topology.Record) state.Entry {
	if r.Kind == topology.Heartbeat {
		return state.Entry{Hash: strconv.FormatInt(r.VerifiedAt.UnixNano(), 10), Offset: r.Offset}
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%d\n%d\n", r.Version, r.ObservedAt.UnixNano(), r.VerifiedAt.UnixNano())
	h.Write(r.Body)
	return state.Entry{Version: r.Version, Hash: hex.EncodeToString(h.Sum(nil)[:16]), Offset: r.Offset}
}

func newer(kind topology.Kind, e, old state.Entry) bool {
	if kind != topology.Heartbeat {
		return e.Hash != old.Hash
	}
	return verifiedBy(e).After(verifiedBy(old))
}

// verifiedBy is the moment of the heartbeat that an entry remembers; zero, like the
// heartbeat's, while nothing is known.
func verifiedBy(e state.Entry) time.Time {
	n, err := strconv.ParseInt(e.Hash, 10, 64)
	if err != nil || n <= 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// finishStretch runs when everything of the folded stretch is processed.
func (w *partition) finishStretch(ctx context.Context) error {
	if !w.fullRun.Reached && w.fullRun.ID != "" {
		b := w.batch()
		if err := w.sweepUncovered(ctx, b); err != nil {
			return err
		}
		if err := w.sweepWithheld(b); err != nil {
			return err
		}
		w.fullRun.Reached = true
		if err := w.setJSON(b, metaRun, w.fullRun); err != nil {
			return err
		}
		if err := w.commit(ctx, b, nil); err != nil {
			return err
		}
	}
	// Counted before the others are told that it is done: they judge by the sum.
	if err := w.countHeld(); err != nil {
		return err
	}
	w.publish(true)
	if err := w.weigh(ctx, w.Settings.Load()); err != nil {
		return err
	}
	return w.forwardDeferred(ctx)
}

// forwardDeferred appends the control records that need not wait any longer.
func (w *partition) forwardDeferred(ctx context.Context) error {
	b := w.batch()
	var kept []deferral
	for _, d := range w.deferred {
		// Not there any more: a newer one of its key is still to come.
		r, err := w.source(ctx, d.Key, d.Offset)
		if err != nil {
			return err
		}
		if r == nil {
			continue
		}
		if r.Kind == topology.Heartbeat && w.unweighed() {
			kept = append(kept, d)
			continue
		}
		if r.Kind == topology.Listed {
			if err := w.sweepListed(ctx, b, r); err != nil {
				return err
			}
		}
		if err := w.forward(b, r); err != nil {
			return err
		}
	}
	if w.deferred = kept; len(kept) == 0 {
		b.change.SetMeta(metaDeferred, nil)
	} else if err := w.setJSON(b, metaDeferred, kept); err != nil {
		return err
	}
	return w.commit(ctx, b, nil)
}

// sweepListed asks for the keys of a resource that desired holds and changes,
// now that a complete listing of the resource is in it, does not: their deletes
// have expired from changes, or it was recreated. Nothing is concluded here
// (guarantee 8): the eventslistener looks at the source and answers in changes.
func (w *partition) sweepListed(ctx context.Context, b *batch, r *topology.Record) error {
	_, subject, _ := strings.Cut(r.Key, "/")
	if subject == "" || w.fullRun.ID == "" || slices.Contains(w.fullRun.Swept, subject) {
		return nil
	}
	var ask []*topology.Record
	flush := func() error {
		if len(ask) == 0 {
			return nil
		}
		if err := w.awaitAlive(ctx); err != nil {
			return err
		}
		if _, err := w.append(ctx, w.Topics.Requests, 0, ask); err != nil {
			return fmt.Errorf("asking for keys: %w", err)
		}
		w.count(func(c *Counts) { c.Requested += int64(len(ask)) })
		ask = ask[:0]
		return nil
	}
	err := w.unmarked(b, subject+"/", func(key string, _ state.Entry) error {
		ask = append(ask, &topology.Record{Key: key, Kind: topology.Object, Op: topology.Update, Reason: "in desired and not in changes"})
		if len(ask) < chunk {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	if err := flush(); err != nil {
		return err
	}
	w.fullRun.Swept = append(w.fullRun.Swept, subject)
	return w.setJSON(b, metaRun, w.fullRun)
}

// sweepUncovered deletes what desired holds of resources that no entry names any
// more and changes does not hold either: the configuration says so, no absence.
// What was computed with an older configuration passes the limit first.
func (w *partition) sweepUncovered(ctx context.Context, b *batch) error {
	generation := w.rules.Config().Generation
	return w.unmarked(b, "", func(name string, e state.Entry) error {
		key, err := topology.ParseKey(name)
		if err != nil || w.rules.Covers(key) {
			return nil
		}
		old := e
		e.Withheld = false
		if e.Version.Generation < generation {
			e.Mark = w.fullRun.ID + heldSuffix
			w.put(b, name, old, e)
			if err := w.holding(b); err != nil {
				return err
			}
		} else {
			e.Deleted, e.Held, e.Hash, e.Mark = true, false, "", w.fullRun.ID
			w.put(b, name, old, e)
			b.records = append(b.records, &topology.Record{
				Key: name, Kind: topology.Object, Op: topology.Delete, Version: e.Version, UID: e.UID, Entry: -1, Reason: topology.ReasonUncovered,
			})
		}
		if len(b.fresh) < chunk {
			return nil
		}
		if err := w.commit(ctx, b, nil); err != nil {
			return err
		}
		b.records = b.records[:0]
		clear(b.fresh)
		return nil
	})
}

// unmarked calls fn for every live key of desired that the run did not compute.
func (w *partition) unmarked(b *batch, prefix string, fn func(string, state.Entry) error) error {
	err := w.State.Each(w.id, prefix, func(key string, e state.Entry) error {
		if fresh, ok := b.fresh[key]; ok {
			e = fresh
		}
		if topology.IsControl(key) || e.Deleted || e.Mark == w.fullRun.ID || w.heldBack(&e) {
			return nil
		}
		return fn(key, e)
	})
	if err != nil {
		return fmt.Errorf("going over what desired holds: %w", err)
	}
	return nil
}

// configured is a configuration and the record it came in.
type configured struct {
	topology.Config
	record topology.Record
}

// configuration reads a Configured record; nil where it is none.
func configuration(r *topology.Record) *configured {
	c := &configured{record: *r}
	if r.Kind != topology.Configured || json.Unmarshal(r.Body, &c.Config) != nil {
		return nil
	}
	return c
}

// adopt puts a configuration in force and begins a run with it over the whole of
// changes. It says false for one that does not compile: the old one stays.
func (w *partition) adopt(ctx context.Context, c *configured, start int64) (bool, error) {
	rules, err := topology.Compile(c.Config)
	if err != nil {
		w.rejected = c.Generation
		message := fmt.Sprintf("generation %d: %v", c.Generation, err)
		w.note(func(s *status) { s.rejected = message })
		w.Logger.Error("the configuration in the log does not compile; the one before it stays", "partition", w.number, "generation", c.Generation, logging.Err(err))
		return false, nil
	}
	b := w.batch()
	if err := w.replaces(b); err != nil {
		return false, err
	}
	w.rules = rules
	w.note(func(s *status) { s.rejected, s.conflict, s.waiting = "", "", false })
	b.change.SetMeta(metaConflict, nil)
	if err := w.setJSON(b, metaConfig, c.Config); err != nil {
		return false, err
	}
	// Before everything that is computed with it, wherever it stood in changes.
	if err := w.forward(b, &c.record); err != nil {
		return false, err
	}
	w.Logger.Log(ctx, w.newsLevel(c.Generation), "configuration in force", "partition", w.number, "generation", c.Generation)
	return true, w.beginRun(ctx, b, start)
}

// beginRun begins to go over the whole of changes.
func (w *partition) beginRun(ctx context.Context, b *batch, start int64) error {
	if err := w.newRun(); err != nil {
		return err
	}
	w.deferred = nil
	b.change.SetMeta(metaDeferred, nil)
	b.change.SetMeta(metaInput, w.in.TopicID[:])
	if err := w.setJSON(b, metaRun, w.fullRun); err != nil {
		return err
	}
	return w.commit(ctx, b, w.position(start, -1))
}

func (w *partition) setJSON(b *batch, name string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("writing %s to the state: %w", name, err)
	}
	b.change.SetMeta(name, raw)
	return nil
}

func (w *partition) loadJSON(name string, v any) error {
	raw, ok, err := w.State.Meta(w.id, name)
	if err == nil && ok {
		err = json.Unmarshal(raw, v)
	}
	if err != nil {
		return fmt.Errorf("reading %s from the state: %w", name, err)
	}
	return nil
}

var errRecreated = errors.New("the topic was recreated or lost its end")
