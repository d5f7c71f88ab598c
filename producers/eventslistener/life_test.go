package eventslistener

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/testenv"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

func TestNamespaceLabelsChange(t *testing.T) {
	w := newWorld(t, source(t), configMaps, secrets)
	w.configMap("a", map[string]string{"a": "1"})
	w.configMap("b", map[string]string{"a": "1"})
	w.start()
	w.becomes("configmaps", "a", "create")
	w.becomes("configmaps", "b", "create")
	ns := topology.Key{Version: "v1", Resource: "namespaces", Name: w.namespace}
	label := func(v string) {
		w.patch(v1alpha1.Resource{Version: "v1", Resource: "namespaces"}, ns, `[{"op":"add","path":"/metadata/labels/stage","value":"`+v+`"}]`)
	}
	label("one")
	w.becomes("configmaps", "a", "create update")
	w.becomes("configmaps", "b", "create update")
	rs := w.of("configmaps", "a")
	if rs[1].NamespaceLabels["stage"] != "one" || rs[1].Version.RV != rs[0].Version.RV || !rs[0].Version.Older(rs[1].Version) {
		t.Errorf("stamp %v, version %s after %s", rs[1].NamespaceLabels, rs[1].Version, rs[0].Version)
	}
	// Annotations are no part of the stamp unless namespaces are to be created.
	w.patch(v1alpha1.Resource{Version: "v1", Resource: "namespaces"}, ns, `[{"op":"add","path":"/metadata/annotations","value":{"x":"1"}}]`)
	w.configMap("c", map[string]string{"a": "1"})
	w.becomes("configmaps", "c", "create")
	if got := ops(w.of("configmaps", "a")); got != "create update" {
		t.Errorf("an annotation of the namespace appended: %s", got)
	}
	s := w.settings.Load()
	s.Config.Replication.ForceNamespaceCreation = true
	w.settings.Set(s)
	w.becomes("configmaps", "a", "create update update")
	if got := w.of("configmaps", "a")[2]; got.NamespaceAnnotations["x"] != "1" || got.NamespaceLabels["stage"] != "one" {
		t.Errorf("stamp with annotations: %v %v", got.NamespaceLabels, got.NamespaceAnnotations)
	}
}

func TestNamespaceLabelsChangeWhileDown(t *testing.T) {
	w := newWorld(t, source(t), configMaps)
	w.configMap("a", map[string]string{"a": "1"})
	r := w.start()
	w.becomes("configmaps", "a", "create")
	r.stop()
	ns := topology.Key{Version: "v1", Resource: "namespaces", Name: w.namespace}
	w.patch(v1alpha1.Resource{Version: "v1", Resource: "namespaces"}, ns, `[{"op":"add","path":"/metadata/labels/stage","value":"two"}]`)
	w.start()
	w.becomes("configmaps", "a", "create update")
}

func TestRecreatedWhileDown(t *testing.T) {
	w := newWorld(t, source(t), configMaps)
	w.configMap("a", map[string]string{"a": "1"})
	r := w.start()
	w.becomes("configmaps", "a", "create")
	w.configMap("live", map[string]string{"a": "1"})
	w.delete(configMaps, "live")
	w.configMap("live", map[string]string{"a": "1"})
	w.becomes("configmaps", "live", "create delete create")
	r.stop()
	w.delete(configMaps, "a")
	w.configMap("a", map[string]string{"a": "1"})
	w.start()
	w.becomes("configmaps", "a", "create delete create")
	rs := w.of("configmaps", "a")
	if rs[1].UID != rs[0].UID || rs[2].UID == rs[0].UID || !rs[1].Inferred {
		t.Errorf("uids %s, %s, %s", rs[0].UID, rs[1].UID, rs[2].UID)
	}
	for i := range 2 {
		if !rs[i].Version.Older(rs[i+1].Version) {
			t.Errorf("version %s is not older than %s", rs[i].Version, rs[i+1].Version)
		}
	}
}

