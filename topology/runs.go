package topology

import "strings"

// RunsTopic is where the runs of a namespace are: one partition, compacted. The key
// of a Synchronization is its name, its value the object with its status; that of a
// SynchronizationPlan is RunsPlanKey, its value how far its schedule is. No name of a
// topic of TopicsFor ends alike.
func RunsTopic(namespace string) string { return "afterimage." + namespace + ".runs" }

// RunsPlanKey is the key of a SynchronizationPlan in the RunsTopic. The name of no
// Synchronization holds a slash.
func RunsPlanKey(plan string) string { return runsPlans + plan }

// IsRunsPlanKey tells the key of a SynchronizationPlan from that of a Synchronization.
func IsRunsPlanKey(key string) bool { return strings.HasPrefix(key, runsPlans) }

const runsPlans = "plan/"

// RunsGroup is the consumer group whose member on the RunsTopic may write what is
// under a key, and run what that is. A group of its own for each lets processes that
// share the brokers, but not their manifests, each run what it was given.
func RunsGroup(namespace, key string) string { return RunsTopic(namespace) + "/" + key }

// RunsConfigs returns the Kafka configuration of the RunsTopic.
func RunsConfigs() map[string]string {
	c := compacted(DeleteRetention)
	delete(c, "segment.ms") // a closed segment is no hurry: it holds little
	return c
}
