package topology

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// Config is the effective configuration of a LiveSynchronization as the log
// carries it (kind [Configured]): what a processor computes with. A change of
// anything in it makes processors go over the whole change log again.
type Config struct {
	// Namespace and Name of the LiveSynchronization.
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Generation orders configurations: max(unix seconds, last + 1).
	Generation int64 `json:"generation"`
	// SourceUID and DestinationUID are the UIDs of the kube-system namespaces.
	SourceUID      string `json:"sourceUID"`
	DestinationUID string `json:"destinationUID,omitempty"`
	// FormerSourceUIDs are sources this one was confirmed to come after: what was
	// written for them belongs to this LiveSynchronization still.
	FormerSourceUIDs []string `json:"formerSourceUIDs,omitempty"`

	// Replication as validated; resource names already resolved to plurals.
	Replication v1alpha1.Replication `json:"replication"`
}

// Hash tells whether two configurations compute alike: over everything but the
// generation and what only scheduling needs. The destination counts: what came
// from there is not sent back (SkipLoop).
func (c Config) Hash() string {
	c.Generation = 0
	c.Replication.ResyncPeriod = nil
	b, _ := json.Marshal(c) // plain data always marshals
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// PruneToken is what a person confirms who wants the deletes that the
// configuration brings about: alike in every partition, process and component.
func (c Config) PruneToken() string {
	return fmt.Sprintf("config-%d-%.8s", c.Generation, c.Hash())
}
