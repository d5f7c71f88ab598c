package topology

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// compile returns the rules of a replication given as JSON.
func compile(t testing.TB, replication string) *Rules {
	t.Helper()
	c := configOf(t, replication)
	r, err := Compile(c)
	if err != nil {
		t.Fatalf("Compile(%s): %v", replication, err)
	}
	return r
}

func configOf(t testing.TB, replication string) Config {
	t.Helper()
	c := Config{Namespace: "dr", Name: "ls", Generation: 7, SourceUID: "src-uid", DestinationUID: "dst-uid"}
	if err := json.Unmarshal([]byte(replication), &c.Replication); err != nil {
		t.Fatalf("replication %s: %v", replication, err)
	}
	return c
}

// record of a live object.
func record(key, body string) *Record {
	return &Record{Key: key, Kind: Object, Op: Update, Body: []byte(body), NamespaceLabels: map[string]string{"kubernetes.io/metadata.name": "ns"}}
}

const onlyConfigMaps = `{"resources":[{"version":"v1","resource":"configmaps"}]}`

func TestFilters(t *testing.T) {
	entry := func(filters string) string {
		return `{"resources":[{"version":"v1","resource":"configmaps","filters":` + filters + `}]}`
	}
	cases := map[string]struct {
		reason  string
		filters string
		name    string
		labels  string
		nsLabel map[string]string
		want    bool
	}{
		"whole name":                {"a pattern must match the whole name", `{"nameSelector":{"regex":["config"]}}`, "config-1", ``, nil, false},
		"expression":                {"the document's config.*", `{"nameSelector":{"regex":["config.*"]}}`, "config-1", ``, nil, true},
		"expression not inside":     {"the beginning counts too", `{"nameSelector":{"regex":["config.*"]}}`, "my-config", ``, nil, false},
		"any of":                    {"one pattern is enough", `{"nameSelector":{"regex":["a","b"]}}`, "b", ``, nil, true},
		"alternation is whole":      {"a|b is bound as a whole", `{"nameSelector":{"regex":["a|b"]}}`, "bc", ``, nil, false},
		"alias":                     {"includeRegex is regex", `{"nameSelector":{"includeRegex":["a.*"]}}`, "ab", ``, nil, true},
		"alias restricts":           {"includeRegex is regex", `{"nameSelector":{"includeRegex":["a.*"]}}`, "b", ``, nil, false},
		"alias and regex":           {"one list under two names", `{"nameSelector":{"regex":["a"],"includeRegex":["b"]}}`, "b", ``, nil, true},
		"exclude alone":             {"everything else is taken", `{"nameSelector":{"excludeRegex":["a"]}}`, "b", ``, nil, true},
		"exclude wins":              {"over a regex that matches", `{"nameSelector":{"regex":["a.*"],"excludeRegex":["ab"]}}`, "ab", ``, nil, false},
		"glob":                      {"the document's *.test is a glob", `{"nameSelector":{"excludeRegex":["*.test"]}}`, "my.test", ``, nil, false},
		"glob whole":                {"a glob matches whole names", `{"nameSelector":{"excludeRegex":["*.test"]}}`, "my.tests", ``, nil, true},
		"glob dot":                  {"the dot of a glob is a dot", `{"nameSelector":{"regex":["*.test"]}}`, "mytest", ``, nil, false},
		"glob star":                 {"takes everything", `{"nameSelector":{"regex":["*"]}}`, "x", ``, nil, true},
		"empty list":                {"no patterns restrict nothing", `{"nameSelector":{"regex":[]}}`, "x", ``, nil, true},
		"labels":                    {"matchLabels", `{"selector":{"matchLabels":{"a":"1"}}}`, "x", `{"a":"1"}`, nil, true},
		"labels differ":             {"matchLabels", `{"selector":{"matchLabels":{"a":"1"}}}`, "x", `{"a":"2"}`, nil, false},
		"no labels":                 {"matchLabels", `{"selector":{"matchLabels":{"a":"1"}}}`, "x", ``, nil, false},
		"expressions":               {"matchExpressions", `{"selector":{"matchExpressions":[{"key":"a","operator":"NotIn","values":["1"]}]}}`, "x", `{"a":"2"}`, nil, true},
		"exists":                    {"Exists", `{"selector":{"matchExpressions":[{"key":"a","operator":"Exists"}]}}`, "x", `{"b":"2"}`, nil, false},
		"does not exist":            {"DoesNotExist", `{"selector":{"matchExpressions":[{"key":"a","operator":"DoesNotExist"}]}}`, "x", ``, nil, true},
		"empty selector":            {"an empty selector takes everything", `{"selector":{}}`, "x", ``, nil, true},
		"namespace":                 {"labels of the record's stamp", `{"namespaceSelector":{"matchLabels":{"dr":"on"}}}`, "x", ``, map[string]string{"dr": "on"}, true},
		"namespace without":         {"labels of the record's stamp", `{"namespaceSelector":{"matchLabels":{"dr":"on"}}}`, "x", ``, nil, false},
		"namespace not the object":  {"the object's labels do not count", `{"namespaceSelector":{"matchLabels":{"dr":"on"}}}`, "x", `{"dr":"on"}`, nil, false},
		"all must match":            {"filters are ANDed", `{"selector":{"matchLabels":{"a":"1"}},"namespaceSelector":{"matchLabels":{"dr":"on"}}}`, "x", `{"a":"1"}`, nil, false},
		"all match":                 {"filters are ANDed", `{"nameSelector":{"regex":["x"]},"selector":{"matchLabels":{"a":"1"}},"namespaceSelector":{"matchLabels":{"dr":"on"}}}`, "x", `{"a":"1"}`, map[string]string{"dr": "on"}, true},
		"newline in a name pattern": {"the end is the end of the text", `{"nameSelector":{"regex":["x$"]}}`, "x", ``, nil, true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			body := `{"metadata":{"name":"` + tc.name + `"}}`
			if tc.labels != "" {
				body = `{"metadata":{"name":"` + tc.name + `","labels":` + tc.labels + `}}`
			}
			rec := record("core/v1/configmaps/ns/"+tc.name, body)
			rec.NamespaceLabels = tc.nsLabel
			if got := compile(t, entry(tc.filters)).Apply(rec); got.InScope != tc.want || got.Err != nil {
				t.Errorf("%s: in scope %v (%v), want %v", tc.reason, got.InScope, got.Err, tc.want)
			}
		})
	}
}

