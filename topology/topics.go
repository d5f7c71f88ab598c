package topology

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Topics of one LiveSynchronization, all keyed and partitioned alike, so that
// one object's whole life has one partition number.
type Topics struct {
	// Changes: what happened in the source (written by the elected eventslistener).
	Changes string
	// Desired: what the destination must hold (written by the partition's processor).
	Desired string
	// Outcomes: what was applied, when, with which result (written by synchronizer and restorer).
	Outcomes string
	// Requests: keys somebody downstream doubts; one partition, whose consumer is
	// the elected eventslistener.
	Requests string
}

// All lists the topics.
func (t Topics) All() []string { return []string{t.Changes, t.Desired, t.Outcomes, t.Requests} }

// maxTopicName is Kafka's limit for a topic name.
const maxTopicName = 249

// TopicsFor returns the topic names of a LiveSynchronization. A namespace holds
// no dot, so the form is injective; a name too long for Kafka is hashed.
func TopicsFor(namespace, name string) Topics {
	base := "afterimage." + namespace + "." + name
	if len(base)+len(".outcomes") > maxTopicName {
		sum := sha256.Sum256([]byte(namespace + "/" + name))
		hash := hex.EncodeToString(sum[:hashBytes])
		if ofNodes(name) {
			hash = nodeTopics + hash // so that it can still be told
		}
		base = "afterimage." + namespace + "." + hash
	}
	return Topics{Changes: base + ".changes", Desired: base + ".desired", Outcomes: base + ".outcomes", Requests: base + ".requests"}
}

// hashBytes of the hash of a name that was too long, and treeBytes of that of a tree.
const (
	hashBytes = 16
	treeBytes = 4
)

// Consumer groups of a LiveSynchronization.
func GroupFor(namespace, name, component string) string {
	t := TopicsFor(namespace, name).Changes
	return t[:len(t)-len("changes")] + component
}

// TopicsOf returns the topics that belong to a changes topic, and the namespace of
// their LiveSynchronization and its name (a hash where the name was too long); ok is
// false where the name is not one of TopicsFor.
func TopicsOf(changes string) (t Topics, namespace, name string, ok bool) {
	base, ok := strings.CutSuffix(changes, ".changes")
	if !ok {
		return Topics{}, "", "", false
	}
	rest, ok := strings.CutPrefix(base, "afterimage.")
	if !ok {
		return Topics{}, "", "", false
	}
	namespace, name, ok = strings.Cut(rest, ".")
	if !ok || namespace == "" || name == "" {
		return Topics{}, "", "", false
	}
	return Topics{Changes: changes, Desired: base + ".desired", Outcomes: base + ".outcomes", Requests: base + ".requests"}, namespace, name, true
}

// NodeTopics are those of a ZooKeeper tree that is copied: of the two Databases and
// the root path, whichever run or plan copies it. One partition keeps the order of
// the source over all nodes, as ZooKeeper itself does. Nodes are not transformed
// on their way, so Desired and Requests are not used.
func NodeTopics(namespace, source, destination, root string) Topics {
	sum := sha256.Sum256([]byte(source + "/" + destination + root))
	return TopicsFor(namespace, nodeTopics+source+"."+destination+"."+hex.EncodeToString(sum[:treeBytes]))
}

// nodeTopics is what the name in NodeTopics begins with.
const nodeTopics = "zookeeper."

// OfNodes tells topics of NodeTopics.
func (t Topics) OfNodes() bool {
	_, _, name, ok := TopicsOf(t.Changes)
	return ok && ofNodes(name)
}

// ofNodes tells a name that NodeTopics makes: with two Databases and the hash of the
// tree, or with one hash where that would be too long.
func ofNodes(name string) bool {
	rest, ok := strings.CutPrefix(name, nodeTopics)
	parts := strings.Split(rest, ".")
	hash, err := hex.DecodeString(parts[len(parts)-1])
	return ok && err == nil && (len(parts) == 1 && len(hash) == hashBytes || len(parts) >= 3 && len(hash) == treeBytes)
}
