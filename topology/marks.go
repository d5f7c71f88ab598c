package topology

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// MarkPrefix begins every label and annotation that is Afterimage's own. None of
// them is copied from a source object.
const MarkPrefix = "afterimage.io/"

// What every object in the destination carries that Afterimage wrote.
const (
	// OwnerLabel holds [OwnerHash], so that owned objects can be listed.
	OwnerLabel = MarkPrefix + "owner"
	// LiveSynchronizationAnnotation is <namespace>/<name> of the owner.
	LiveSynchronizationAnnotation = MarkPrefix + "live-synchronization"
	// SourceClusterAnnotation is the UID of the source cluster's kube-system.
	SourceClusterAnnotation = MarkPrefix + "source-cluster"
	// KeyAnnotation is the record key: a delete needs it to match.
	KeyAnnotation = MarkPrefix + "key"
	// VersionAnnotation is the [Version] last written.
	VersionAnnotation = MarkPrefix + "version"
	// HashAnnotation is the content hash last written.
	HashAnnotation = MarkPrefix + "content-hash"
	// SourceUIDAnnotation is the uid of the source object last written: it tells a
	// recreation in the source also after the state was lost.
	SourceUIDAnnotation = MarkPrefix + "source-uid"
	// RecoveredAnnotation is <term>.<hash>: the recovery that last wrote the object,
	// and what of. It keeps a recovery that is run again from doing anything twice.
	RecoveredAnnotation = MarkPrefix + "recovered"
	// AdoptedAnnotation marks an object Afterimage did not create: it is never deleted.
	AdoptedAnnotation = MarkPrefix + "adopted"
	// IgnoreAnnotation on a source object keeps it out of replication.
	IgnoreAnnotation = MarkPrefix + "ignore"
)

// FieldManager of every write to a destination.
const FieldManager = "afterimage"

// Owner of destination objects.
type Owner struct {
	// LiveSynchronization is <namespace>/<name>.
	LiveSynchronization string
	// SourceUID is the UID of the source cluster's kube-system.
	SourceUID string
}

// OwnerOf a configuration.
func OwnerOf(c Config) Owner {
	return Owner{LiveSynchronization: c.Namespace + "/" + c.Name, SourceUID: c.SourceUID}
}

// Hash is the value of [OwnerLabel].
func (o Owner) Hash() string {
	sum := sha256.Sum256([]byte(o.LiveSynchronization + "@" + o.SourceUID))
	return hex.EncodeToString(sum[:16])
}

// OwnerIn reads the owner out of an object's annotations; ok is false where there is none.
func OwnerIn(annotations map[string]string) (Owner, bool) {
	o := Owner{LiveSynchronization: annotations[LiveSynchronizationAnnotation], SourceUID: annotations[SourceClusterAnnotation]}
	return o, o.LiveSynchronization != "" && o.SourceUID != ""
}

// IsMark tells whether a label or annotation key is Afterimage's own.
func IsMark(key string) bool { return strings.HasPrefix(key, MarkPrefix) }