func TestNamespaceSelectorOnClusterScoped(t *testing.T) {
	const rep = `{"resources":[
		{"version":"v1","resource":"namespaces","filters":{"namespaceSelector":{"matchLabels":{"dr":"on"}}}},
		{"version":"v1","resource":"nodes","filters":{"namespaceSelector":{"matchLabels":{"dr":"on"}}}},
		{"group":"x.io","version":"v1","resource":"namespaces","filters":{"namespaceSelector":{"matchLabels":{"dr":"on"}}}}]}`
	r := compile(t, rep)
	for body, want := range map[string][3]bool{
		`{"metadata":{"name":"n","labels":{"dr":"on"}}}`:  {true, true, true},
		`{"metadata":{"name":"n","labels":{"dr":"off"}}}`: {false, true, true},
		`{"metadata":{"name":"n"}}`:                       {false, true, true},
	} {
		for i, key := range []string{"core/v1/namespaces//n", "core/v1/nodes//n", "x.io/v1/namespaces//n"} {
			rec := record(key, body)
			rec.NamespaceLabels = nil
			if got := r.Apply(rec).InScope; got != want[i] {
				t.Errorf("%s %s: in scope %v, want %v", key, body, got, want[i])
			}
		}
	}
}

func TestEntries(t *testing.T) {
	r := compile(t, `{"resources":[
		{"version":"v1","resource":"configmaps","filters":{"nameSelector":{"regex":["a.*"]}},"transformation":{"patch":[{"op":"add","path":"/data","value":{"by":"first"}}]}},
		{"version":"v1","resource":"secrets"},
		{"version":"v1","resource":"configmaps","filters":{"nameSelector":{"regex":[".*b"]}},"transformation":{"patch":[{"op":"add","path":"/data","value":{"by":"third"}}]}}]}`)
	for name, want := range map[string]Verdict{
		"a":  {InScope: true, Entry: 0, Body: []byte(`{"metadata":{"name":"a"},"data":{"by":"first"}}`)},
		"b":  {InScope: true, Entry: 2, Body: []byte(`{"metadata":{"name":"b"},"data":{"by":"third"}}`)},
		"ab": {InScope: true, Entry: 0, Conflict: true, Body: []byte(`{"metadata":{"name":"ab"},"data":{"by":"first"}}`)},
		"c":  {Entry: -1},
	} {
		got := r.Apply(record("core/v1/configmaps/ns/"+name, `{"metadata":{"name":"`+name+`"}}`))
		if (got.Hash != "") != want.InScope {
			t.Errorf("%s: hash %q", name, got.Hash)
		}
		got.Hash = ""
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if got := r.Apply(record("core/v2/configmaps/ns/a", `{"metadata":{"name":"a"}}`)); got.InScope || got.Entry != -1 {
		t.Errorf("another version of the resource was taken: %+v", got)
	}
	for key, want := range map[Key]bool{
		{Version: "v1", Resource: "configmaps"}:             true,
		{Version: "v1", Resource: "pods"}:                   false,
		{Group: "x", Version: "v1", Resource: "configmaps"}: false,
	} {
		if got := r.Covers(key); got != want {
			t.Errorf("Covers(%s) = %v, want %v", key, got, want)
		}
	}
}

func TestDeleteIsOutOfScope(t *testing.T) {
	r := compile(t, onlyConfigMaps)
	for _, rec := range []*Record{
		{Key: "core/v1/configmaps/ns/a", Kind: Object, Op: Delete},
		{Key: "core/v1/configmaps/ns/a", Kind: Object, Op: Delete, Body: []byte(`{"metadata":{"name":"a"}}`)},
		{Key: "core/v1/configmaps/ns/a", Kind: Object, Op: Update},
	} {
		if got := r.Apply(rec); got.InScope || got.Err != nil {
			t.Errorf("%+v: %+v", rec, got)
		}
	}
}

func TestBeingDeletedIsStillThere(t *testing.T) {
	got := compile(t, onlyConfigMaps).Apply(record("core/v1/configmaps/ns/a",
		`{"metadata":{"name":"a","deletionTimestamp":"2026-01-01T00:00:00Z","deletionGracePeriodSeconds":30,"finalizers":["x/y"]}}`))
	if want := `{"metadata":{"name":"a"}}`; !got.InScope || string(got.Body) != want {
		t.Errorf("got %+v %s, want %s", got, got.Body, want)
	}
}

func TestSkips(t *testing.T) {
	const all = `"resources":[{"version":"v1","resource":"configmaps"},{"version":"v1","resource":"secrets"},{"version":"v1","resource":"namespaces"},
		{"version":"v1","resource":"services"},{"version":"v1","resource":"endpoints"},{"group":"discovery.k8s.io","version":"v1","resource":"endpointslices"},
		{"group":"apps","version":"v1","resource":"replicasets"},{"group":"apiregistration.k8s.io","version":"v1","resource":"apiservices"}]`
	cases := map[string]struct {
		key, body, want, unless string
		byKey                   bool
	}{
		"in kube-":              {"core/v1/configmaps/kube-system/a", `{"metadata":{"name":"a"}}`, SkipSystemNamespace, "includeSystemNamespaces", true},
		"in openshift":          {"core/v1/configmaps/openshift-x/a", `{"metadata":{"name":"a"}}`, SkipSystemNamespace, "includeSystemNamespaces", true},
		"openshift itself":      {"core/v1/namespaces//openshift", `{"metadata":{"name":"openshift"}}`, SkipSystemNamespace, "includeSystemNamespaces", true},
		"kube-system itself":    {"core/v1/namespaces//kube-system", `{"metadata":{"name":"kube-system"}}`, SkipSystemNamespace, "includeSystemNamespaces", true},
		"kubeflow is none":      {"core/v1/configmaps/kubeflow/a", `{"metadata":{"name":"a"}}`, "", "", false},
		"name alone is none":    {"core/v1/configmaps/ns/kube-a", `{"metadata":{"name":"kube-a"}}`, "", "", false},
		"root ca":               {"core/v1/configmaps/ns/kube-root-ca.crt", `{"metadata":{"name":"kube-root-ca.crt"}}`, SkipGenerated, "includeGenerated", true},
		"service ca":            {"core/v1/configmaps/ns/openshift-service-ca.crt", `{"metadata":{"name":"openshift-service-ca.crt"}}`, SkipGenerated, "includeGenerated", true},
		"secret of that name":   {"core/v1/secrets/ns/kube-root-ca.crt", `{"metadata":{"name":"kube-root-ca.crt"}}`, "", "", false},
		"kubernetes service":    {"core/v1/services/default/kubernetes", `{"metadata":{"name":"kubernetes"}}`, SkipGenerated, "includeGenerated", true},
		"kubernetes elsewhere":  {"core/v1/services/ns/kubernetes", `{"metadata":{"name":"kubernetes"}}`, "", "", false},
		"kubernetes slice":      {"discovery.k8s.io/v1/endpointslices/default/kubernetes", `{"metadata":{"name":"kubernetes"}}`, SkipGenerated, "includeGenerated", true},
		"token":                 {"core/v1/secrets/ns/a", `{"metadata":{"name":"a"},"type":"kubernetes.io/service-account-token"}`, SkipGenerated, "includeGenerated", false},
		"opaque":                {"core/v1/secrets/ns/a", `{"metadata":{"name":"a"},"type":"Opaque"}`, "", "", false},
		"controlled":            {"apps/v1/replicasets/ns/a", `{"metadata":{"name":"a","ownerReferences":[{"name":"x"},{"name":"d","controller":true}]}}`, SkipControllerOwned, "includeControlled", false},
		"owned, not controlled": {"apps/v1/replicasets/ns/a", `{"metadata":{"name":"a","ownerReferences":[{"name":"d","controller":false},{"name":"e"}]}}`, "", "", false},
		"managed endpoints":     {"core/v1/endpoints/ns/a", `{"metadata":{"name":"a","labels":{"endpoints.kubernetes.io/managed-by":"endpoint-controller"}}}`, SkipControllerOwned, "includeControlled", false},
		"own endpoints":         {"core/v1/endpoints/ns/a", `{"metadata":{"name":"a"}}`, "", "", false},
		"automatic apiservice":  {"apiregistration.k8s.io/v1/apiservices//v1.apps", `{"metadata":{"name":"v1.apps","labels":{"kube-aggregator.kubernetes.io/automanaged":"onstart"}}}`, SkipGenerated, "includeGenerated", false},
		"ignored":               {"core/v1/configmaps/ns/a", `{"metadata":{"name":"a","annotations":{"afterimage.io/ignore":"true"}}}`, SkipIgnored, "", false},
		"ignored: false":        {"core/v1/configmaps/ns/a", `{"metadata":{"name":"a","annotations":{"afterimage.io/ignore":"false"}}}`, "", "", false},
		"loop":                  {"core/v1/configmaps/ns/a", `{"metadata":{"name":"a","annotations":{"afterimage.io/live-synchronization":"x/y","afterimage.io/source-cluster":"dst-uid"}}}`, SkipLoop, "", false},
		"from a third cluster":  {"core/v1/configmaps/ns/a", `{"metadata":{"name":"a","annotations":{"afterimage.io/live-synchronization":"x/y","afterimage.io/source-cluster":"third"}}}`, "", "", false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			r := compile(t, "{"+all+"}")
			got := r.Apply(record(tc.key, tc.body))
			if got.Skip != tc.want || got.InScope != (tc.want == "") || got.Entry < 0 || got.Err != nil {
				t.Errorf("got %+v, want skip %q", got, tc.want)
			}
			key, err := ParseKey(tc.key)
			if err != nil {
				t.Fatal(err)
			}
			if skipped := r.Skipped(key); skipped != tc.byKey {
				t.Errorf("Skipped(%s) = %v, want %v", key, skipped, tc.byKey)
			}
			if tc.unless == "" {
				return
			}
			r = compile(t, fmt.Sprintf(`{%q:true,%s}`, tc.unless, all))
			if got := r.Apply(record(tc.key, tc.body)); got.Skip != "" || !got.InScope {
				t.Errorf("with %s: %+v", tc.unless, got)
			}
			if r.Skipped(key) {
				t.Errorf("with %s: still skipped by key", tc.unless)
			}
		})
	}
}

