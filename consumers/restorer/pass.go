package restorer

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/afterimage-dr/afterimage/internal/owned"
	"github.com/afterimage-dr/afterimage/topology"
)

// wave is the order in which things are written, as far as any is known
// beforehand: what others cannot be without, everything else, and what would stand
// in the way of everything else. Whatever else depends on each other is tried
// again until it can be.
type wave int

const (
	// foundations: namespaces and definitions; of these what blocks writes is left out.
	foundations wave = iota
	// everything that is neither.
	everything
	// gates: admission webhooks and conversion webhooks, which were held back.
	gates
)

// waveOf tells in which wave a key is written first.
func waveOf(key topology.Key) wave {
	switch {
	case key.Group == "" && key.Resource == "namespaces", isDefinition(key):
		return foundations
	case key.Group == "admissionregistration.k8s.io" && (key.Resource == "mutatingwebhookconfigurations" || key.Resource == "validatingwebhookconfigurations"):
		return gates
	}
	return everything
}

func isDefinition(key topology.Key) bool {
	return key.Group == "apiextensions.k8s.io" && key.Resource == "customresourcedefinitions"
}

// passes writes what belongs to these waves.
func (r *Restorer) passes(ctx context.Context, from, to wave) error {
	for w := from; w <= to; w++ {
		if w != everything && !r.names(w) {
			continue
		}
		r.wave = w
		in := func(text string) bool {
			if r.Only != nil && !r.Only(text) {
				return false
			}
			key, err := topology.ParseKey(text)
			// A damaged original is called by its path and comes with everything.
			return err == nil && (waveOf(key) == w || w == gates && isDefinition(key)) || err != nil && w == everything
		}
		r.progress.phase("writing")
		if err := r.persistently(ctx, in); err != nil {
			return err
		}
	}
	return nil
}

// names tells whether the configuration names something of a wave.
func (r *Restorer) names(w wave) bool {
	for _, gvr := range r.resources() {
		key := topology.Key{Group: gvr.Group, Version: gvr.Version, Resource: gvr.Resource}
		if waveOf(key) == w || w == gates && isDefinition(key) {
			return true
		}
	}
	return false
}

// persistently makes a pass over what want asks for, and passes over what failed
// in it, until nothing is left that time or another object may heal.
func (r *Restorer) persistently(ctx context.Context, want func(string) bool) error {
	begun := time.Now()
	pause := 250 * time.Millisecond
	for round := 0; ; round++ {
		before := r.failing(want)
		if err := r.pass(ctx, want); err != nil {
			return err
		}
		left := r.failing(want)
		waits := 0
		for key := range left {
			if left[key] {
				waits++
			}
		}
		progressed := round == 0 || len(left) < len(before)
		if len(left) == 0 || r.DryRun || !progressed && (waits == 0 || time.Since(begun) > r.Patience) {
			return nil
		}
		want = func(key string) bool { _, failed := left[key]; return failed }
		if progressed {
			pause = 250 * time.Millisecond
			if round > 0 || waits == 0 {
				continue
			}
		}
		r.progress.phase("waiting for what objects depend on")
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
		pause = min(2*pause, 2*time.Second)
	}
}

// hopeless are the reasons that no other object and no time heals.
var hopeless = map[string]bool{
	ReasonPatchFailed: true, ReasonDamaged: true, ReasonForeignContent: true, ReasonOlder: true,
	owned.ReasonNotOwned: true, owned.ReasonImmutable: true,
}

// waiting are the reasons of which something that was asked for may be the end.
var waiting = map[string]bool{
	owned.ReasonNamespaceTerminating: true, owned.ReasonTerminating: true, owned.ReasonTimeout: true,
	owned.ReasonTooManyRequests: true, owned.ReasonServerError: true, owned.ReasonConflict: true,
	owned.ReasonNotServed: true,
}

// failing are the keys asked for that failed and may yet succeed; true: time may
// heal them, not only another object.
func (r *Restorer) failing(want func(string) bool) map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]bool{}
	for key, res := range r.results {
		if res.Action == Failed && !hopeless[res.Reason] && want(key) {
			out[key] = waiting[res.Reason] && !(res.Reason == owned.ReasonNotServed && !r.definesResources())
		}
	}
	return out
}

// definesResources tells whether this recovery brings definitions: only then may
// what is not served yet come to be.
func (r *Restorer) definesResources() bool {
	for _, gvr := range r.resources() {
		if isDefinition(topology.Key{Group: gvr.Group, Version: gvr.Version, Resource: gvr.Resource}) {
			return true
		}
	}
	return false
}

// pass goes over the originals once.
func (r *Restorer) pass(ctx context.Context, want func(string) bool) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(r.Tasks + 1)
	g.Go(func() error {
		return r.source.each(ctx, want, func(o *original) error {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			g.Go(func() error { return r.one(ctx, o) })
			return nil
		})
	})
	return g.Wait()
}

// one does what is to be done with one object. An error ends the recovery; what is
// wrong with the object is its result.
func (r *Restorer) one(ctx context.Context, o *original) error {
	if o.name = o.keyText; r.NamespacePrefix != "" && o.damaged == nil && !r.place(o) {
		return ctx.Err()
	}
	live := r.live.get(o.keyText)
	d := r.decide(ctx, o, live)
	if d.deed == nothing {
		return ctx.Err()
	}
	res := Result{Key: o.name, Action: Unchanged, Note: d.note}
	var err error
	switch d.deed {
	case refuse:
		res.Action, res.Reason, res.Message = Failed, d.reason, d.message
	case restore:
		res, err = r.restore(ctx, o, &d, live)
	case patch:
		res, err = r.patch(ctx, o, &d, live)
	case leave, nothing:
		r.found(o, live)
	}
	if err != nil {
		return err
	}
	r.settle(o, &d, res)
	return nil
}

// found notes that an object is there as it must be.
func (r *Restorer) found(o *original, live *existing) {
	if live == nil {
		return
	}
	r.mu.Lock()
	r.wrote[o.keyText] = written{uid: live.pre.UID, mark: live.recovered, name: o.name}
	r.mu.Unlock()
}

// settle notes the result of an object.
func (r *Restorer) settle(o *original, d *decision, res Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, again := r.results[o.name]
	if d.atRisk && !again {
		r.atRisk++
	}
	if again && res.Action == Unchanged && before.Action != Failed {
		res.Action = before.Action // a later wave finds what an earlier one did
	}
	r.results[o.name] = res
	failed := 0
	if res.Action == Failed {
		failed = 1
	}
	r.done++
	if again {
		r.done--
		if before.Action == Failed {
			failed--
		}
	}
	r.failed += failed
	r.progress.count(r.done, r.Keys, r.failed)
}
