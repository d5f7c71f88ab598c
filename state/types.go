package state

import (
	"time"

	"github.com/afterimage-dr/afterimage/topology"
)

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
	// Withheld: the object, or a part of it, is kept from the destination until a
	// recovery (processor only). Such an entry stays, deleted or not.
	Withheld bool
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