func TestLoopNeedsAKnownDestination(t *testing.T) {
	c := configOf(t, onlyConfigMaps)
	c.DestinationUID = ""
	r, err := Compile(c)
	if err != nil {
		t.Fatal(err)
	}
	got := r.Apply(record("core/v1/configmaps/ns/a", `{"metadata":{"name":"a","annotations":{"afterimage.io/live-synchronization":"x/y","afterimage.io/source-cluster":""}}}`))
	if !got.InScope || got.Skip != "" {
		t.Errorf("%+v", got)
	}
}

func TestHash(t *testing.T) {
	plain, forced := compile(t, onlyConfigMaps), compile(t, `{"forceNamespaceCreation":true,"resources":[{"version":"v1","resource":"configmaps"},{"version":"v1","resource":"nodes"}]}`)
	hash := func(r *Rules, key, body string, stamp map[string]string) string {
		rec := record(key, body)
		rec.NamespaceLabels = stamp
		v := r.Apply(rec)
		if v.Err != nil || v.Hash == "" {
			t.Fatalf("%s: %+v", body, v)
		}
		return v.Hash
	}
	const key = "core/v1/configmaps/ns/a"
	base := hash(plain, key, `{"metadata":{"name":"a","resourceVersion":"1"},"data":{"k":"v"}}`, nil)
	same := map[string]string{
		"resourceVersion, status and marks": `{"metadata":{"name":"a","resourceVersion":"2","generation":9},"status":{"x":1},"data":{"k":"v"}}`,
		"order of keys":                     `{"data":{"k":"v"},"metadata":{"resourceVersion":"1","name":"a"}}`,
		"white space":                       "{ \"metadata\":{\"name\":\"a\"},\n\"data\":{ \"k\" : \"v\"} }",
	}
	for reason, body := range same {
		if got := hash(plain, key, body, map[string]string{"l": "1"}); got != base {
			t.Errorf("%s must not count: %s, %s", reason, got, base)
		}
	}
	if hash(plain, key, `{"metadata":{"name":"a"},"data":{"k":"w"}}`, nil) == base {
		t.Error("data must count")
	}
	a := hash(forced, key, `{"metadata":{"name":"a"}}`, map[string]string{"l": "1"})
	b := hash(forced, key, `{"metadata":{"name":"a"}}`, map[string]string{"l": "2"})
	if a == b {
		t.Error("with forceNamespaceCreation the namespace's labels must count")
	}
	if hash(forced, "core/v1/nodes//a", `{"metadata":{"name":"a"}}`, nil) != hash(forced, "core/v1/nodes//a", `{"metadata":{"name":"a"}}`, map[string]string{"l": "1"}) {
		t.Error("a cluster-scoped object has no namespace")
	}
}

