package topology

import (
	"strings"
	"testing"
)

func TestTopicsOfNodes(t *testing.T) {
	long := strings.Repeat("a", 120)
	for name, tc := range map[string]struct {
		reason string
		topics Topics
		want   bool
	}{
		"a tree":                      {"it is named by its Databases", NodeTopics("dr", "source", "destination", "/test"), true},
		"Databases with dots":         {"names may hold them", NodeTopics("dr", "zk.a.example", "zk.b.example", "/"), true},
		"a tree with long names":      {"the hash of a name that is too long says so too", NodeTopics("dr", long, long, "/test"), true},
		"a tree by its long name":     {"who names it so means that tree", TopicsFor("dr", "zookeeper."+long+"."+long+".0123abcd"), true},
		"objects":                     {"it is a LiveSynchronization", TopicsFor("dr", "pre"), false},
		"objects with a long name":    {"its hash belongs to no tree", TopicsFor("dr", strings.Repeat(long+".", 3)+"a"), false},
		"objects of a like name":      {"a tree's name ends with a hash", TopicsFor("dr", "zookeeper.source.destination.standby"), false},
		"objects of a shorter name":   {"there are no two Databases in it", TopicsFor("dr", "zookeeper.0123abcd"), false},
		"objects, named like a group": {"it is too short for a hash", TopicsFor("dr", "zookeeper.live"), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tc.topics.OfNodes(); got != tc.want {
				t.Errorf("%s: %s of nodes: %t, want %t", tc.reason, tc.topics.Changes, got, tc.want)
			}
			for _, topic := range tc.topics.All() {
				if len(topic) > maxTopicName {
					t.Errorf("%s has %d characters, Kafka takes %d", topic, len(topic), maxTopicName)
				}
			}
			// What a log holds is known by the name of one of its topics.
			if again, _, _, ok := TopicsOf(tc.topics.Changes); !ok || again != tc.topics {
				t.Errorf("of %s: %+v, %t; want %+v", tc.topics.Changes, again, ok, tc.topics)
			}
		})
	}
	if a, b := NodeTopics("dr", long, long, "/a"), NodeTopics("dr", long, long, "/b"); a == b {
		t.Errorf("two trees have the topics %+v", a)
	}
}