func TestResyncAndConfiguration(t *testing.T) {
	w := newWorld(t, source(t), configMaps)
	w.configMap("a", map[string]string{"a": "1"})
	r := w.start()
	w.becomes("configmaps", "a", "create")
	before := len(w.ofKind(topology.Object))
	s := w.settings.Load()
	s.ResyncPeriod = 300 * time.Millisecond
	w.settings.Set(s)
	w.listed("core/v1/configmaps")
	w.listed("core/v1/configmaps")
	if after := len(w.ofKind(topology.Object)); after != before {
		t.Errorf("resyncs of what is unchanged appended %d records", after-before)
	}
	s.ResyncPeriod = 0
	s.Config.Replication.Resources = []v1alpha1.Resource{secrets}
	w.settings.Set(s)
	w.eventually("configured again", func() bool { return w.lastConfigHas("secrets") && !w.lastConfigHas("configmaps") })
	generations := map[int32][]int64{}
	for _, r := range w.ofKind(topology.Configured) {
		var c topology.Config
		if err := json.Unmarshal(r.Body, &c); err != nil {
			t.Fatal(err)
		}
		generations[r.Partition] = append(generations[r.Partition], c.Generation)
		if c.SourceUID == "" {
			t.Error("a configuration without the source's uid")
		}
	}
	for p, g := range generations {
		if len(g) != 2 || g[0] >= g[1] || g[1] != generations[0][1] {
			t.Errorf("partition %d has generations %v", p, g)
		}
	}
	w.create(w.resource(secrets), w.namespace, object1("s", nil))
	w.becomes("secrets", "s", "create")
	// The resource that is no longer covered is read no longer, and its keys stay.
	w.configMap("b", map[string]string{"a": "1"})
	w.patch(secrets, w.key("secrets", "s"), `[{"op":"add","path":"/metadata/labels","value":{"a":"b"}}]`)
	w.becomes("secrets", "s", "create update")
	if got := ops(w.of("configmaps", "b")) + ops(w.of("configmaps", "a")); got != "create" {
		t.Errorf("a resource that is not covered was logged: %q", got)
	}
	if len(r.status().Resources) != 1 {
		t.Errorf("resources in status: %v", r.status().Resources)
	}
}

// The loop guard learns of a destination that was away at first, and does not
// lose it to one that is away at a later start.
func TestDestinationLearnedLaterIsLogged(t *testing.T) {
	w := newWorld(t, source(t), configMaps)
	last := func() (destination string) {
		for _, r := range w.ofKind(topology.Configured) {
			var c topology.Config
			if err := json.Unmarshal(r.Body, &c); err != nil {
				t.Fatal(err)
			}
			destination = c.DestinationUID
		}
		return destination
	}
	s := w.settings.Load()
	s.Config.DestinationUID = ""
	w.settings.Set(s)
	r := w.start()
	w.listed("core/v1/configmaps")
	s.Config.DestinationUID = "far"
	w.settings.Set(s)
	w.eventually("logged", func() bool { return last() == "far" && len(w.ofKind(topology.Configured)) == 2*testPartitions })
	r.stop()
	s.Config.DestinationUID = ""
	w.settings.Set(s)
	before := len(w.ofKind(topology.Configured))
	w.start()
	w.listed("core/v1/configmaps")
	if after := len(w.ofKind(topology.Configured)); last() != "far" || after != before {
		t.Errorf("a start without the destination logged %d configurations, the last with destination %q", after-before, last())
	}
}

func TestLargeObject(t *testing.T) {
	w := newWorld(t, source(t), configMaps)
	w.start()
	data := map[string]string{}
	for i := range 14 {
		data[fmt.Sprint("k", i)] = strings.Repeat("x", 73_000) // a ConfigMap's own limit is 1 MiB
	}
	w.configMap("large", data)
	w.becomes("configmaps", "large", "create")
	e := w.crd()
	w.setResources(configMaps, e)
	body := fmt.Appendf(nil, `{"apiVersion":"%s/v1","kind":"Thing","metadata":{"name":"huge"},"spec":{"a":"%s"}}`, e.Group, strings.Repeat("y", 1_400_000))
	w.create(w.resource(e), w.namespace, body)
	w.eventually("1.4 MB logged", func() bool {
		rs := w.ofKey(w.thingKey(e, "huge"))
		return len(rs) == 1 && len(rs[0].Body) > 1_400_000
	})
}

