package compare

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/afterimage-dr/afterimage/internal/testenv"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// replication of the test: a patch that not every object can take.
const replication = `
forceNamespaceCreation: true
resources:
  - version: v1
    resource: configmaps
    filters:
      namespaceSelector:
        matchLabels: {copy: "yes"}
    transformation:
      patch:
        - {op: replace, path: /data/where, value: destination}
  - version: v1
    resource: services
    filters:
      namespaceSelector:
        matchLabels: {copy: "yes"}
`

// TestRun puts every kind of difference between two real clusters and expects
// each to be found, and nothing else.
func TestRun(t *testing.T) {
	source, destination := testenv.Pair(t)
	from, to := clientOf(t, source.RESTConfig()), clientOf(t, destination.RESTConfig())
	config := topology.Config{Namespace: "default", Name: "compared"}
	if err := yaml.UnmarshalStrict([]byte(replication), &config.Replication); err != nil {
		t.Fatal(err)
	}
	config.SourceUID = uidOf(t, from)
	owned := map[string]any{
		topology.LiveSynchronizationAnnotation: "default/compared", topology.SourceClusterAnnotation: config.SourceUID,
	}

	namespace := func(name, copied string) map[string]any {
		return object("v1", "Namespace", "", name, nil, map[string]any{"metadata": map[string]any{"name": name, "labels": map[string]any{"copy": copied}}})
	}
	data := func(name, where string, annotations map[string]any, more ...string) map[string]any {
		d := map[string]any{"where": where}
		for _, k := range more {
			d[k] = "x"
		}
		return object("v1", "ConfigMap", "cmp", name, annotations, map[string]any{"data": d})
	}
	put(t, from, "namespaces", namespace("cmp", "yes"), namespace("cmp-absent", "yes"), namespace("cmp-other", "no"))
	put(t, to, "namespaces", namespace("cmp", "yes"))
	put(t, from, "configmaps",
		data("equal", "source", nil), data("missing", "source", nil), data("differs", "source", nil),
		data("more", "source", nil), data("foreign-but-equal", "source", nil),
		object("v1", "ConfigMap", "cmp", "held", nil, map[string]any{"data": map[string]any{"no": "such field"}}),
		object("v1", "ConfigMap", "cmp-absent", "one", nil, map[string]any{"data": map[string]any{"where": "source"}}),
		object("v1", "ConfigMap", "cmp-other", "not-covered", nil, map[string]any{"data": map[string]any{"where": "source"}}),
	)
	put(t, to, "configmaps",
		data("equal", "destination", owned), data("differs", "source", owned), data("more", "destination", owned, "left-over"),
		data("foreign-but-equal", "destination", nil), data("extra", "destination", owned), data("foreign", "destination", nil),
	)
	service := map[string]any{"spec": map[string]any{"type": "NodePort", "ports": []any{map[string]any{"port": int64(80), "protocol": "TCP", "targetPort": int64(80)}}}}
	put(t, from, "services", object("v1", "Service", "cmp", "web", nil, service))
	put(t, to, "services", object("v1", "Service", "cmp", "web", owned, service))

	r, err := Run(context.Background(), source.RESTConfig(), destination.RESTConfig(), config)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, d := range r.Differences {
		got[d.Key.String()] = d.What
	}
	want := map[string]string{
		"core/v1/configmaps/cmp/missing":    Missing,
		"core/v1/configmaps/cmp/differs":    Differs,
		"core/v1/configmaps/cmp/more":       Differs,
		"core/v1/configmaps/cmp/held":       Held,
		"core/v1/configmaps/cmp/extra":      Extra,
		"core/v1/configmaps/cmp-absent/one": Missing,
		"core/v1/namespaces//cmp-absent":    Missing,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("differences (-want +got):\n%s\n%v", diff, r.Differences)
	}
	if r.Equal() || r.Total() != 10 {
		t.Errorf("equal %v, %d objects; want not equal, 10 objects (7 ConfigMaps, 1 Service, 2 namespaces)", r.Equal(), r.Total())
	}
	{
		policy := config
		policy.Replication.DeletionPolicy = v1alpha1.DeletionPolicyOrphan
		r, err := Run(context.Background(), source.RESTConfig(), destination.RESTConfig(), policy)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Differences) != len(want)-1 {
			t.Errorf("with deletionPolicy Orphan: %v; want all but the extra one", r.Differences)
		}
	}
}

func clientOf(t *testing.T, c *rest.Config) dynamic.Interface {
	t.Helper()
	client, err := dynamic.NewForConfig(c)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func uidOf(t *testing.T, c dynamic.Interface) string {
	t.Helper()
	ns, err := c.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).Get(context.Background(), metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return string(ns.GetUID())
}

func object(version, kind, namespace, name string, annotations map[string]any, fields map[string]any) map[string]any {
	meta := map[string]any{"name": name}
	if namespace != "" {
		meta["namespace"] = namespace
	}
	if annotations != nil {
		meta["annotations"] = annotations
	}
	o := map[string]any{"apiVersion": version, "kind": kind, "metadata": meta}
	for k, v := range fields {
		o[k] = v
	}
	return (&unstructured.Unstructured{Object: o}).DeepCopy().Object
}

func put(t *testing.T, c dynamic.Interface, resource string, objects ...map[string]any) {
	t.Helper()
	gvr := schema.GroupVersionResource{Version: "v1", Resource: resource}
	for _, o := range objects {
		u := &unstructured.Unstructured{Object: o}
		var r dynamic.ResourceInterface = c.Resource(gvr)
		if ns := u.GetNamespace(); ns != "" {
			r = c.Resource(gvr).Namespace(ns)
		}
		if _, err := r.Create(context.Background(), u, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}
