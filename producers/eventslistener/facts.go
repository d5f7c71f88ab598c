package eventslistener

import (
	"encoding/json"
	"maps"
	"time"

	"github.com/afterimage-dr/afterimage/topology"
)

// metaFacts is the name of a partition's facts in the state.
const metaFacts = "facts"

// facts is what the records of a partition say about everything but keys. They
// are kept beside the position and found again by reading the partition.
type facts struct {
	// ConfigHash, Generation and the clusters of the last Configured record.
	ConfigHash     string `json:"configHash,omitempty"`
	Generation     int64  `json:"generation,omitempty"`
	SourceUID      string `json:"sourceUID,omitempty"`
	DestinationUID string `json:"destinationUID,omitempty"`
	// FormerSourceUIDs of it.
	FormerSourceUIDs []string `json:"formerSourceUIDs,omitempty"`
	// Aliases of that record.
	Aliases map[string]string `json:"aliases,omitempty"`
	// Epoch is the highest of any record.
	Epoch int64 `json:"epoch,omitempty"`
	// Alive is when the last heartbeat was written.
	Alive time.Time `json:"alive,omitzero"`
	// Seen is the highest resourceVersion the source has shown under Epoch, by subject.
	Seen map[string]string `json:"seen,omitempty"`
}

// configBody is the body of a Configured record: the configuration, and what the
// names in the manifest were resolved to where they are no plurals. Whoever reads
// the source next, on another disk, must not take a kind that cannot be looked up
// just then for another resource: all objects of it would leave scope.
type configBody struct {
	topology.Config
	Aliases map[string]string `json:"aliases,omitempty"`
}

// heartbeatBody is the body of a Heartbeat record: what survives of the
// listener's memory when its disk is lost.
type heartbeatBody struct {
	ResourceVersions map[string]string `json:"resourceVersions,omitempty"`
}

func (f facts) clone() facts {
	f.Seen = maps.Clone(f.Seen)
	return f
}

func (f facts) encode() []byte {
	b, _ := json.Marshal(f) // plain data always marshals
	return b
}

// apply takes in a record.
func (f *facts) apply(r *topology.Record) {
	if e := r.Version.Epoch; e > f.Epoch {
		// The source's resourceVersions begin anew.
		f.Epoch, f.Seen = e, nil
	}
	current := r.Version.Epoch == f.Epoch
	switch r.Kind {
	case topology.Object:
		if key, err := topology.ParseKey(r.Key); err == nil && current && r.Op != topology.Delete {
			f.see(subjectOf(key), r.Version.RV)
		}
	case topology.Configured:
		var c configBody
		if json.Unmarshal(r.Body, &c) == nil && c.Generation >= f.Generation {
			f.Aliases = c.Aliases
			f.ConfigHash, f.Generation, f.SourceUID, f.DestinationUID = c.Hash(), c.Generation, c.SourceUID, c.DestinationUID
			f.FormerSourceUIDs = c.FormerSourceUIDs
		}
	case topology.Heartbeat:
		if r.ObservedAt.After(f.Alive) {
			f.Alive = r.ObservedAt
		}
		var b heartbeatBody
		if current && json.Unmarshal(r.Body, &b) == nil {
			for subject, rv := range b.ResourceVersions {
				f.see(subject, rv)
			}
		}
	case topology.Listed:
		var b topology.ListedBody
		subject := topology.ListedSubject(r.Key)
		if current && json.Unmarshal(r.Body, &b) == nil {
			f.see(subject, b.ResourceVersion)
		}
	}
}

func (f *facts) see(subject, rv string) {
	if subject == "" || rv == "" || !olderRV(f.Seen[subject], rv) {
		return
	}
	if f.Seen == nil {
		f.Seen = map[string]string{}
	}
	f.Seen[subject] = rv
}

// subjectOf names a resource in control records: <group|core>/<version>/<resource>.
func subjectOf(k topology.Key) string { return topology.Subject(k.GVR()) }

// olderRV tells whether a resourceVersion is provably older than another.
func olderRV(a, b string) bool {
	return topology.Version{RV: a}.Older(topology.Version{RV: b})
}

// comparable tells whether two resourceVersions have an order.
func comparableRV(a, b string) bool {
	_, ok := topology.Version{RV: a}.Compare(topology.Version{RV: b})
	return ok
}