// An object of a megabyte may be several in JSON, more than the log takes. It is
// named in status, and stops nothing else.
func TestObjectTooLargeForTheLog(t *testing.T) {
	w := newWorld(t, source(t), configMaps)
	r := w.start()
	w.configMap("before", map[string]string{"a": "1"})
	w.becomes("configmaps", "before", "create")
	// Each of these is six bytes in the server's JSON.
	w.create(w.resource(configMaps), w.namespace, []byte(`{"metadata":{"name":"large"},"data":{"a":"`+strings.Repeat("<", 700_000)+`"}}`))
	w.configMap("after", map[string]string{"a": "1"})
	w.becomes("configmaps", "after", "create")
	failing := func() []v1alpha1.FailingObject { return r.status().Failing }
	w.eventually("named in status", func() bool { return len(failing()) == 1 })
	if f := failing()[0]; f.Object != w.key("configmaps", "large").String() || f.Reason != "TooLarge" || r.status().Objects.Failed != 1 {
		t.Errorf("in status: %+v, %+v", f, r.status().Objects)
	}
	r.relistAll()
	w.listed("core/v1/configmaps")
	if n := len(failing()); n != 1 || !r.status().Components[0].Ready {
		t.Errorf("%d objects fail after another listing; %+v", n, r.status().Components[0])
	}
	w.patch(configMaps, w.key("configmaps", "large"), `[{"op":"replace","path":"/data/a","value":"small"}]`)
	w.becomes("configmaps", "large", "create")
	w.eventually("forgotten", func() bool { return len(failing()) == 0 })
	// One that grows keeps its last state in the log until it is deleted.
	w.patch(configMaps, w.key("configmaps", "large"), `[{"op":"replace","path":"/data/a","value":"`+strings.Repeat("<", 700_000)+`"}]`)
	w.eventually("named again", func() bool { return len(failing()) == 1 })
	w.delete(configMaps, "large")
	w.becomes("configmaps", "large", "create delete")
	w.eventually("forgotten", func() bool { return len(failing()) == 0 })
}

// relistAll asks for a listing of everything.
func (r *running) relistAll() {
	r.mu.Lock()
	t := r.term
	r.mu.Unlock()
	t.relist()
}

func TestHeartbeatsVerify(t *testing.T) {
	w := newWorld(t, source(t), configMaps)
	began := time.Now()
	w.start()
	w.eventually("verified by the first listing", func() bool { return w.lastVerified().After(began) })
	at := w.lastVerified()
	// An event passes every probe before it.
	time.Sleep(700 * time.Millisecond)
	w.configMap("a", map[string]string{"a": "1"})
	w.eventually("verified by an event", func() bool {
		w.patch(configMaps, w.key("configmaps", "a"), fmt.Sprintf(`[{"op":"add","path":"/data/a","value":"%d"}]`, time.Now().UnixNano()))
		w.patch(v1alpha1.Resource{Version: "v1", Resource: "namespaces"}, topology.Key{Version: "v1", Resource: "namespaces", Name: w.namespace},
			fmt.Sprintf(`[{"op":"add","path":"/metadata/annotations","value":{"x":"%d"}}]`, time.Now().UnixNano()))
		time.Sleep(100 * time.Millisecond)
		return w.lastVerified().After(at.Add(600 * time.Millisecond))
	})
	last := map[int32]time.Time{}
	for _, r := range w.ofKind(topology.Heartbeat) {
		if r.VerifiedAt.Before(last[r.Partition]) || r.VerifiedAt.After(r.ObservedAt) {
			t.Errorf("partition %d: verified at %s after %s", r.Partition, r.VerifiedAt, last[r.Partition])
		}
		last[r.Partition] = r.VerifiedAt
	}
	if len(last) != testPartitions {
		t.Errorf("heartbeats in %d partitions", len(last))
	}
}

func TestGapIsMarked(t *testing.T) {
	w := newWorld(t, source(t), configMaps)
	r := w.start()
	w.eventually("heartbeat", func() bool { return !w.lastVerified().IsZero() })
	r.stop()
	time.Sleep(time.Second)
	w.start()
	w.eventually("gap marked in every partition", func() bool { return len(w.ofKind(topology.Gap)) == testPartitions })
	var g topology.GapBody
	if err := json.Unmarshal(w.ofKind(topology.Gap)[0].Body, &g); err != nil || g.To.Sub(g.From) < 900*time.Millisecond {
		t.Errorf("gap %+v, %v", g, err)
	}
}

// own starts a cluster that a test may harm.
func own(t *testing.T) *testenv.Cluster { return testenv.StartCluster(t, testenv.WithName("harmed")) }