func TestCompileNamesFieldPaths(t *testing.T) {
	entry := func(more string) string {
		return `{"resources":[{"version":"v1","resource":"configmaps",` + more + `}]}`
	}
	const at = "spec.config.replication.resources[0]."
	cases := map[string]struct{ replication, want string }{
		"no resources":         {`{}`, "spec.config.replication.resources: Required"},
		"no version":           {`{"resources":[{"resource":"configmaps"}]}`, at + "version: Required"},
		"no resource":          {`{"resources":[{"version":"v1"}]}`, at + "resource: Required"},
		"second pattern":       {entry(`"filters":{"nameSelector":{"regex":["a","[z-a"]}}`), at + "filters.nameSelector.regex[1]: "},
		"alias":                {entry(`"filters":{"nameSelector":{"includeRegex":["[z-a"]}}`), at + "filters.nameSelector.includeRegex[0]: "},
		"exclude":              {entry(`"filters":{"nameSelector":{"excludeRegex":["(["]}}`), at + "filters.nameSelector.excludeRegex[0]: "},
		"escape out of group":  {entry(`"filters":{"nameSelector":{"regex":["a)[(b"]}}`), at + "filters.nameSelector.regex[0]: "},
		"selector":             {entry(`"filters":{"selector":{"matchExpressions":[{"key":"a","operator":"Is"}]}}`), at + "filters.selector: "},
		"namespace selector":   {entry(`"filters":{"namespaceSelector":{"matchLabels":{"a b":"c"}}}`), at + "filters.namespaceSelector: "},
		"operation":            {entry(`"transformation":{"patch":[{"op":"remove","path":"/a"},{"op":"merge","path":"/a","value":1}]}`), at + "transformation.patch[1].op: "},
		"pointer":              {entry(`"transformation":{"patch":[{"op":"remove","path":"a/b"}]}`), at + "transformation.patch[0].path: "},
		"pointer escape":       {entry(`"transformation":{"patch":[{"op":"remove","path":"/a~2b"}]}`), at + "transformation.patch[0].path: "},
		"pointer to all":       {entry(`"transformation":{"patch":[{"op":"add","path":"","value":{}}]}`), at + "transformation.patch[0].path: "},
		"no value":             {entry(`"transformation":{"patch":[{"op":"add","path":"/a"}]}`), at + "transformation.patch[0].value: "},
		"no value for replace": {entry(`"transformation":{"patch":[{"op":"replace","path":"/a"}]}`), at + "transformation.patch[0].value: "},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := Compile(configOf(t, tc.replication))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want it to contain %q", err, tc.want)
			}
		})
	}
	_, err := Compile(configOf(t, `{"resources":[{"version":"v1","resource":"a","filters":{"nameSelector":{"regex":["[z-a"]}}},{"resource":"b"}]}`))
	if err == nil || !strings.Contains(err.Error(), "resources[0]") || !strings.Contains(err.Error(), "resources[1]") {
		t.Errorf("all mistakes must be named at once: %v", err)
	}
}

