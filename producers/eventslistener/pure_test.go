package eventslistener

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/topology"
)

func TestTrip(t *testing.T) {
	for name, c := range map[string]struct {
		reason        string
		resource, all tally
		want          bool
	}{
		"few of many":             {"everyday work passes", tally{"r", 10, 100}, tally{"all", 10, 1000}, false},
		"ten of eleven":           {"up to ten are few, whatever their share", tally{"r", 10, 11}, tally{"all", 10, 1000}, false},
		"eleven of twelve":        {"more than ten and more than half", tally{"r", 11, 12}, tally{"all", 11, 1000}, true},
		"half of many":            {"exactly half passes", tally{"r", 500, 1000}, tally{"all", 500, 5000}, false},
		"more than half":          {"one more does not", tally{"r", 501, 1000}, tally{"all", 501, 5000}, true},
		"all four":                {"fewer than five may go together", tally{"r", 4, 4}, tally{"all", 4, 1000}, false},
		"all five":                {"a whole resource may not", tally{"r", 5, 5}, tally{"all", 5, 1000}, true},
		"five of six":             {"one that remains shows that the resource can be read", tally{"r", 5, 6}, tally{"all", 5, 1000}, false},
		"namespace takes all":     {"one namespace counts with what is in it", tally{"namespaces", 1, 3}, tally{"all", 800, 1000}, true},
		"whole synchronization":   {"over all resources together", tally{"r", 10, 30}, tally{"all", 60, 100}, true},
		"unknown to the log only": {"what others ask about counts as tracked", tally{"r", 11, 11}, tally{"all", 11, 1000}, true},
	} {
		t.Run(name, func(t *testing.T) {
			why, got := trip(c.resource, c.all)
			if got != c.want || got != (why != "") {
				t.Errorf("%s: tripped %v (%q), want %v", c.reason, got, why, c.want)
			}
		})
	}
}

func TestContradicts(t *testing.T) {
	at := func(rv string) topology.Version { return topology.Version{Epoch: 7, RV: rv} }
	for name, c := range map[string]struct {
		reason    string
		rv, list  string
		published topology.Version
		uid       string
		deleted   bool
		want      bool
	}{
		"same":                         {"nothing happened", "10", "20", at("10"), "u", false, false},
		"newer":                        {"it changed", "15", "20", at("10"), "u", false, false},
		"event overtook":               {"the published state is behind the listing's moment", "10", "20", at("25"), "u", false, false},
		"below its published":          {"a complete listing from after it must show it", "10", "20", at("15"), "u", false, true},
		"another object":               {"a recreation has versions of its own", "10", "20", at("15"), "other", false, false},
		"alive below tombstone":        {"it was gone at 15 and cannot be at 10 now", "10", "20", at("15"), "u", true, true},
		"alive at tombstone":           {"nor at the very version", "15", "20", at("15"), "other", true, true},
		"recreated above":              {"created again after it was gone", "16", "20", at("15"), "other", true, false},
		"tombstone behind the listing": {"deleted while the listing ran", "10", "20", at("25"), "u", true, false},
		"other epoch":                  {"old versions mean nothing now", "10", "20", topology.Version{Epoch: 6, RV: "15"}, "u", false, false},
		"opaque":                       {"no order, no evidence", "abc", "20", at("15"), "u", false, false},
		"across digits":                {"numbers, not strings", "9", "200", at("100"), "u", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			o := object{uid: "u", rv: c.rv}
			if got := contradicts(&o, c.list, c.published, c.uid, c.deleted, 7); got != c.want {
				t.Errorf("%s: got %v", c.reason, got)
			}
		})
	}
}

func TestPrecedingRV(t *testing.T) {
	for rv, want := range map[string]string{
		"1": "0", "100": "99", "1000": "999", "abc": "abc", "0": "0", "": "",
		"100000000000000000000000000000000": "99999999999999999999999999999999",
	} {
		if got := precedingRV(rv); got != want {
			t.Errorf("precedingRV(%q) = %q, want %q", rv, got, want)
		}
	}
}

var testResource = kube.Resource{GroupVersionResource: schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}, Kind: "Deployment", Namespaced: true}