func TestRestoredSnapshotOpensAnEpoch(t *testing.T) {
	c := own(t)
	for _, wiped := range []bool{false, true} {
		t.Run(fmt.Sprintf("state wiped %v", wiped), func(t *testing.T) {
			w := newWorld(t, c.Cluster, configMaps)
			for _, n := range []string{"same", "changed", "deleted"} {
				w.configMap(n, map[string]string{"a": "1"})
			}
			r := w.start()
			for _, n := range []string{"same", "changed", "deleted"} {
				w.becomes("configmaps", n, "create")
			}
			snapshot := t.TempDir() + "/snapshot"
			c.Snapshot(snapshot)
			w.patch(configMaps, w.key("configmaps", "changed"), `[{"op":"add","path":"/data/a","value":"2"}]`)
			w.delete(configMaps, "deleted")
			w.configMap("created", map[string]string{"a": "1"})
			w.becomes("configmaps", "changed", "create update")
			w.becomes("configmaps", "deleted", "create delete")
			w.becomes("configmaps", "created", "create")
			if wiped {
				r.stop()
				w.wipe()
			}
			c.Restore(snapshot)
			if wiped {
				w.start()
			}
			w.becomes("configmaps", "changed", "create update update")
			w.becomes("configmaps", "deleted", "create delete create")
			w.becomes("configmaps", "created", "create delete")
			w.becomes("configmaps", "same", "create")
			rs := w.of("configmaps", "changed")
			if rs[2].Version.Epoch <= rs[1].Version.Epoch || !rs[1].Version.Older(rs[2].Version) || !strings.Contains(string(rs[2].Body), `"a":"1"`) {
				t.Errorf("after the restore: %s %s", rs[2].Version, rs[2].Body)
			}
			if n := len(w.ofKind(topology.EpochOpened)); n != testPartitions {
				t.Errorf("%d epoch records, want one for each of %d partitions", n, testPartitions)
			}
			w.configMap("after", map[string]string{"a": "1"})
			w.becomes("configmaps", "after", "create")
		})
	}
}

// Where the source has written its way past what it had shown, no
// resourceVersion of a listing tells: an object below its published version does.
func TestRestoredAndOvertakenOpensAnEpoch(t *testing.T) {
	c := own(t)
	w := newWorld(t, c.Cluster, configMaps)
	w.configMap("changed", map[string]string{"a": "1"})
	w.configMap("deleted", map[string]string{"a": "1"})
	r := w.start()
	w.becomes("configmaps", "changed", "create")
	snapshot := t.TempDir() + "/snapshot"
	c.Snapshot(snapshot)
	w.patch(configMaps, w.key("configmaps", "changed"), `[{"op":"add","path":"/data/a","value":"2"}]`)
	w.delete(configMaps, "deleted")
	w.becomes("configmaps", "changed", "create update")
	w.becomes("configmaps", "deleted", "create delete")
	r.stop()
	c.Restore(snapshot)
	for i := range 40 {
		w.create(w.resource(secrets), w.namespace, object1(fmt.Sprint("s-", i), nil))
	}
	r = w.start()
	w.becomes("configmaps", "changed", "create update update")
	w.becomes("configmaps", "deleted", "create delete create")
	if n := r.Counters().Epochs; n != 1 {
		t.Errorf("%d epochs opened, want 1", n)
	}
}

func TestAnotherClusterHalts(t *testing.T) {
	c := own(t)
	w := newWorld(t, c.Cluster, configMaps)
	w.configMap("a", map[string]string{"a": "1"})
	r := w.start()
	w.becomes("configmaps", "a", "create")
	r.stop()
	w.wipe()
	c.Empty()
	before := len(w.records())
	r = w.start()
	w.eventually("halted", func() bool { return r.condition(ConditionSourceChanged) != "" })
	time.Sleep(time.Second)
	if after := len(w.records()); after != before {
		t.Fatalf("%d records appended while another cluster answered", after-before)
	}
	if s := r.status().Components[0]; s.Ready || s.Reason != ConditionSourceChanged {
		t.Errorf("status %+v", s)
	}
	uid, err := w.kube.ClusterUID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := w.settings.Load()
	s.ConfirmSource = uid
	w.settings.Set(s)
	w.create(kube.Namespaces, "", object1(w.namespace, nil))
	w.configMap("b", map[string]string{"a": "1"})
	w.becomes("configmaps", "b", "create")
	w.becomes("configmaps", "a", "create delete")
	rs := w.of("configmaps", "a")
	if rs[1].Version.Epoch <= rs[0].Version.Epoch || !rs[1].Inferred {
		t.Errorf("delete under the new cluster: %+v", rs[1])
	}
	configured := w.ofKind(topology.Configured)
	var first, last topology.Config
	for r, c := range map[*topology.Record]*topology.Config{&configured[0]: &first, &configured[len(configured)-1]: &last} {
		if err := json.Unmarshal(r.Body, c); err != nil {
			t.Fatal(err)
		}
	}
	if last.SourceUID != uid || !slices.Equal(last.FormerSourceUIDs, []string{first.SourceUID}) {
		t.Errorf("the configuration names source %q after %q, want %q after %q", last.SourceUID, last.FormerSourceUIDs, uid, first.SourceUID)
	}
}

