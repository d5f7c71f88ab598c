package restorer

import (
	"context"
	"encoding/json"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/topology"
)

// noteWithin is how long the log may take for the results: the recovery is done.
const noteWithin = 30 * time.Second

// note appends what was done to outcomes, for audit. A log that is lost has
// nothing to note it in, and takes nothing away from what was done.
func (r *Restorer) note(ctx context.Context) {
	if r.Outcomes == nil || r.DryRun {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, noteWithin)
	defer cancel()
	if err := r.append(ctx); err != nil {
		r.warn("the results are not in the log, and audit will not show them: %v", err)
	}
}

func (r *Restorer) append(ctx context.Context) error {
	r.progress.phase("noting the results")
	w, err := r.Outcomes.Client.Writer()
	if err != nil {
		return err
	}
	defer w.Close()
	now := time.Now().UTC()
	failed := make(chan error, 1)
	for key, res := range r.results { // nobody writes them any more
		if _, err := topology.ParseKey(key); err != nil || res.Action == Unchanged || res.Action == Kept {
			continue
		}
		e := r.live.get(key)
		o := topology.OutcomeBody{Op: topology.Update, Result: string(res.Action), Reason: res.Reason, Message: res.Message, Term: r.term, At: now}
		rec := topology.Record{Key: key, Kind: topology.Object, Op: topology.Update, Writer: r.Outcomes.Writer, Reason: string(res.Action)}
		if res.Action == Deleted {
			o.Op, rec.Op = topology.Delete, topology.Delete
		}
		if e != nil {
			o.Version, o.DestinationUID, rec.Version = e.version.String(), e.pre.UID, e.version
		}
		rec.Body, _ = json.Marshal(o) // plain data always marshals
		w.Append(ctx, rec.Encode(r.Outcomes.Topic, topology.PartitionOf(key, r.Outcomes.Partitions)), func(_ *kgo.Record, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
	}
	if err := w.Flush(ctx); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}
