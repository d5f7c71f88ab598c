package synchronizer

import (
	"context"
	"encoding/json"
	"time"

	"github.com/afterimage-dr/afterimage/internal/failpoint"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/topology"
)

// Result of an application.
type Result string

// The results.
const (
	Created   Result = "created"
	Updated   Result = "updated"
	Recreated Result = "recreated"
	Deleted   Result = "deleted"
	// Orphaned: deleted in the source, left alone as the deletion policy asks.
	Orphaned Result = "orphaned"
	// Kept: deleted in the source; the destination object was never ours to delete.
	Kept Result = "kept"
	// Unchanged: a foreign object equals what would be written.
	Unchanged Result = "unchanged"
	// Failed: in quarantine, to be tried again.
	Failed Result = "failed"
	// Undone: a create of this incarnation's that came after the delete, taken back.
	Undone Result = "undone"
)

// record of an outcome.
func (s *Synchronizer) outcomeOf(w *want, o topology.OutcomeBody) *topology.Record {
	o.Op, o.Version, o.At = w.op, w.version.String(), time.Now().UTC()
	r := &topology.Record{
		Key: w.keyText, Kind: topology.Object, Op: w.op, Version: w.version, UID: w.uid,
		ObservedAt: w.observed, Hash: w.hash, Writer: s.Incarnation, Reason: o.Result, Entry: w.entry,
	}
	if o.Result == string(Deleted) {
		return r
	}
	r.Body, _ = json.Marshal(o) // plain data always marshals
	return r
}

// note appends the outcome of a job, and finishes the job when the log has it
// (guarantee 1). Without an outcome it finishes at once.
func (p *partition) note(j *job, r result) {
	if r.outcome == nil {
		p.finish(j, r)
		return
	}
	rec := p.s.outcomeOf(&j.want, *r.outcome).Encode(p.s.Topics.Outcomes, p.id.Number)
	failpoint.Hit("synchronizer/before-outcome")
	p.s.writer.Append(p.effects, rec, appended(func(err error) {
		if err != nil {
			// What was applied stays as it is; without the position it is looked at again.
			r.lost = true
			p.finish(j, r)
			p.fail(err)
			return
		}
		failpoint.Hit("synchronizer/after-outcome")
		p.finish(j, r)
	}))
}

// forward passes a heartbeat on to outcomes. It is called when everything before
// it in the partition is applied or in quarantine.
func (p *partition) forward(ctx context.Context, h topology.Record) {
	p.mu.Lock()
	p.verifiedAt = h.VerifiedAt
	p.mu.Unlock()
	out := h
	out.Writer, out.Body = p.s.Incarnation, h.Body
	p.s.writer.Append(ctx, out.Encode(p.s.Topics.Outcomes, p.id.Number), appended(func(err error) {
		if err != nil && ctx.Err() == nil {
			p.log.Warn("forwarding a heartbeat failed", logging.Err(err))
		}
	}))
}