func TestConfigHash(t *testing.T) {
	base := configOf(t, onlyConfigMaps)
	same := base
	same.Generation = 99
	same.Replication.ResyncPeriod = &v1alpha1.Duration{Duration: 5}
	if same.Hash() != base.Hash() {
		t.Error("generation and resync period compute nothing")
	}
	if base.Generation != 7 || same.Replication.ResyncPeriod == nil {
		t.Error("Hash changed what it hashes")
	}
	changes := map[string]func(*Config){
		"source":      func(c *Config) { c.SourceUID = "other" },
		"destination": func(c *Config) { c.DestinationUID = "other" }, // the loop guard compares with it
		"name":        func(c *Config) { c.Name = "other" },
		"switch":      func(c *Config) { c.Replication.IncludeControlled = true },
		"selector": func(c *Config) {
			c.Replication.Resources[0].Filters = &v1alpha1.Filters{Selector: &metav1.LabelSelector{}}
		},
		"patch null": func(c *Config) {
			c.Replication = configOf(t, `{"resources":[{"version":"v1","resource":"configmaps","transformation":{"patch":[{"op":"add","path":"/a","value":null}]}}]}`).Replication
		},
	}
	seen := map[string]string{base.Hash(): "base"}
	for name, change := range changes {
		c := configOf(t, onlyConfigMaps)
		change(&c)
		if other, ok := seen[c.Hash()]; ok {
			t.Errorf("%s hashes like %s", name, other)
		}
		seen[c.Hash()] = name
	}
}