func TestTopicRecreated(t *testing.T) {
	w := newWorld(t, source(t), configMaps)
	w.configMap("a", map[string]string{"a": "1"})
	w.start()
	w.becomes("configmaps", "a", "create")
	if err := w.log.Delete(t.Context(), w.topics.Changes); err != nil {
		t.Fatal(err)
	}
	w.ensure()
	w.becomes("configmaps", "a", "create")
	w.eventually("configured again", func() bool { return len(w.ofKind(topology.Configured)) == testPartitions })
	w.configMap("b", map[string]string{"a": "1"})
	w.becomes("configmaps", "b", "create")
}

func TestBrokerOutageLosesNothing(t *testing.T) {
	w := newWorld(t, source(t), configMaps)
	w.start()
	w.configMap("before", map[string]string{"a": "1"})
	w.becomes("configmaps", "before", "create")
	if err := w.broker.Stop(); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		w.configMap(fmt.Sprint("during-", i), map[string]string{"a": "1"})
	}
	w.delete(configMaps, "before")
	time.Sleep(2 * time.Second)
	if err := w.broker.Start(); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		w.becomes("configmaps", fmt.Sprint("during-", i), "create")
	}
	w.becomes("configmaps", "before", "create delete")
}

func TestFailover(t *testing.T) {
	w := newWorld(t, source(t), configMaps)
	a := w.start()
	w.configMap("one", map[string]string{"a": "1"})
	w.becomes("configmaps", "one", "create")
	other, err := state.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	b := w.start(func(o *Options) { o.InstanceID, o.Incarnation, o.State = "b", "b-1", other.Stage(Component) })
	defer b.stop()
	w.configMap("two", map[string]string{"a": "1"})
	w.becomes("configmaps", "two", "create")
	standby := func(r *running) bool { return r.status().Components[0].Reason == "Standby" }
	w.eventually("one of them elected", func() bool { return standby(a) != standby(b) })
	leader := a
	if standby(a) {
		leader = b
	}
	leader.stop()
	w.delete(configMaps, "one")
	w.configMap("three", map[string]string{"a": "1"})
	w.becomes("configmaps", "three", "create")
	w.becomes("configmaps", "one", "create delete")
	w.becomes("configmaps", "two", "create")
}

// foreign appends a record as another writer.
func (w *world) foreign(r topology.Record) {
	w.t.Helper()
	writer, err := w.log.Writer()
	if err != nil {
		w.t.Fatal(err)
	}
	defer writer.Close()
	r.Writer = "zombie"
	if err := writer.AppendSync(w.t.Context(), r.Encode(w.topics.Changes, topology.PartitionOf(r.Key, testPartitions))); err != nil {
		w.t.Fatal(err)
	}
}

