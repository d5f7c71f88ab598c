package synchronizer

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/internal/testenv"
	"github.com/afterimage-dr/afterimage/topology"
)

func (e *env) fill(n int) {
	e.tb.Helper()
	for i := range n {
		e.want(e.key(fmt.Sprintf("c%03d", i)), "ConfigMap", data("x", fmt.Sprint(i)))
	}
	e.settled()
}

// edit changes an object at the destination as somebody would.
func (e *env) edit(name, body string) {
	e.tb.Helper()
	key := e.key(name)
	_, err := e.kube.JSONPatch(e.tb.Context(), e.resource(key), key, []byte(body), "somebody")
	must(e.tb, err)
}

func TestDriftIsRepaired(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	e.start()
	e.fill(20)
	for name, body := range map[string]string{
		"c001": `[{"op":"replace","path":"/data/x","value":"changed"}]`,
		"c002": `[{"op":"remove","path":"/data/x"}]`,
		"c003": `[{"op":"add","path":"/data/theirs","value":"1"}]`,
	} {
		e.edit(name, body)
	}
	must(t, e.kube.Delete(t.Context(), e.resource(e.key("c004")), e.key("c004"), kube.Preconditions{}))
	before := e.traffic.writes.Load()
	e.resync()
	for name, want := range map[string]string{"c001": "1", "c002": "2", "c003": "3", "c004": "4"} {
		if got := field(e.get(e.key(name)), "data", "x"); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	if got := field(e.get(e.key("c003")), "data", "theirs"); got != "1" {
		t.Errorf("a field somebody added was removed: %v", got)
	}
	// c001 and c002 were created and never updated: each takes its migration too.
	if n := e.traffic.writes.Load() - before; n > 5 {
		t.Errorf("the repair took %d writes", n)
	}
	before = e.traffic.writes.Load()
	e.resync()
	if n := e.traffic.writes.Load() - before; n != 0 {
		t.Errorf("an unchanged resync wrote %d times", n)
	}
}

func TestRemovedFieldAfterRepairVanishes(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	e.start()
	e.want(e.key("a"), "ConfigMap", data("x", "1", "y", "1"))
	e.settled()
	e.edit("a", `[{"op":"replace","path":"/data/x","value":"2"}]`)
	e.resync()
	e.want(e.key("a"), "ConfigMap", data("y", "1"))
	e.eventually("the removed field vanishes", func() bool { return field(e.get(e.key("a")), "data", "x") == nil })
}

func TestWipedStateWritesNothing(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	e.start()
	e.fill(50)
	e.want(e.key("c001"), "ConfigMap", data("x", "updated"))
	e.remove(e.key("c002"))
	e.settled()
	e.stop()
	e.wipe()
	before := e.traffic.writes.Load()
	e.start()
	e.settled()
	e.resync()
	if n := e.traffic.writes.Load() - before; n != 0 {
		t.Errorf("after the state was lost, %d writes for what was equal", n)
	}
	if st := e.status(); st.Objects.Total != 49 || st.Objects.Sync != 49 {
		t.Errorf("status: %+v", st.Objects)
	}
	// What changed while the state was lost is found as well.
	e.stop()
	e.wipe()
	e.edit("c003", `[{"op":"replace","path":"/data/x","value":"changed"}]`)
	e.start()
	e.settled()
	e.eventually("repaired", e.has("c003", "x", "3"))
}

func TestUnknownIsAskedFor(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	e.start()
	e.fill(5)
	e.stop()
	// The log is lost, and with it what the destination still holds.
	must(t, e.log.Delete(t.Context(), e.topics.Desired))
	_, err := e.log.Ensure(t.Context(), e.topics.Desired, topicSettings())
	must(t, err)
	e.writer.Close()
	e.writer, err = e.log.Writer()
	must(t, err)
	e.configure()
	e.want(e.key("c000"), "ConfigMap", data("x", "0"))
	before := e.traffic.writes.Load()
	e.start()
	e.settled()
	e.resync()
	if got := e.read(e.topics.Requests); len(got) != 0 {
		t.Fatalf("asked before a listing was complete: %v", got)
	}
	for p := range int32(testPartitions) {
		r := topology.Record{Key: topology.ControlKey(topology.Listed, "core/v1/configmaps"), Kind: topology.Listed, Writer: "test"}
		must(t, e.writer.AppendSync(t.Context(), r.Encode(e.topics.Desired, p)))
	}
	e.settled()
	asked := func() map[string]bool {
		m := map[string]bool{}
		for _, r := range e.read(e.topics.Requests) {
			m[r.Key] = true
		}
		return m
	}
	e.eventually("the other four are asked for", func() bool { return len(asked()) == 4 })
	if asked()[e.key("c000").String()] {
		t.Error("asked for a key that desired knows")
	}
	if n := e.traffic.writes.Load() - before; n > 2 {
		t.Errorf("%d writes", n)
	}
	for i := range 5 {
		if e.get(e.key(fmt.Sprintf("c%03d", i))) == nil {
			t.Errorf("c%03d was deleted without a tombstone", i)
		}
	}
}

func TestEmptyDestinationIsFilledAgain(t *testing.T) {
	cluster := testenv.StartCluster(t)
	e := newEnv(t, cluster.Cluster)
	e.set(func(s *settings.Settings) { s.Config.Replication.ForceNamespaceCreation = true })
	e.start()
	e.fill(30)
	cluster.Empty()
	e.sync.identity.check()
	e.within(60*time.Second, "everything is back", func() bool {
		for i := range 30 {
			if field(e.get(e.key(fmt.Sprintf("c%03d", i))), "data", "x") != fmt.Sprint(i) {
				return false
			}
		}
		return true
	})
	e.settled()
	if st := e.status(); st.Objects.Total != 30 || st.Objects.OutOfSync != 0 {
		t.Errorf("status: %+v", st.Objects)
	}
}

func TestDestinationRestoredFromBackup(t *testing.T) {
	cluster := testenv.StartCluster(t)
	e := newEnv(t, cluster.Cluster)
	e.namespace()
	e.start()
	e.fill(10)
	snapshot := t.TempDir() + "/snapshot"
	cluster.Snapshot(snapshot)
	e.want(e.key("c001"), "ConfigMap", data("x", "updated"))
	e.want(e.key("new"), "ConfigMap", data("x", "new"))
	e.remove(e.key("c002"))
	e.settled()
	cluster.Restore(snapshot)
	e.eventually("the destination is reached again", func() bool { open, _ := e.sync.fence.open(); return open })
	e.resync()
	e.eventually("the update is back", e.has("c001", "x", "updated"))
	e.eventually("the creation is back", e.has("new", "x", "new"))
	e.eventually("the delete is back", func() bool { return e.get(e.key("c002")) == nil })
}

func TestOverridden(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	e.start()
	e.fill(1)
	for i := range maxRepairs {
		e.edit("c000", fmt.Sprintf(`[{"op":"replace","path":"/data/x","value":"theirs%d"}]`, i))
		e.resync()
		if got := field(e.get(e.key("c000")), "data", "x"); got != "0" {
			t.Fatalf("repair %d: %v", i, got)
		}
	}
	e.edit("c000", `[{"op":"replace","path":"/data/x","value":"theirs"}]`)
	e.resync()
	e.eventually("given up", func() bool { return e.failing(e.key("c000")) == ReasonOverridden })
	before := e.traffic.writes.Load()
	e.resync()
	if n := e.traffic.writes.Load() - before; n != 0 {
		t.Errorf("%d writes after it was given up", n)
	}
	e.want(e.key("c000"), "ConfigMap", data("x", "news"))
	e.eventually("a change in the source is applied", e.has("c000", "x", "news"))
	e.eventually("released", func() bool { return e.failing(e.key("c000")) == "" })
}

func TestRememberedDeletedIsDeletedAgain(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	e.start()
	e.fill(2)
	body, err := e.kube.Get(t.Context(), e.resource(e.key("c001")), e.key("c001"))
	must(t, err)
	e.remove(e.key("c001"))
	e.eventually("deleted", func() bool { return e.get(e.key("c001")) == nil })
	e.settled()
	// A backup tool puts it back, marks and all.
	old := strings.NewReplacer(`"resourceVersion":"`, `"resourceVersion":"","x":"`, `"uid":"`, `"uid":"","y":"`).Replace(string(body))
	e.put(e.key("c001"), old)
	e.resync()
	e.eventually("deleted again", func() bool { return e.get(e.key("c001")) == nil })
}

// A listing that fails half way concludes nothing.
func TestFailedListingRepairsNothing(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	e.start()
	e.fill(5)
	f := func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/configmaps") {
			return answer(500, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"InternalError","code":500}`), nil
		}
		return nil, nil
	}
	e.traffic.disturb.Store(&f)
	before := e.traffic.writes.Load()
	e.sync.Resync()
	e.eventually("said", func() bool { return e.logs.contains("error listing objects in cluster") })
	e.traffic.disturb.Store(nil)
	e.settled()
	if n := e.traffic.writes.Load() - before; n != 0 {
		t.Errorf("%d writes", n)
	}
}