func TestDecode(t *testing.T) {
	const listed = `{"metadata":{"name":"n","namespace":"s","uid":"u","resourceVersion":"5","generation":2,"managedFields":[{"manager":"m","operation":"Update","time":"2026-01-01T00:00:00Z","fieldsV1":{"f:a":{}}}]},"spec":{"big":12345678901234567890,"s":"<&>"},"status":{"x":1}}`
	watched := `{"kind":"Deployment","apiVersion":"apps/v1",` + listed[1:]
	a, err := decode(testResource, []byte(listed))
	if err != nil {
		t.Fatal(err)
	}
	b, err := decode(testResource, []byte(watched))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"n","namespace":"s","uid":"u","resourceVersion":"5","generation":2},"spec":{"big":12345678901234567890,"s":"<&>"}}`
	if diff := cmp.Diff(want, string(a.body)); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
	if string(a.body) != string(b.body) || a.sum != b.sum {
		t.Errorf("a list and a watch give different bytes:\n%s\n%s", a.body, b.body)
	}
	if diff := cmp.Diff([]topology.Manager{{Name: "m", Operation: "Update", Time: "2026-01-01T00:00:00Z"}}, a.managers()); diff != "" {
		t.Errorf("managers (-want +got):\n%s", diff)
	}
	same := func(reason, from, to string, equal bool) {
		t.Helper()
		c, err := decode(testResource, []byte(strings.Replace(listed, from, to, 1)))
		if err != nil {
			t.Fatal(err)
		}
		if (c.sum == a.sum) != equal {
			t.Errorf("%s: hash equal is %v, want %v", reason, c.sum == a.sum, equal)
		}
	}
	same("the resourceVersion is no content", `"resourceVersion":"5"`, `"resourceVersion":"6"`, true)
	same("nor is the generation", `"generation":2`, `"generation":3`, true)
	same("nor status", `"x":1`, `"x":2`, true)
	same("nor managedFields", `"f:a":{}`, `"f:b":{}`, true)
	same("a field of the spec is", `12345678901234567890`, `12345678901234567891`, false)
	same("the uid is", `"uid":"u"`, `"uid":"v"`, false)
	same("a label is", `"uid":"u"`, `"uid":"u","labels":{"a":"b"}`, false)

	if a.hash(stamp{}) == a.hash(stamp{sum: [32]byte{1}}) {
		t.Error("another namespace stamp gives the same hash")
	}
	for _, bad := range []string{``, `[]`, `{"metadata":{}}`, `{"metadata":{"name":"n"}}`, listed[:len(listed)-1], `{"metadata":{"name":1,"resourceVersion":"5"}}`} {
		if _, err := decode(testResource, []byte(bad)); err == nil {
			t.Errorf("decode accepted %q", bad)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"kind":"x","metadata":{"name":"n","resourceVersion":"5","labels":{"a":"b"}},"data":{"a":"\u0041\n"},"status":{}}`))
	f.Add([]byte(` { "metadata" : { "name" : "n" , "resourceVersion" : "5" } , "metadata" : {} } `))
	f.Fuzz(func(t *testing.T, raw []byte) {
		o, err := decode(testResource, raw)
		if err != nil {
			return
		}
		var in, out map[string]any
		if err := json.Unmarshal(o.body, &out); err != nil {
			t.Fatalf("body is no JSON: %v\n%s", err, o.body)
		}
		if json.Unmarshal(raw, &in) != nil {
			return // stricter about text than the scanner
		}
		again, err := decode(testResource, o.body)
		if err != nil || again.sum != o.sum || string(again.body) != string(o.body) {
			t.Fatalf("decoding a body again changes it: %v\n%s\n%s", err, o.body, again.body)
		}
	})
}

func TestFacts(t *testing.T) {
	var f facts
	body := func(v any) []byte { b, _ := json.Marshal(v); return b }
	f.apply(&topology.Record{Kind: topology.Object, Key: "core/v1/configmaps/a/b", Version: topology.Version{Epoch: 5, RV: "90"}})
	f.apply(&topology.Record{Kind: topology.Listed, Key: topology.ControlKey(topology.Listed, "core/v1/configmaps"), Version: topology.Version{Epoch: 5}, Body: body(topology.ListedBody{ResourceVersion: "100"})})
	f.apply(&topology.Record{Kind: topology.Heartbeat, Key: topology.ControlKey(topology.Heartbeat, ""), Version: topology.Version{Epoch: 5}, Body: body(heartbeatBody{ResourceVersions: map[string]string{"apps/v1/deployments": "7", "core/v1/configmaps": "99"}})})
	want := map[string]string{"core/v1/configmaps": "100", "apps/v1/deployments": "7"}
	if diff := cmp.Diff(want, f.Seen); diff != "" {
		t.Errorf("what the source has shown (-want +got):\n%s", diff)
	}
	f.apply(&topology.Record{Kind: topology.EpochOpened, Key: topology.ControlKey(topology.EpochOpened, ""), Version: topology.Version{Epoch: 6}})
	f.apply(&topology.Record{Kind: topology.Object, Key: "core/v1/configmaps/a/b", Version: topology.Version{Epoch: 5, RV: "300"}})
	f.apply(&topology.Record{Kind: topology.Object, Key: "core/v1/configmaps/a/b", Version: topology.Version{Epoch: 6, RV: "10"}})
	if diff := cmp.Diff(map[string]string{"core/v1/configmaps": "10"}, f.Seen); diff != "" || f.Epoch != 6 {
		t.Errorf("after epoch %d (-want +got):\n%s", f.Epoch, diff)
	}
	c := topology.Config{Name: "n", SourceUID: "s", Generation: 4}
	f.apply(&topology.Record{Kind: topology.Configured, Key: topology.ControlKey(topology.Configured, ""), Body: body(c)})
	older := topology.Config{Name: "old", SourceUID: "t", Generation: 3}
	f.apply(&topology.Record{Kind: topology.Configured, Key: topology.ControlKey(topology.Configured, ""), Body: body(older)})
	if f.ConfigHash != c.Hash() || f.Generation != 4 || f.SourceUID != "s" {
		t.Errorf("configuration: %+v", f)
	}
	var g facts
	if err := json.Unmarshal(f.encode(), &g); err != nil || !cmp.Equal(f, g) {
		t.Errorf("facts do not survive the disk: %v %+v", err, g)
	}
}
