package eventslistener

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

func TestInitialListingAndLiveChanges(t *testing.T) {
	w := newWorld(t, source(t), configMaps)
	w.configMap("before", map[string]string{"a": "1"})
	w.start()
	w.becomes("configmaps", "before", "create")
	w.configMap("live", map[string]string{"a": "1"})
	w.becomes("configmaps", "live", "create")
	w.patch(configMaps, w.key("configmaps", "live"), `[{"op":"add","path":"/data/a","value":"2"}]`)
	w.becomes("configmaps", "live", "create update")
	w.delete(configMaps, "live")
	w.becomes("configmaps", "live", "create update delete")

	rs := w.of("configmaps", "live")
	var body struct {
		APIVersion, Kind string
		Metadata         struct {
			Name, UID     string
			ManagedFields json.RawMessage
		}
		Data map[string]string
	}
	if err := json.Unmarshal(rs[1].Body, &body); err != nil {
		t.Fatal(err)
	}
	if body.APIVersion != "v1" || body.Kind != "ConfigMap" || body.Data["a"] != "2" || body.Metadata.ManagedFields != nil {
		t.Errorf("body of the update: %s", rs[1].Body)
	}
	if rs[1].UID != body.Metadata.UID || rs[1].UID == "" || len(rs[1].Managers) == 0 || rs[1].Managers[0].Name != "test" {
		t.Errorf("uid %q, managers %v", rs[1].UID, rs[1].Managers)
	}
	if got := rs[1].NamespaceLabels["kubernetes.io/metadata.name"]; got != w.namespace {
		t.Errorf("namespace stamp %v", rs[1].NamespaceLabels)
	}
	for i, r := range rs[1:] {
		if !rs[i].Version.Older(r.Version) {
			t.Errorf("version %s is not older than %s", rs[i].Version, r.Version)
		}
	}
	if rs[2].Body != nil || rs[2].Inferred || rs[2].UID != rs[0].UID {
		t.Errorf("tombstone: %+v", rs[2])
	}
}

func TestStatusAloneIsNotLogged(t *testing.T) {
	pods := v1alpha1.Resource{Version: "v1", Resource: "namespaces"}
	w := newWorld(t, source(t), pods)
	w.start()
	key := topology.Key{Version: "v1", Resource: "namespaces", Name: w.namespace}
	w.eventually("namespace logged", func() bool { return len(w.ofKey(key)) == 1 })
	// A write that changes nothing but metadata the log leaves out of the hash.
	w.patch(pods, key, `[{"op":"add","path":"/metadata/annotations","value":{"x":"1"}}]`)
	w.eventually("annotation logged", func() bool { return len(w.ofKey(key)) == 2 })
	raw, err := w.kube.Get(t.Context(), kube.Namespaces, key)
	if err != nil {
		t.Fatal(err)
	}
	o, err := decode(kube.Namespaces, raw)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(raw), `"phase":"Active"`, `"phase":"Other"`, 1)
	p, err := decode(kube.Namespaces, []byte(changed))
	if err != nil {
		t.Fatal(err)
	}
	if changed == string(raw) || o.sum != p.sum {
		t.Errorf("a change of status alone changes the hash")
	}
}

func TestRestartAppendsOnlyDifferences(t *testing.T) {
	w := newWorld(t, source(t), configMaps)
	for _, n := range []string{"kept", "changed", "deleted"} {
		w.configMap(n, map[string]string{"a": "1"})
	}
	r := w.start()
	w.becomes("configmaps", "kept", "create")
	w.becomes("configmaps", "deleted", "create")
	w.becomes("configmaps", "changed", "create")
	for _, wipe := range []bool{false, true} {
		r.stop()
		before := len(w.ofKind(topology.Object))
		if wipe {
			w.wipe()
		}
		r = w.start()
		w.listed("core/v1/configmaps")
		if after := len(w.ofKind(topology.Object)); after != before {
			t.Errorf("restart (state wiped: %v) appended %d objects, want none", wipe, after-before)
		}
	}
	if n := len(w.ofKind(topology.Configured)); n != testPartitions {
		t.Errorf("%d configuration records, want one for each of %d partitions", n, testPartitions)
	}
	r.stop()
	w.patch(configMaps, w.key("configmaps", "changed"), `[{"op":"add","path":"/data/a","value":"2"}]`)
	w.delete(configMaps, "deleted")
	w.configMap("created", map[string]string{"a": "1"})
	w.start()
	w.becomes("configmaps", "changed", "create update")
	w.becomes("configmaps", "created", "create")
	w.becomes("configmaps", "deleted", "create delete")
	if r := w.of("configmaps", "deleted")[1]; !r.Inferred || r.Body != nil || r.Reason == "" {
		t.Errorf("inferred delete: %+v", r)
	}
}

// What was appended and not yet remembered when the process ended is found by
// reading changes to its end: it is neither appended twice nor set back.
func TestNothingIsLostOrDoubledBetweenAppendAndCommit(t *testing.T) {
	w := newWorld(t, source(t), configMaps)
	never := func(o *Options) { o.CommitInterval = time.Hour }
	r := w.start(never)
	w.eventually("listed", func() bool { return len(w.ofKind(topology.Listed)) == testPartitions })
	w.configMap("a", map[string]string{"a": "1"})
	w.becomes("configmaps", "a", "create")
	w.configMap("b", map[string]string{"a": "1"})
	w.delete(configMaps, "b")
	w.becomes("configmaps", "b", "create delete")
	r.stop()
	key := w.key("configmaps", "a").String()
	ps, err := w.log.Partitions(t.Context(), w.topics.Changes)
	if err != nil {
		t.Fatal(err)
	}
	p := topology.PartitionOf(key, testPartitions)
	if _, known, err := w.store.Stage(Component).Get(state.PartitionID{TopicID: ps[p].TopicID, Number: p}, key); known || err != nil {
		t.Fatalf("remembered before the commit (%v): the test tests nothing", err)
	}
	w.start(never)
	w.listed("core/v1/configmaps")
	if got := ops(w.of("configmaps", "a")) + ", " + ops(w.of("configmaps", "b")); got != "create, create delete" {
		t.Errorf("after the restart: %s", got)
	}
}
