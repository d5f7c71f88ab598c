package restorer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/afterimage-dr/afterimage/internal/owned"
	"github.com/afterimage-dr/afterimage/topology"
)

// deed is what is to be done with one object.
type deed int

const (
	// nothing: it is not in scope.
	nothing deed = iota
	// leave: it is as it must be.
	leave
	// restore: it becomes the target, created or replaced.
	restore
	// patch: fromPatch acts on what is there.
	patch
	// refuse: it cannot be done, and trying again does not help.
	refuse
)

// decision about one object.
type decision struct {
	deed deed
	// state it becomes, of a restore.
	state owned.State
	// standby is what the destination holds, as far as the marks tell: a restore
	// writes only what differs from it. Nil where it holds something else.
	standby []byte
	// confirm: a mark says that it was restored already, which the content must show.
	// What is written from standby leaves the mark before it is known to be all.
	confirm bool
	// entry of the configuration, of a patch.
	entry int
	// mark of this recovery that the write leaves.
	mark string
	// atRisk: its newest change had not reached the destination.
	atRisk                bool
	reason, message, note string
}

func refused(reason, message string) decision {
	return decision{deed: refuse, reason: reason, message: message}
}

// decide decides about an original and what the destination holds (nil: nothing
// of ours). It may read the original from the bucket, and nothing else.
func (r *Restorer) decide(ctx context.Context, o *original, live *existing) decision {
	if o.damaged != nil {
		return refused(reasonOf(o.damaged), "the original cannot be used: "+o.damaged.Error())
	}
	held := isDefinition(o.key) && r.Mode != Replay && r.holding.Apply(o.rec).HeldBack
	if held && r.wave == foundations {
		return r.withoutGates(o, live)
	}
	verdict := r.rules.Apply(o.rec)
	if !verdict.InScope || isDefinition(o.key) && !held && r.wave == gates {
		return decision{deed: nothing}
	}
	d := decision{entry: verdict.Entry, note: o.note}
	rec, fromOriginal := o.rec, r.fromOriginal(verdict.Entry)
	if fromOriginal && r.beside != nil {
		rec, d.note = r.beside.of(ctx, o)
	}
	d.mark = r.mark(rec, verdict.Entry, fromOriginal)
	if held {
		d.mark += ".released"
	}
	if verdict.Err != nil && !fromOriginal {
		return refused(ReasonPatchFailed, verdict.Err.Error())
	}
	stale := live.ours() && (r.behind(live, o.rec, &verdict) || held && live.recovered != d.mark || r.otherwise(live, d.mark))
	switch {
	case d.mark != "" && live.ours() && live.recovered == d.mark && !stale && !fromOriginal:
		d.deed = leave // by this recovery, in an earlier run of it
	case live.ours() && !stale && !fromOriginal && !r.replaces():
		d.deed = leave
		if r.patches(verdict.Entry) {
			d.deed = patch
		}
	default:
		d.deed = restore
		d.atRisk = stale || live == nil
		d.confirm = live.ours() && live.recovered == d.mark && !stale
	}
	if d.deed != restore {
		return d
	}
	if live.ours() && stateOf(rec, live).Older(live.version) && !r.PointInTime && !r.Force {
		return refused(ReasonOlder, fmt.Sprintf("the original is of version %s, the destination holds %s: --force restores it all the same", rec.Version, live.version))
	}
	return r.target(d, o, rec, &verdict, live, fromOriginal)
}

// withoutGates decides about a definition while what it defines is written: it
// stands by without its conversion webhook, which comes with the gates.
func (r *Restorer) withoutGates(o *original, live *existing) decision {
	verdict := r.holding.Apply(o.rec)
	d := decision{entry: verdict.Entry, mark: strconv.FormatInt(r.term, 10) + ".held"}
	switch {
	case verdict.Err != nil:
		return refused(ReasonPatchFailed, verdict.Err.Error())
	case live.ours() && !r.behind(live, o.rec, &verdict):
		d.deed = leave
		return d
	}
	d.deed, d.atRisk = restore, true
	d.state = owned.State{Key: o.key, Version: o.rec.Version, UID: o.rec.UID, Hash: recoveredHash + digest(verdict.Body), Body: verdict.Body, Recovered: d.mark}
	d.state.Version.Generation = r.Config.Generation
	return d
}

