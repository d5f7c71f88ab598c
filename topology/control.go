package topology

import (
	"encoding/json"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// ListedBody is the body of a [Listed] record.
type ListedBody struct {
	ResourceVersion string `json:"resourceVersion"`
	// Fresh: the listing was a consistent read, and every key it did not show has
	// been appended as deleted. Not so while the breaker holds deletes back.
	Fresh bool      `json:"fresh"`
	At    time.Time `json:"at"`
	// Refused znodes could not be read: nothing is said about them and what is below
	// them; Unsure: there were more than are named.
	Refused []string `json:"refused,omitempty"`
	Unsure  bool     `json:"unsure,omitempty"`
	// Why some of them were, by path: the others may not be read.
	Why map[string]RefusedWhy `json:"why,omitempty"`
	// Exclude is the pattern of the znodes that were left out.
	Exclude string `json:"exclude,omitempty"`
}

// RefusedWhy is why a znode was refused that may be read.
type RefusedWhy string

// The reasons.
const (
	RefusedTooLarge  RefusedWhy = "tooLarge"
	RefusedHiddenACL RefusedWhy = "hiddenACL"
)

// BlockedBody is the body of a [Blocked] record.
type BlockedBody struct {
	// Tracked nodes when the deletes were held back first. They are judged against
	// these until they are confirmed, whatever was added since: otherwise the next run
	// would find them few.
	Tracked int64 `json:"tracked"`
}

// NewBlocked is the record that deletes at a side are held back, of so many tracked
// nodes; of 0: not any more.
func NewBlocked(side string, tracked int64) *Record {
	r := &Record{Kind: Blocked, Key: ControlKey(Blocked, side), ObservedAt: time.Now().UTC()}
	if tracked > 0 {
		r.Body, _ = json.Marshal(BlockedBody{Tracked: tracked}) // plain data always marshals
	}
	return r
}

// BlockedAt reads such a record of a side; ok is false for any other.
func BlockedAt(side string, r *Record) (tracked int64, ok bool) {
	if r.Key != ControlKey(Blocked, side) {
		return 0, false
	}
	var body BlockedBody
	if len(r.Body) > 0 && json.Unmarshal(r.Body, &body) != nil {
		return 0, false
	}
	return body.Tracked, true
}

// GapBody is the body of a [Gap] record: from the last sign of life of an
// eventslistener to the moment at which another one went on.
type GapBody struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// OutcomeBody is the body of a record in outcomes: what was applied to an object or a
// node, when, with which result. A delete that succeeded may have none, so that
// compaction lets go of the key; its result is in the header "reason".
type OutcomeBody struct {
	Op     Op     `json:"op"`
	Result string `json:"result"`
	// Version of the state that was applied.
	Version string `json:"version,omitempty"`
	// DestinationUID and DestinationRV of the object after the write.
	DestinationUID string `json:"destinationUID,omitempty"`
	DestinationRV  string `json:"destinationRV,omitempty"`
	// Reason and Message of a failure.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// Term of the fence of the recovery that it is of.
	Term int64     `json:"term,omitempty"`
	At   time.Time `json:"at"`
}

// Subject names a resource in the keys of control records:
// <group|core>/<version>/<resource>.
func Subject(gvr schema.GroupVersionResource) string {
	p := ResourcePrefix(gvr)
	return p[:len(p)-1]
}

// ListedSubject is the resource that a Listed record speaks of; empty for the
// key of any other record.
func ListedSubject(key string) string {
	prefix := ControlKey(Listed, "") + "/"
	if len(key) <= len(prefix) || key[:len(prefix)] != prefix {
		return ""
	}
	return key[len(prefix):]
}

// ConfigIn reads the configuration out of a [Configured] record.
func ConfigIn(r *Record) (Config, error) {
	var c Config
	if err := json.Unmarshal(r.Body, &c); err != nil {
		return Config{}, fmt.Errorf("configuration in %s/%d@%d: %w", r.Topic, r.Partition, r.Offset, err)
	}
	return c, nil
}
