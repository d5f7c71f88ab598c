package synchronizer

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/owned"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// result of a job: what to remember, and what to note in outcomes.
type result struct {
	change  *change
	outcome *topology.OutcomeBody
	// lost: the effect is not known to be logged; the position stays before it.
	lost bool
}

// attempt is one job being done.
type attempt struct {
	s      *Synchronizer
	p      *partition
	j      *job
	w      *want
	owner  topology.Owner
	policy policy

	e     state.Entry
	known bool
	q     *state.Quarantine // as it was before

	r       kube.Resource
	live    *owned.Object // as last read, or nil
	adopted bool
	forced  bool // a namespace that is made for the object within
}

// maxTurns bounds how often one attempt reads again and decides again before it
// leaves the key to its retry.
const maxTurns = 6

// do does a job and notes what became of it.
func (p *partition) do(j *job) {
	a := &attempt{s: p.s, p: p, j: j, w: &j.want, policy: p.s.policy(), owner: p.owner()}
	p.mu.Lock()
	a.policy.former = p.former
	e, known, err := p.memory.get(j.want.keyText)
	if q, ok := p.memory.quarantined[j.want.keyText]; ok {
		a.q = &q
	}
	p.mu.Unlock()
	if err != nil {
		p.fail(err)
		p.note(j, result{lost: true})
		return
	}
	a.e, a.known = e, known
	a.adopted = known && has(e, markAdopted)
	p.note(j, a.run(p.ctx))
}

// run does what the record asks for. ctx ends with the partition: nothing begins
// after that, what has begun is seen to its end.
func (a *attempt) run(ctx context.Context) result {
	step := plan(a.j, a.e, a.known, a.q)
	switch step {
	case stepDrop:
		return result{}
	case stepRemember:
		return a.remember("")
	case stepHold:
		return a.fail(ReasonPatchFailed, a.w.reason, nil)
	}
	r, err := a.s.resources.Get(ctx, a.w.key.GVR())
	if errors.Is(err, kube.ErrNotServed) {
		if a.w.op == topology.Delete {
			return a.gone(Deleted) // what is not served holds no objects
		}
		return a.fail(ReasonNotServed, "waits for "+a.w.key.GVR().String()+" to be served by the destination", nil)
	}
	if err == nil {
		a.r = r
		for turn := 0; turn < maxTurns; turn++ {
			var res result
			if step, res, err = a.turn(ctx, step); err != nil {
				if again, r := a.failed(ctx, turn, err); !again {
					return r
				}
				step = stepLook // a request without an answer may have had its effect
				continue
			}
			if step == stepDrop {
				return res
			}
		}
		return a.fail(ReasonConflict, "the object changes faster than it can be written", nil)
	}
	_, res := a.failed(ctx, maxTurns, &opError{logging.ErrReadingResources, err})
	return res
}

// turn takes one step. It returns the next one, or stepDrop and the result.
func (a *attempt) turn(ctx context.Context, step step) (step, result, error) {
	switch step {
	case stepLook:
		j, err := a.look(ctx)
		if err != nil {
			return 0, result{}, err
		}
		a.adopted = j.adopted
		switch j.step {
		case stepFail:
			return stepDrop, a.fail(j.reason, j.message, nil), nil
		case stepKeep:
			return stepDrop, a.keep(j.message), nil
		}
		return j.step, result{}, nil
	case stepRemember:
		return stepDrop, a.remember(""), nil
	case stepForeign:
		return stepDrop, a.remember(Unchanged), nil
	case stepAdoptNewer:
		return stepDrop, a.adoptNewer(), nil
	case stepGone:
		return stepDrop, a.gone(Deleted), nil
	case stepOrphan:
		return stepDrop, a.gone(Orphaned), nil
	case stepDelete:
		return a.delete(ctx)
	}
	if a.overridden() {
		return stepDrop, a.fail(ReasonOverridden, "what the destination holds was put right several times and changed back each time: "+
			"something there owns it; it is left alone until the source changes", nil), nil
	}
	if reason, message, err := a.awaitNamespace(ctx); err != nil {
		return 0, result{}, err
	} else if reason != "" {
		return stepDrop, a.fail(reason, message, nil), nil
	}
	if step == stepCreate {
		return a.create(ctx)
	}
	return a.update(ctx)
}

