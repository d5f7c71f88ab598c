package v1alpha1

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func TestExclusion(t *testing.T) {
	cases := map[string]struct {
		reason, expression, path string
		want                     bool
	}{
		"none":         {"nothing is excluded by default", "", "/app/locks", false},
		"anywhere":     {"it is searched for", "locks", "/app/locks-2/a", true},
		"anchored":     {"^ and $ are for who means the whole path", "^/app/locks$", "/app/locks-2", false},
		"anchored, is": {"the whole path matches", "^/app/locks$", "/app/locks", true},
		"case":         {"as RE2 has it", "LOCKS", "/app/locks", false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			excluded, err := (&NodesConfig{ExcludePathRegexp: tc.expression}).Exclusion()
			if err != nil {
				t.Fatal(err)
			}
			if got := excluded(tc.path); got != tc.want {
				t.Errorf("%s: %q of %s = %v", tc.reason, tc.expression, tc.path, got)
			}
		})
	}
	if _, err := (&NodesConfig{ExcludePathRegexp: "(?!a)"}).Exclusion(); err == nil || !strings.Contains(err.Error(), "expected an RE2 regular expression") {
		t.Errorf("got %v", err)
	}
}

func TestCreatesRoot(t *testing.T) {
	yes, no := true, false
	for name, tc := range map[string]struct {
		config NodesConfig
		want   bool
	}{
		"neither":       {NodesConfig{}, false},
		"the name":      {NodesConfig{CreateRootPath: &yes}, true},
		"the alias":     {NodesConfig{CreateRoutePath: &yes}, true},
		"the name, no":  {NodesConfig{CreateRootPath: &no}, false},
		"the alias, no": {NodesConfig{CreateRoutePath: &no}, false},
	} {
		if got := tc.config.CreatesRoot(); got != tc.want {
			t.Errorf("%s: %v; want %v", name, got, tc.want)
		}
	}
}

func TestPluginName(t *testing.T) {
	for written, want := range map[string]string{
		PluginKubernetes: PluginKubernetes, PluginZooKeeper: PluginZooKeeper, "zookeeper-nodes-to-zookeeper": PluginZooKeeper,
	} {
		live, run := LiveSynchronizationSpec{Plugin: written}, SynchronizationSpec{Plugin: written}
		if live.PluginName() != want || run.PluginName() != want {
			t.Errorf("%s: %s and %s; want %s", written, live.PluginName(), run.PluginName(), want)
		}
	}
}

// TestNoReplicationIsWritten: what was absent stays absent, since an empty one is
// refused.
func TestNoReplicationIsWritten(t *testing.T) {
	in := &Synchronization{Spec: SynchronizationSpec{Plugin: PluginZooKeeper, Config: LiveSynchronizationConfig{
		SourceName: "a", DestinationName: "b", NodesConfig: NodesConfig{RootPath: "/app"},
	}}}
	got, err := runtime.DefaultUnstructuredConverter.ToUnstructured(in)
	if err != nil {
		t.Fatal(err)
	}
	config := got["spec"].(map[string]any)["config"].(map[string]any)
	want := map[string]any{"sourceName": "a", "destinationName": "b", "rootPath": "/app", "observability": map[string]any{}, "components": map[string]any{}}
	if diff := cmp.Diff(want, config); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestZookeeperIsADatabase(t *testing.T) {
	z := &Zookeeper{ObjectMeta: metav1.ObjectMeta{Namespace: "dr", Name: "zk"}, Spec: ZookeeperSpec{Client: ZookeeperClient{Servers: []string{"a:1"}}}}
	d := z.Database()
	if d.Kind != KindDatabase || d.Namespace != "dr" || d.Name != "zk" {
		t.Errorf("%s %s/%s", d.Kind, d.Namespace, d.Name)
	}
	d.Spec.Zookeeper.Client.Servers[0] = "b:2"
	if z.Spec.Client.Servers[0] != "a:1" {
		t.Error("a change of the Database changed the Zookeeper")
	}
}
