package synchronizer

import (
	"testing"
	"time"

	"github.com/afterimage-dr/afterimage/topology"
)

func TestCreateUpdateDelete(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	e.start()
	a := e.key("a")
	first := e.want(a, "ConfigMap", data("x", "1", "y", "1"))
	e.eventually("created", e.has("a", "x", "1"))
	live := e.get(a)
	for annotation, want := range map[string]string{
		topology.LiveSynchronizationAnnotation: "dr/" + e.name, topology.SourceClusterAnnotation: testSource,
		topology.KeyAnnotation: a.String(), topology.VersionAnnotation: first.Version.String(), topology.HashAnnotation: first.Hash,
		topology.SourceUIDAnnotation: "uid-a",
	} {
		if got := field(live, "metadata", "annotations", annotation); got != want {
			t.Errorf("annotation %s: got %v, want %v", annotation, got, want)
		}
	}

	e.want(a, "ConfigMap", data("x", "2"))
	e.eventually("updated", e.has("a", "x", "2"))
	if got := field(e.get(a), "data", "y"); got != nil {
		t.Errorf("a field removed in the source is still there: %v", got)
	}
	// A second update needs no migration.
	e.settled()
	before := e.traffic.writes.Load()
	e.want(a, "ConfigMap", data("x", "3"))
	e.eventually("updated again", e.has("a", "x", "3"))
	if n := e.traffic.writes.Load() - before; n != 1 {
		t.Errorf("the second update took %d writes, want 1", n)
	}

	e.remove(a)
	e.eventually("deleted", func() bool { return e.get(a) == nil })
	e.settled()
	var results []string
	for _, r := range e.read(e.topics.Outcomes) {
		results = append(results, r.Reason)
	}
	if len(results) != 4 || results[0] != "created" || results[1] != "updated" || results[3] != "deleted" {
		t.Errorf("outcomes: %v", results)
	}
	if st := e.status(); st.Objects.Total != 0 || st.Objects.OutOfSync != 0 || len(st.Failing) != 0 {
		t.Errorf("status: %+v", st.Objects)
	}
}

func TestControllerFieldSurvives(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	e.start()
	a := e.key("a")
	e.want(a, "ConfigMap", data("x", "1"))
	e.eventually("created", e.has("a", "x", "1"))
	// A controller of the destination sets a field of its own.
	body := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"` + e.name + `"},"data":{"theirs":"1"}}`
	_, err := e.kube.Apply(t.Context(), e.resource(a), a, []byte(body), "controller")
	must(t, err)
	e.want(a, "ConfigMap", data("x", "2"))
	e.eventually("updated", e.has("a", "x", "2"))
	if got := field(e.get(a), "data", "theirs"); got != "1" {
		t.Errorf("the controller's field: %v", got)
	}
	e.want(a, "ConfigMap", data("z", "1"))
	e.eventually("updated", e.has("a", "z", "1"))
	live := e.get(a)
	if field(live, "data", "theirs") != "1" || field(live, "data", "x") != nil {
		t.Errorf("data: %v", field(live, "data"))
	}
}

func TestForeignIsLeftAlone(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	foreign := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"` + e.name + `"},"data":{"x":"theirs"}}`
	e.put(e.key("a"), foreign)
	e.put(e.key("equal"), `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"equal","namespace":"`+e.name+`"},"data":{"x":"1","more":"2"}}`)
	rv := field(e.get(e.key("a")), "metadata", "resourceVersion")
	e.start()
	e.want(e.key("a"), "ConfigMap", data("x", "1"))
	e.want(e.key("equal"), "ConfigMap", data("x", "1"))
	e.want(e.key("b"), "ConfigMap", data("x", "1"))
	e.eventually("the others are applied", e.has("b", "x", "1"))
	e.eventually("quarantined", func() bool { return e.failing(e.key("a")) == ReasonNotOwned })
	e.settled()
	if r := e.failing(e.key("equal")); r != "" {
		t.Errorf("an equal foreign object fails with %s", r)
	}
	e.remove(e.key("a"))
	e.remove(e.key("equal"))
	e.settled()
	if got := field(e.get(e.key("a")), "metadata", "resourceVersion"); got != rv {
		t.Errorf("the foreign object was written: %v, was %v", got, rv)
	}
	if e.get(e.key("equal")) == nil {
		t.Error("a foreign object was deleted")
	}
	if r := e.failing(e.key("a")); r != "" {
		t.Errorf("after the delete it still fails with %s", r)
	}
}

func TestPoisonDoesNotBlock(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	e.start()
	e.want(e.key("poison"), "ConfigMap", map[string]any{"data": map[string]any{"not a valid key!": "1"}})
	for _, n := range []string{"a", "b", "c", "d", "e", "f"} {
		e.want(e.key(n), "ConfigMap", data("x", "1"))
	}
	for _, n := range []string{"a", "b", "c", "d", "e", "f"} {
		e.eventually("applied", e.has(n, "x", "1"))
	}
	e.settled()
	if r := e.failing(e.key("poison")); r != ReasonInvalid {
		t.Errorf("reason %q, want %q", r, ReasonInvalid)
	}
	e.want(e.key("poison"), "ConfigMap", data("x", "1"))
	e.eventually("healed", e.has("poison", "x", "1"))
	e.eventually("released", func() bool { return e.failing(e.key("poison")) == "" })
}

func TestMissingNamespaceHeals(t *testing.T) {
	e := newEnv(t, destination(t))
	e.opts = func(o *Options) { o.RetryMin, o.RetryMax = time.Hour, time.Hour } // so that only the watch can release it
	e.start()
	e.want(e.key("a"), "ConfigMap", data("x", "1"))
	e.eventually("waiting", func() bool { return e.failing(e.key("a")) == ReasonNamespaceMissing })
	e.namespace()
	e.within(2*time.Second, "created when the namespace appeared", e.has("a", "x", "1"))
}