// look reads the object and judges it.
func (a *attempt) look(ctx context.Context) (judgement, error) {
	if err := ctx.Err(); err != nil {
		return judgement{}, err
	}
	live, err := a.s.read(a.p.effects, a.r, a.w.key)
	if err != nil {
		return judgement{}, &opError{logging.ErrGettingObject, err}
	}
	a.live = live
	return judge(a.j, a.e, a.known, live, a.owner, a.policy), nil
}

// entry is what is remembered once the object is as desired.
func (a *attempt) entry() state.Entry {
	e := state.Entry{Version: a.w.version, UID: a.w.uid, Hash: a.w.hash, Offset: a.w.offset}
	if a.adopted {
		e.Mark = mark(e.Mark, markAdopted)
	}
	return e
}

// remember notes the version without a write.
func (a *attempt) remember(r Result) result {
	e := a.e
	if !a.known {
		e = a.entry()
	}
	e.Version, e.Hash, e.Offset = a.w.version, a.w.hash, a.w.offset
	if a.w.uid != "" {
		e.UID = a.w.uid
	}
	e.Deleted = a.w.op == topology.Delete
	e.Mark = unmark(e.Mark, markUnverified)
	if a.live != nil {
		m := &a.live.Meta
		e.DestinationUID, e.DestinationRV, e.FieldsHash = m.UID, m.ResourceVersion, owned.FieldsHash(m)
		e.Mark = markFlags(e.Mark, a.live, a.adopted, r == Unchanged)
	}
	if a.known && e == a.e && a.q == nil {
		return result{}
	}
	res := result{change: &change{entry: &e, release: true}}
	if r == Unchanged && (!a.known || !has(a.e, markForeign)) {
		res.outcome = &topology.OutcomeBody{Result: string(r), DestinationUID: e.DestinationUID, DestinationRV: e.DestinationRV}
	}
	return res
}

// adoptNewer remembers what is there: this state, or this record, is old.
func (a *attempt) adoptNewer() result {
	e := entryOf(a.live)
	return result{change: &change{entry: &e, release: true}}
}

// entryOf rebuilds an entry from what an object of ours says.
func entryOf(live *owned.Object) state.Entry {
	m := &live.Meta
	return state.Entry{
		Version: owned.AppliedVersion(m), UID: m.Annotations[topology.SourceUIDAnnotation], Hash: m.Annotations[topology.HashAnnotation], Offset: -1,
		DestinationUID: m.UID, DestinationRV: m.ResourceVersion, FieldsHash: owned.FieldsHash(m),
		Mark: markFlags("", live, m.Annotations[topology.AdoptedAnnotation] != "", false),
	}
}

// gone remembers that the object is not there, or no longer ours to care for.
func (a *attempt) gone(r Result) result {
	e := state.Entry{Version: a.w.version, UID: a.w.uid, Offset: a.w.offset, Deleted: true}
	if r == Orphaned || r == Kept {
		e.Mark = mark("", markOrphaned)
	}
	res := result{change: &change{entry: &e, release: true}}
	if a.known && !a.e.Deleted || a.live != nil || a.q != nil {
		res.outcome = &topology.OutcomeBody{Result: string(r)}
	}
	return res
}

func (a *attempt) keep(message string) result {
	r := a.gone(Kept)
	if r.outcome != nil {
		r.outcome.Message = message
	}
	return r
}

// written remembers a write that succeeded.
func (a *attempt) written(r Result, live *owned.Object) result {
	a.s.lastSync.Store(time.Now().UnixNano())
	if a.live != nil && a.live.Meta.Annotations[topology.KeyAnnotation] != a.w.keyText {
		a.s.releaseMoved()
	}
	e := a.entry()
	m := &live.Meta
	e.DestinationUID, e.DestinationRV, e.FieldsHash = m.UID, m.ResourceVersion, owned.FieldsHash(m)
	e.Mark = markFlags(e.Mark, live, a.adopted, false)
	if a.j.drifted {
		e.Mark = repaired(e.Mark, a.e, time.Now(), a.s.repairWindow())
	}
	done := map[Result]string{Created: logging.ObjectCreated, Updated: logging.ObjectUpdated, Recreated: logging.ObjectCreated}[r]
	if a.forced && r == Created {
		done = logging.NamespaceCreated
	}
	a.s.log(slog.LevelInfo, done, a.w, m.UID, m.ResourceVersion)
	return result{
		change:  &change{entry: &e, release: true},
		outcome: &topology.OutcomeBody{Result: string(r), DestinationUID: m.UID, DestinationRV: m.ResourceVersion},
	}
}