// target computes what an object becomes.
func (r *Restorer) target(d decision, o *original, rec *topology.Record, verdict *topology.Verdict, live *existing, fromOriginal bool) decision {
	body := verdict.Body
	if fromOriginal {
		of := r.rules.Original(rec)
		if of.Err != nil {
			return refused(ReasonPatchFailed, of.Err.Error())
		}
		body = of.Body
	}
	if r.patches(verdict.Entry) {
		patched, err := r.recovery.Patch(verdict.Entry, o.key, topology.Copied, body)
		if err != nil {
			return refused(ReasonPatchFailed, "recoveryProcess.fromPatch: "+err.Error())
		}
		body = patched
	}
	body, err := r.placed(o.key, body)
	if err != nil {
		return refused(owned.ReasonInvalid, err.Error())
	}
	if live.ours() && live.hash == verdict.Hash && !r.replaces() {
		d.standby = verdict.Body
	}
	d.state = owned.State{Key: o.key, Version: rec.Version, UID: rec.UID, Hash: verdict.Hash, Body: body}
	d.state.Version.Generation = r.Config.Generation
	if r.Mode != Replay {
		// What a recovery made of the object is no desired state of the log: the
		// next comparison after the fence is lifted must not take it for one.
		d.state.Hash, d.state.Recovered = recoveredHash+digest(body), d.mark
	}
	d.state.Adopted = live == nil && r.Adopt(o.keyText)
	if live.ours() {
		d.state.Adopted = live.adopted
		if d.state.Version.Older(live.version) {
			// Guarantee 3: what an older state is restored over stays known to be newer.
			d.state.Version = live.version
		}
	}
	return d
}

// behind tells whether the destination lacks the newest change of the source, or
// of the configuration.
func (r *Restorer) behind(live *existing, rec *topology.Record, verdict *topology.Verdict) bool {
	now := stateOf(rec, live)
	if live.version.Older(now) {
		return true
	}
	if live.recovered != "" && r.ofThisTerm(live.recovered) {
		return false // its hash is not one of the log
	}
	return verdict.Err == nil && live.hash != verdict.Hash && !now.Older(live.version)
}

// stateOf is the version of a record, to compare with that of an object: records of
// the source know no configuration.
func stateOf(rec *topology.Record, live *existing) topology.Version {
	v := rec.Version
	v.Generation = live.version.Generation
	return v
}

// otherwise tells whether an object holds what another recovery made of it: of
// another term, or of this one when another moment or another recoveryProcess was
// asked for. Nothing can be built on that; it is made anew from the log.
func (r *Restorer) otherwise(live *existing, mark string) bool {
	return live.recovered != "" && live.recovered != mark && (!r.ofThisTerm(live.recovered) || strings.HasPrefix(live.hash, recoveredHash))
}

// recoveredHash begins the content hash of what was restored: no state of the log
// has it.
const recoveredHash = "recovered-"

// mark is what this recovery leaves on an object: its term, and what of. The
// patch alone where it acts on what is there; with an original, which that is.
func (r *Restorer) mark(rec *topology.Record, entry int, fromOriginal bool) string {
	if r.Mode == Replay {
		return ""
	}
	what := r.recovery.PatchHash(entry)
	if fromOriginal || r.PointInTime {
		what = digest([]byte(what + "\n" + rec.Version.String() + "\n" + string(rec.Body)))
	}
	if what == "" {
		what = "standby"
	}
	return strconv.FormatInt(r.term, 10) + "." + what
}

func (r *Restorer) ofThisTerm(mark string) bool {
	prefix := strconv.FormatInt(r.term, 10) + "."
	return len(mark) > len(prefix) && mark[:len(prefix)] == prefix
}

// fromOriginal, patches and replaces tell what is done with objects of an entry:
// a replay knows no recovery process, and a moment and a replay replace
// everything.
func (r *Restorer) fromOriginal(entry int) bool {
	return r.Mode != Replay && r.recovery.FromOriginal(entry)
}

func (r *Restorer) patches(entry int) bool { return r.Mode != Replay && r.recovery.HasPatch(entry) }

func (r *Restorer) replaces() bool {
	return r.PointInTime || r.Mode == Replay
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:12])
}
