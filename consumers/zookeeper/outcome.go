package zookeeper

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/topology"
)

// note appends what became of a node to outcomes, for audit.
func (c *Consumer) note(o *op, res Result, f *Failure) {
	if c.Writer == nil {
		return
	}
	body := topology.OutcomeBody{Op: o.Kind, Result: string(res), At: time.Now().UTC()}
	rec := topology.Record{Key: keyOf(o.Path), Kind: topology.Object, Op: o.Kind, Hash: o.hash, Version: o.version, ObservedAt: o.observed, Writer: c.Incarnation, Reason: string(res)}
	if !o.version.IsZero() {
		body.Version = o.version.String()
	}
	if f != nil {
		body.Reason, body.Message = f.Reason, f.Message
	}
	if res != Deleted {
		rec.Body, _ = json.Marshal(body) // plain data always marshals
	}
	c.Writer.Append(c.ctx, rec.Encode(c.Topics.Outcomes, 0), func(_ *kgo.Record, err error) {
		if err != nil {
			c.mu.Lock()
			c.noteFailure = errors.Join(c.noteFailure, err)
			c.mu.Unlock()
		}
	})
}

// Passed notes that everything in changes has come to its end here, for audit: what
// has no outcome needed none. Nobody else may append to changes meanwhile.
func (c *Consumer) Passed(ctx context.Context) error {
	if c.Writer == nil {
		return nil
	}
	// The log's time is in milliseconds: what was appended within this one counts.
	now := time.Now().UTC().Add(time.Millisecond)
	rec := topology.Record{Key: topology.ControlKey(topology.Heartbeat, ""), Kind: topology.Heartbeat, ObservedAt: now, Writer: c.Incarnation}
	return c.Writer.AppendSync(ctx, rec.Encode(c.Topics.Outcomes, 0))
}

// failed counts a failure and notes it.
func (c *Consumer) failed(o *op, reason, message string) {
	f := Failure{Path: o.Path, Reason: reason, Message: message}
	c.report.fail(f)
	c.note(o, Failed, &f)
}