func TestZombieRecordsAreRepaired(t *testing.T) {
	w := newWorld(t, source(t), configMaps)
	for _, n := range []string{"live", "deleted", "down"} {
		w.configMap(n, map[string]string{"a": "1"})
	}
	r := w.start()
	for _, n := range []string{"live", "deleted", "down"} {
		w.becomes("configmaps", n, "create")
	}
	old := map[string]topology.Record{}
	for _, n := range []string{"live", "deleted", "down"} {
		old[n] = w.of("configmaps", n)[0]
	}
	for _, n := range []string{"live", "down"} {
		w.patch(configMaps, w.key("configmaps", n), `[{"op":"add","path":"/data/a","value":"2"}]`)
		w.becomes("configmaps", n, "create update")
	}
	w.delete(configMaps, "deleted")
	w.becomes("configmaps", "deleted", "create delete")

	w.foreign(old["live"])
	w.foreign(old["deleted"])
	w.becomes("configmaps", "live", "create update create update")
	w.becomes("configmaps", "deleted", "create delete create delete")
	if rs := w.of("configmaps", "live"); !rs[3].Repair || rs[3].Version != rs[1].Version || rs[3].Hash != rs[1].Hash {
		t.Errorf("repair of a live object: %+v", rs[3])
	}
	if rs := w.of("configmaps", "deleted"); !rs[3].Repair || rs[3].Version != rs[1].Version {
		t.Errorf("repair of a deleted object: %+v", rs[3])
	}
	if n := r.Counters().Repaired; n != 2 {
		t.Errorf("%d repaired, want 2", n)
	}
	// A configuration of another writer does not stay the last one.
	c := w.ofKind(topology.Configured)[0]
	c.Body = []byte(strings.Replace(string(c.Body), "configmaps", "pods", 1))
	w.foreign(c)
	w.eventually("configured again", func() bool {
		rs := w.ofKind(topology.Configured)
		return len(rs) == 2*testPartitions+1 && strings.Contains(string(rs[len(rs)-1].Body), "configmaps")
	})
	// One that landed while nobody was elected is found when changes is read to its end.
	r.stop()
	w.foreign(old["down"])
	w.start()
	w.becomes("configmaps", "down", "create update create update")
}

// A repair that a crash comes before is not forgotten: the zombie's record would
// stay the last of its key, and compaction would keep it alone.
func TestRepairOutlivesACrash(t *testing.T) {
	w := newWorld(t, source(t), configMaps)
	for _, n := range []string{"a", "b"} {
		w.configMap(n, map[string]string{"a": "1"})
	}
	r := w.start()
	old := map[string]topology.Record{}
	for _, n := range []string{"a", "b"} {
		w.becomes("configmaps", n, "create")
		old[n] = w.of("configmaps", n)[0]
		w.patch(configMaps, w.key("configmaps", n), `[{"op":"add","path":"/data/a","value":"2"}]`)
		w.becomes("configmaps", n, "create update")
	}
	w.transport.set(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if strings.HasSuffix(r.URL.Path, "/configmaps/a") {
			return status(r, 500, "InternalError"), nil
		}
		return next.RoundTrip(r)
	})
	w.foreign(old["a"])
	w.foreign(old["b"])
	// What cannot be read keeps nobody waiting.
	w.becomes("configmaps", "b", "create update create update")
	w.eventually("met", func() bool { return r.Counters().Foreign >= 2 })
	time.Sleep(time.Second) // commits and heartbeats go on
	r.stop()
	if got := ops(w.of("configmaps", "a")); got != "create update create" {
		t.Fatalf("logged of a: %s", got)
	}
	w.transport.set(nil)
	w.start()
	w.becomes("configmaps", "a", "create update create update")
	if rs := w.of("configmaps", "a"); !rs[3].Repair || rs[3].Hash != rs[1].Hash {
		t.Errorf("repair: %+v", rs[3])
	}
}

func (w *world) request(key topology.Key, reason string) {
	w.t.Helper()
	writer, err := w.log.Writer()
	if err != nil {
		w.t.Fatal(err)
	}
	defer writer.Close()
	r := topology.Record{Key: key.String(), Kind: topology.Object, Op: topology.Update, Reason: reason}
	if err := writer.AppendSync(w.t.Context(), r.Encode(w.topics.Requests, 0)); err != nil {
		w.t.Fatal(err)
	}
}

func TestRequests(t *testing.T) {
	w := newWorld(t, source(t), configMaps)
	w.configMap("there", map[string]string{"a": "1"})
	r := w.start()
	w.becomes("configmaps", "there", "create")
	w.request(w.key("configmaps", "there"), "missing at the destination")
	w.request(w.key("configmaps", "never"), "unknown at the destination")
	w.request(w.key("configmaps", "never"), "unknown at the destination")
	w.becomes("configmaps", "there", "create update")
	w.becomes("configmaps", "never", "delete")
	if rs := w.of("configmaps", "there"); !rs[1].Requested || rs[1].Version != rs[0].Version || rs[1].Body == nil {
		t.Errorf("answer for what exists: %+v", rs[1])
	}
	if rs := w.of("configmaps", "never"); !rs[0].Requested || !rs[0].Inferred || rs[0].Version.RV == "" {
		t.Errorf("answer for what does not: %+v", rs[0])
	}
	// Answered requests are not answered again by the next one elected.
	w.eventually("position kept", func() bool {
		p, err := w.log.Bounds(t.Context(), w.topics.Requests, 0)
		if err != nil {
			t.Fatal(err)
		}
		pos, ok, err := w.store.Stage(Component).Position(state.PartitionID{TopicID: p.TopicID})
		return err == nil && ok && pos.Offset == p.End
	})
	r.stop()
	w.start()
	w.configMap("after", map[string]string{"a": "1"})
	w.becomes("configmaps", "after", "create")
	w.request(w.key("configmaps", "after"), "again")
	w.becomes("configmaps", "after", "create update")
	w.becomes("configmaps", "never", "delete")
}

