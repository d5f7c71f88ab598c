package audit

import (
	"encoding/json"
	"time"

	"github.com/afterimage-dr/afterimage/topology"
)

// Kind of an entry.
type Kind string

// The kinds.
const (
	// OfObject: an object changed.
	OfObject Kind = "change"
	// OfGap: nobody watched the source for a while.
	OfGap Kind = "gap"
	// OfEpoch: the source went back to an earlier state, or is another one.
	OfEpoch Kind = "epoch"
)

// Change is one entry of an audit.
type Change struct {
	Kind Kind `json:"kind"`
	// Key of the object, its parts, or the path of a znode, and what happened to it.
	Key       string      `json:"key,omitempty"`
	Path      string      `json:"path,omitempty"`
	Group     string      `json:"group,omitempty"`
	Version   string      `json:"version,omitempty"`
	Resource  string      `json:"resource,omitempty"`
	Namespace string      `json:"namespace,omitempty"`
	Name      string      `json:"name,omitempty"`
	Op        topology.Op `json:"op,omitempty"`
	UID       string      `json:"uid,omitempty"`
	// ResourceVersion in the source, and the epoch it belongs to.
	ResourceVersion string `json:"resourceVersion,omitempty"`
	Epoch           int64  `json:"epoch,omitempty"`
	// By are the field managers who made the change; empty where that is not known
	// (a delete) or nobody changed the object itself.
	By []topology.Manager `json:"by,omitempty"`
	// ChangedAt is when they did, as the API server says: whole seconds. Of a znode
	// whose data changed it is the time ZooKeeper keeps of that.
	ChangedAt *time.Time `json:"changedAt,omitempty"`
	// ObservedAt is when the eventslistener learned of it, AppendedAt when the log
	// took it.
	ObservedAt *time.Time `json:"observedAt,omitempty"`
	AppendedAt time.Time  `json:"appendedAt"`
	// Inferred: a delete concluded from absence. Again: nothing changed; the record
	// was appended again (requested, or to repair the log).
	Inferred bool   `json:"inferred,omitempty"`
	Again    bool   `json:"again,omitempty"`
	Reason   string `json:"reason,omitempty"`
	// Unknown: the state before is not in the log, so Fields cannot be told.
	Unknown bool    `json:"previousUnknown,omitempty"`
	Fields  []Field `json:"fields,omitempty"`
	// Applied is what became of it at the destination.
	Applied Applied `json:"applied,omitzero"`
	// From and To of a gap.
	From *time.Time `json:"from,omitempty"`
	To   *time.Time `json:"to,omitempty"`
	// Where the record stands in changes.
	Partition int32 `json:"partition"`
	Offset    int64 `json:"offset"`
}

// Field is one difference between two states. Path is a JSON pointer (RFC 6901).
// Without Old the field was added, without New it was removed.
type Field struct {
	Path string          `json:"path"`
	Old  json.RawMessage `json:"old,omitempty"`
	New  json.RawMessage `json:"new,omitempty"`
}

// Applied says what became of a change at the destination.
type Applied struct {
	// Result of the last outcome (created, updated, deleted, failed, …), or Pending, or
	// NoWrite.
	Result string `json:"result,omitempty"`
	// At is when the last outcome was noted; zero without one.
	At time.Time `json:"at,omitzero"`
	// Reason and Message of a failure.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// Results that no outcome states.
const (
	// Pending: nothing was applied yet.
	Pending = "pending"
	// NoWrite: everything up to here is applied and this needed no write of its own:
	// it is out of scope, equal to what was there, or was overtaken by a newer one.
	NoWrite = "no write"
)

// Moment of the change: see topology.Record.Moment.
func (c *Change) Moment() time.Time {
	if c.ObservedAt != nil && c.ObservedAt.UnixMilli() <= c.AppendedAt.UnixMilli() {
		return *c.ObservedAt
	}
	return c.AppendedAt
}
