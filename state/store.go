// Package state remembers, on local disk, what has been done: per partition its
// position, per key the version that was applied, and the objects that could not
// be. All of it is disposable (guarantee 7).
package state

import (
	"time"

	"github.com/afterimage-dr/afterimage/topology"
)

// Store is a Badger database shared by the stages of one process.
type Store struct{}

// Open opens or creates the database in a folder.
func Open(dir string) (*Store, error) { panic("stub") }

// Close closes it.
func (s *Store) Close() error { panic("stub") }

// Stage returns the part of the store that belongs to one stage of one LiveSynchronization.
func (s *Store) Stage(name string) *Stage { panic("stub") }

// Stage is the memory of one stage.
type Stage struct{}

// PartitionID names a partition of a topic that was never recreated since: the
// topic ID is part of it.
type PartitionID struct {
	TopicID [16]byte
	Number  int32
}

// Position is the next offset to read of a partition.
type Position struct {
	Offset      int64
	LeaderEpoch int32
	CommittedAt time.Time
}

// Entry is what is remembered of a key.
type Entry struct {
	Version topology.Version
	// UID of the source object.
	UID  string
	Hash string
	// Deleted marks a tombstone; the entry is kept for DeletedTTL.
	Deleted bool
	// Held: the last record could not be turned into a desired state.
	Held bool
	// Offset of the record that was applied, in the stage's log.
	Offset int64
	// DestinationUID, DestinationRV and FieldsHash are of the response to the
	// last write (synchronizer only).
	DestinationUID, DestinationRV, FieldsHash string
	// Mark is for the stage's own use.
	Mark string
}

// DeletedTTL is how long a deleted marker is kept: not less than delete.retention.ms.
const DeletedTTL = 8 * 24 * time.Hour

// Quarantine is an object that could not be applied.
type Quarantine struct {
	Offset   int64
	Reason   string
	Message  string
	Attempts int
	Since    time.Time
	NextTry  time.Time
	Version  topology.Version
}

// Position returns the stored position of a partition.
func (s *Stage) Position(p PartitionID) (Position, bool, error) { panic("stub") }

// Get returns what is remembered of a key.
func (s *Stage) Get(p PartitionID, key string) (Entry, bool, error) { panic("stub") }

// Each calls fn for every remembered key that begins with prefix, in key order.
func (s *Stage) Each(p PartitionID, prefix string, fn func(key string, e Entry) error) error {
	panic("stub")
}

// EachQuarantined calls fn for every quarantined key of a partition, in key order.
func (s *Stage) EachQuarantined(p PartitionID, fn func(key string, q Quarantine) error) error {
	panic("stub")
}

// Quarantined returns the quarantine entry of a key.
func (s *Stage) Quarantined(p PartitionID, key string) (Quarantine, bool, error) { panic("stub") }

// Meta returns a small value of the stage's own, kept per partition (its configuration, its epoch).
func (s *Stage) Meta(p PartitionID, name string) ([]byte, bool, error) { panic("stub") }

// Drop forgets everything about a partition.
func (s *Stage) Drop(p PartitionID) error { panic("stub") }

// DropOthers forgets every partition of other topics (topic IDs not in keep).
func (s *Stage) DropOthers(keep ...[16]byte) error { panic("stub") }

// Change is a set of changes of one partition that take effect together.
type Change struct{}

// Change begins one; not safe for concurrent use.
func (s *Stage) Change(p PartitionID) *Change { panic("stub") }

// Put remembers a key. It also releases the key from quarantine.
func (c *Change) Put(key string, e Entry) { panic("stub") }

// Forget removes a key altogether.
func (c *Change) Forget(key string) { panic("stub") }

// Quarantine records that a key could not be applied; one entry a key.
func (c *Change) Quarantine(key string, q Quarantine) { panic("stub") }

// Release removes a key from quarantine.
func (c *Change) Release(key string) { panic("stub") }

// SetMeta sets a small value of the stage's own.
func (c *Change) SetMeta(name string, v []byte) { panic("stub") }

// Commit makes the changes durable together with the position (guarantee 2); a
// nil position leaves the stored one. Where they do not fit one transaction they
// are split, the position going with the last part only.
func (c *Change) Commit(p *Position) error { panic("stub") }