func TestManyRequestsForMissingAreHeldBack(t *testing.T) {
	w := newWorld(t, source(t))
	e := w.crd()
	w.setResources(e)
	w.thing(e, "there")
	r := w.start()
	w.eventually("logged", func() bool { return allAre(w.things(e), 1, "create") })
	for i := range 15 {
		w.request(w.thingKey(e, fmt.Sprint("orphan-", i)), "absent in the source")
	}
	// Up to ten may go before the breaker trips, however the requests arrive;
	// those that went count with the rest.
	w.eventually("held back", func() bool {
		return strings.Contains(r.condition(ConditionPruneBlocked), "15 of 16")
	})
	if got := w.things(e); len(got) > 11 || got["there"] != "create" {
		t.Fatalf("deleted although held back: %v", got)
	}
	_, rest, _ := strings.Cut(r.condition(ConditionPruneBlocked), `confirm-prune: "`)
	s := w.settings.Load()
	s.ConfirmPrune, _, _ = strings.Cut(rest, `"`)
	w.settings.Set(s)
	w.eventually("deleted as confirmed", func() bool { return len(w.things(e)) == 16 })
}

// A comparison that asks for more than one fetch brings is judged as a whole: a
// part of it, by itself less than half of everything, must not slip through.
func TestRequestsOfManyFetchesAreJudgedTogether(t *testing.T) {
	w := newWorld(t, source(t))
	e := w.crd()
	w.setResources(e)
	const there, orphans = 40, 60
	for i := range there {
		w.thing(e, fmt.Sprint("there-", i))
	}
	r := w.start()
	w.eventually("logged", func() bool { return allAre(w.things(e), there, "create") })
	// In parts, as fetches cut them.
	for part := range 3 {
		for i := range orphans / 3 {
			w.request(w.thingKey(e, fmt.Sprintf("orphan-%d-%d", part, i)), "absent in the source")
		}
		time.Sleep(gathering / 3)
	}
	w.eventually("held back", func() bool {
		return strings.Contains(r.condition(ConditionPruneBlocked), "60 of 100")
	})
	if got := w.things(e); len(got) != there {
		t.Errorf("%d objects deleted although held back", len(got)-there)
	}
}

func TestSourceDownAtStart(t *testing.T) {
	c := own(t)
	w := newWorld(t, c.Cluster, configMaps)
	w.configMap("a", map[string]string{"a": "1"})
	c.StopAPIServer()
	r := w.start()
	w.eventually("said in status", func() bool { return r.status().Components[0].Reason == "SourceUnavailable" })
	c.StartAPIServer()
	w.becomes("configmaps", "a", "create")
	w.eventually("healthy", func() bool { return r.status().Components[0].Ready })
	c.StopAPIServer()
	w.eventually("said in status", func() bool { return !r.status().Components[0].Ready })
	if n := strings.Count(w.logs.String(), "cannot tell which cluster"); n != 1 {
		t.Errorf("an outage was said %d times, want once", n)
	}
	c.StartAPIServer()
	w.configMap("b", map[string]string{"a": "1"})
	w.becomes("configmaps", "b", "create")
}

func TestStopsWhileTheBrokerIsAway(t *testing.T) {
	w := newWorld(t, source(t), configMaps)
	r := w.start()
	w.configMap("a", map[string]string{"a": "1"})
	w.becomes("configmaps", "a", "create")
	if err := w.broker.Stop(); err != nil {
		t.Fatal(err)
	}
	w.configMap("b", map[string]string{"a": "1"})
	time.Sleep(500 * time.Millisecond)
	began := time.Now()
	r.stop()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("stopping took %s", took)
	}
	if err := w.broker.Start(); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.becomes("configmaps", "b", "create")
}
