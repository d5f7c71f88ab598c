package topology

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestKey(t *testing.T) {
	for text, want := range map[string]Key{
		"core/v1/configmaps/ns/a":                             {Version: "v1", Resource: "configmaps", Namespace: "ns", Name: "a"},
		"core/v1/namespaces//a":                               {Version: "v1", Resource: "namespaces", Name: "a"},
		"apps/v1/deployments/ns/a":                            {Group: "apps", Version: "v1", Resource: "deployments", Namespace: "ns", Name: "a"},
		"rbac.authorization.k8s.io/v1/clusterroles//system:a": {Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles", Name: "system:a"},
	} {
		got, err := ParseKey(text)
		if err != nil || got != want {
			t.Errorf("ParseKey(%q) = %+v, %v; want %+v", text, got, err, want)
		}
		if got.String() != text {
			t.Errorf("String() = %q, want %q", got, text)
		}
	}
	for _, text := range []string{"", "a", "core/v1/configmaps/ns", "core/v1/configmaps/ns/", "core/v1//ns/a", "core//configmaps/ns/a", "/v1/configmaps/ns/a", "core/v1/configmaps/ns/a/b", "!heartbeat", "!x/v1/configmaps/ns/a"} {
		if got, err := ParseKey(text); err == nil {
			t.Errorf("ParseKey(%q) = %+v, want an error", text, got)
		}
	}
}

func TestResourcePrefix(t *testing.T) {
	gvr := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	if got := ResourcePrefix(gvr); got != "core/v1/configmaps/" {
		t.Errorf("ResourcePrefix = %q", got)
	}
	key := Key{Version: "v1", Resource: "configmaps", Namespace: "ns", Name: "a"}
	if !strings.HasPrefix(key.String(), ResourcePrefix(key.GVR())) {
		t.Errorf("%s does not begin with %s", key, ResourcePrefix(key.GVR()))
	}
}

func TestControlKeys(t *testing.T) {
	for key, want := range map[string]bool{
		ControlKey(Heartbeat, ""):                true,
		ControlKey(Listed, "core/v1/configmaps"): true,
		"core/v1/configmaps/ns/a":                false,
		"":                                       false,
	} {
		if got := IsControl(key); got != want {
			t.Errorf("IsControl(%q) = %v", key, got)
		}
	}
	if a, b := ControlKey(Listed, "core/v1/a"), ControlKey(Listed, "core/v1/b"); a == b {
		t.Errorf("subjects share the key %q", a)
	}
}

// TestPartitionOfIsKafkas compares with what Kafka clients do by default, so that
// a record written with any of them lands where we look for it.
func TestPartitionOfIsKafkas(t *testing.T) {
	partitioner := kgo.StickyKeyPartitioner(nil).ForTopic("t")
	hit := map[int32]bool{}
	for _, key := range []string{"", "a", "ab", "abc", "abcd", "abcde", "core/v1/configmaps/ns/a", "apps/v1/deployments/ns/äöü", strings.Repeat("x", 1000), "!heartbeat", "core/v1/secrets/default/sh.helm.release.v1.x.v1"} {
		for _, n := range []int32{1, 2, 12, 97} {
			got := PartitionOf(key, n)
			hit[got] = true
			if key == "" {
				continue // kgo takes an empty key for none
			}
			if want := partitioner.Partition(&kgo.Record{Key: []byte(key)}, int(n)); got != int32(want) {
				t.Errorf("PartitionOf(%q, %d) = %d, kgo says %d", key, n, got, want)
			}
		}
	}
	if len(hit) < 10 {
		t.Errorf("only the partitions %v were hit", hit)
	}
	// Known vectors of org.apache.kafka.common.utils.UtilsTest#testMurmur2.
	for text, want := range map[string]int32{"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "a-little-bit-longer-string": -1486304829, "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971} {
		if got := int32(murmur2(text)); got != want {
			t.Errorf("murmur2(%q) = %d, want %d", text, got, want)
		}
	}
}

func TestTopics(t *testing.T) {
	want := Topics{Changes: "afterimage.dr.ls.changes", Desired: "afterimage.dr.ls.desired", Outcomes: "afterimage.dr.ls.outcomes", Requests: "afterimage.dr.ls.requests"}
	if diff := cmp.Diff(want, TopicsFor("dr", "ls")); diff != "" {
		t.Error(diff)
	}
	long := strings.Repeat("n", 253)
	a, b := TopicsFor("ns", long), TopicsFor("ns", long[:252]+"m")
	for _, topic := range append(a.All(), b.All()...) {
		if len(topic) > maxTopicName {
			t.Errorf("%q has %d characters", topic, len(topic))
		}
	}
	if a == b {
		t.Error("two long names share their topics")
	}
	if got := GroupFor("dr", "ls", "processor"); got != "afterimage.dr.ls.processor" {
		t.Errorf("GroupFor = %q", got)
	}
}

func FuzzKey(f *testing.F) {
	for _, s := range []string{"core/v1/configmaps/ns/a", "core/v1/namespaces//a", "apps/v1/deployments/ns/a", "!heartbeat", "////", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		k, err := ParseKey(s)
		if err != nil {
			return
		}
		if k.String() != s {
			t.Errorf("ParseKey(%q).String() = %q", s, k)
		}
		if again, err := ParseKey(k.String()); err != nil || again != k {
			t.Errorf("%q: %+v, %v", s, again, err)
		}
		if p := PartitionOf(s, 12); p < 0 || p > 11 {
			t.Errorf("PartitionOf(%q, 12) = %d", s, p)
		}
		if !strings.HasPrefix(s, ResourcePrefix(k.GVR())) {
			t.Errorf("%q does not begin with %q", s, ResourcePrefix(k.GVR()))
		}
	})
}
