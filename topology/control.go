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
	// them; Unsure: they were too many to be named.
	Refused []string `json:"refused,omitempty"`
	Unsure  bool     `json:"unsure,omitempty"`
}

// GapBody is the body of a [Gap] record: from the last sign of life of an
// eventslistener to the moment at which another one went on.
type GapBody struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
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
