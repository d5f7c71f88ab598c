package synchronizer

import (
	"fmt"
	"testing"
	"time"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

func TestAdoptExisting(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	e.set(func(s *settings.Settings) { s.Config.Replication.AdoptExisting = true })
	e.put(e.key("a"), `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"`+e.name+`"},"data":{"x":"theirs","more":"1"}}`)
	e.start()
	e.want(e.key("a"), "ConfigMap", data("x", "1"))
	e.eventually("written", e.has("a", "x", "1"))
	e.want(e.key("a"), "ConfigMap", data("x", "2"))
	e.eventually("updated", e.has("a", "x", "2"))
	if got := field(e.get(e.key("a")), "metadata", "annotations", topology.AdoptedAnnotation); got == nil {
		t.Error("the mark of adoption is gone")
	}
	e.stop()
	e.wipe()
	e.start()
	e.want(e.key("a"), "ConfigMap", data("x", "3"))
	e.eventually("updated after the state was lost", e.has("a", "x", "3"))
	e.remove(e.key("a"))
	e.settled()
	if e.get(e.key("a")) == nil {
		t.Error("an adopted object was deleted")
	}
	if r := e.failing(e.key("a")); r != "" {
		t.Errorf("fails with %s", r)
	}
}

func TestDefaultServiceAccountIsWritten(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	key := topology.Key{Version: "v1", Resource: "serviceaccounts", Namespace: e.name, Name: "default"}
	e.put(key, `{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"default","namespace":"`+e.name+`"}}`)
	e.start()
	e.want(key, "ServiceAccount", map[string]any{"imagePullSecrets": []any{map[string]any{"name": "registry"}}})
	e.eventually("written", func() bool { return field(e.get(key), "imagePullSecrets") != nil })
	e.remove(key)
	e.settled()
	if e.get(key) == nil {
		t.Error("it was deleted")
	}
}

func secret(kind, value string) map[string]any {
	return map[string]any{"type": kind, "data": map[string]any{"v": value}}
}

func TestImmutable(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	e.start()
	key := topology.Key{Version: "v1", Resource: "secrets", Namespace: e.name, Name: "s"}
	uid := func() any { return field(e.get(key), "metadata", "uid") }
	e.want(key, "Secret", secret("example.com/a", "MQ=="))
	e.eventually("created", func() bool { return e.get(key) != nil })
	e.settled()
	first := uid()

	e.want(key, "Secret", secret("example.com/b", "MQ=="))
	e.eventually("refused", func() bool { return e.failing(key) == ReasonImmutable })
	if uid() != first {
		t.Fatal("it was recreated without being asked to")
	}

	// The source has another object under the name: the same here.
	e.want(key, "Secret", secret("example.com/b", "Mg=="), func(r *topology.Record) { r.UID = "another" })
	e.eventually("recreated as in the source", func() bool { return field(e.get(key), "type") == "example.com/b" })
	if uid() == first {
		t.Error("the type changed and the uid did not")
	}
	e.eventually("released", func() bool { return e.failing(key) == "" })

	// A recreation that no immutable field refuses is an update in place.
	second := uid()
	e.want(key, "Secret", secret("example.com/b", "Mw=="), func(r *topology.Record) { r.UID = "yet another" })
	e.eventually("updated", func() bool { return field(e.get(key), "data", "v") == "Mw==" })
	if uid() != second {
		t.Error("recreated where an update would do")
	}

	e.set(func(s *settings.Settings) { s.Config.Replication.RecreateOnImmutable = true })
	e.want(key, "Secret", secret("example.com/c", "Mw=="), func(r *topology.Record) { r.UID = "yet another" })
	e.eventually("recreated as asked", func() bool { return field(e.get(key), "type") == "example.com/c" })
}

func TestOrphans(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	e.start()
	key := topology.Key{Version: "v1", Resource: "persistentvolumeclaims", Namespace: e.name, Name: "claim"}
	e.want(key, "PersistentVolumeClaim", map[string]any{"spec": map[string]any{
		"accessModes": []any{"ReadWriteOnce"}, "resources": map[string]any{"requests": map[string]any{"storage": "1Gi"}},
	}})
	e.eventually("created", func() bool { return e.get(key) != nil })
	e.remove(key)
	e.settled()
	if e.get(key) == nil {
		t.Fatal("a volume claim was deleted without being asked for")
	}
	e.resync()
	if e.get(key) == nil {
		t.Fatal("an orphan was deleted by a resync")
	}
	e.want(e.key("a"), "ConfigMap", data("x", "1"))
	e.settled()
	e.set(func(s *settings.Settings) { s.Config.Replication.DeletionPolicy = v1alpha1.DeletionPolicyOrphan })
	e.remove(e.key("a"))
	e.settled()
	if e.get(e.key("a")) == nil {
		t.Fatal("deleted with policy Orphan")
	}
	results := map[string]string{}
	for _, r := range e.read(e.topics.Outcomes) {
		results[r.Key] = r.Reason
	}
	for _, k := range []topology.Key{key, e.key("a")} {
		if got := results[k.String()]; got != string(Orphaned) {
			t.Errorf("outcome of %s: %q", k, got)
		}
	}
}

func TestForcedNamespace(t *testing.T) {
	e := newEnv(t, destination(t))
	e.set(func(s *settings.Settings) { s.Config.Replication.ForceNamespaceCreation = true })
	e.start()
	stamp := func(rv, value string) func(*topology.Record) {
		return func(r *topology.Record) {
			r.Version.NamespaceRV = rv
			r.NamespaceLabels = map[string]string{"team": value, "kubernetes.io/metadata.name": e.name}
			r.NamespaceAnnotations = map[string]string{"note": value}
		}
	}
	ns := topology.Key{Version: "v1", Resource: "namespaces", Name: e.name}
	for i := range 20 {
		e.want(e.key(fmt.Sprint("c", i)), "ConfigMap", data("x", "1"), stamp("10", "a"))
	}
	e.settled()
	for i := range 20 {
		e.eventually("applied", e.has(fmt.Sprint("c", i), "x", "1"))
	}
	if got := field(e.get(ns), "metadata", "labels", "team"); got != "a" {
		t.Errorf("label: %v", got)
	}
	if !e.logs.contains(`"msg":"`+logging.NamespaceCreated+`"`) || e.logs.contains(`"msg":"`+logging.ObjectCreated+`","process":{"id":"synchronizer","consumerID":"test"},"event":{"type":"create"},"sourceObject":{"apiGroup":"","apiVersion":"v1","name":"`+e.name+`"`) {
		t.Error("the creation of a namespace is said otherwise than once, as that of a namespace")
	}
	e.want(e.key("c0"), "ConfigMap", data("x", "2"), stamp("11", "b"))
	e.eventually("label kept up to date", func() bool { return field(e.get(ns), "metadata", "labels", "team") == "b" })
	e.want(e.key("c1"), "ConfigMap", data("x", "2"), stamp("10", "a"))
	e.eventually("applied", e.has("c1", "x", "2"))
	o := e.get(ns)
	if field(o, "metadata", "labels", "team") != "b" || field(o, "metadata", "annotations", "note") != "b" {
		t.Errorf("an older stamp replaced a newer one: %v", field(o, "metadata", "labels"))
	}
	e.remove(ns)
	e.settled()
	if got := e.get(ns); field(got, "metadata", "deletionTimestamp") != nil {
		t.Error("a forced namespace was pruned")
	}
}

func TestNamespaceIsDeletedOnlyWhenEmpty(t *testing.T) {
	e := newEnv(t, destination(t))
	e.start()
	ns := topology.Key{Version: "v1", Resource: "namespaces", Name: e.name}
	e.want(ns, "Namespace", nil)
	e.eventually("created", func() bool { return e.get(ns) != nil })
	e.want(e.key("a"), "ConfigMap", data("x", "1"))
	e.eventually("applied", e.has("a", "x", "1"))
	e.put(e.key("theirs"), `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"theirs","namespace":"`+e.name+`"}}`)
	e.remove(ns)
	e.eventually("kept, since it is not empty", func() bool { return e.failing(ns) == ReasonNotEmpty })
	if field(e.get(ns), "metadata", "deletionTimestamp") != nil {
		t.Fatal("deleted with what is not ours inside")
	}
	must(t, e.kube.Delete(t.Context(), e.resource(e.key("theirs")), e.key("theirs"), kube.Preconditions{}))
	// Without a controller manager the namespace stays terminating: visible as pending.
	e.eventually("deleted, and pending", func() bool { return e.failing(ns) == ReasonTerminating })
	if field(e.get(ns), "metadata", "deletionTimestamp") == nil {
		t.Error("not deleted")
	}
	// And what is to be created in it waits.
	e.want(e.key("b"), "ConfigMap", data("x", "1"))
	e.eventually("waits", func() bool { return e.failing(e.key("b")) == ReasonNamespaceTerminating })
}

func TestFinalizerIsVisible(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	e.start()
	e.want(e.key("a"), "ConfigMap", data("x", "1"))
	e.eventually("applied", e.has("a", "x", "1"))
	e.edit("a", `[{"op":"add","path":"/metadata/finalizers","value":["example.com/wait"]}]`)
	e.remove(e.key("a"))
	e.eventually("pending", func() bool { return e.failing(e.key("a")) == ReasonTerminating })
	e.edit("a", `[{"op":"remove","path":"/metadata/finalizers"}]`)
	e.eventually("gone", func() bool { return e.failing(e.key("a")) == "" && e.get(e.key("a")) == nil })
}

func TestDefinitionAppearsLater(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	e.opts = func(o *Options) { o.RetryMax = 20 * time.Second }
	e.start()
	group := e.name + ".example.com"
	key := topology.Key{Group: group, Version: "v1", Resource: "things", Namespace: e.name, Name: "a"}
	e.want(key, "Thing", map[string]any{"spec": map[string]any{"x": "1"}})
	e.eventually("waits", func() bool { return e.failing(key) == ReasonNotServed })
	time.Sleep(3 * time.Second) // so that the delay has grown
	crd := topology.Key{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions", Name: "things." + group}
	e.want(crd, "CustomResourceDefinition", map[string]any{"spec": map[string]any{
		"group": group, "scope": "Namespaced", "names": map[string]any{"plural": "things", "singular": "thing", "kind": "Thing"},
		"versions": []any{map[string]any{"name": "v1", "served": true, "storage": true, "schema": map[string]any{
			"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}},
	}})
	served := time.Now()
	e.eventually("defined", func() bool {
		_, err := e.kube.Resolve(t.Context(), group, "v1", "things")
		served = time.Now()
		return err == nil
	})
	e.eventually("created", func() bool { return e.get(key) != nil })
	// Tried within 2 s; and the API server holds the first creates of a new
	// definition back for 2 s of its own.
	if d := time.Since(served); d > 4*time.Second {
		t.Errorf("created %v after its definition was served", d)
	}
	// Definitions take what they define with them: not while others use it.
	e.put(topology.Key{Group: group, Version: "v1", Resource: "things", Namespace: e.name, Name: "theirs"},
		`{"apiVersion":"`+group+`/v1","kind":"Thing","metadata":{"name":"theirs","namespace":"`+e.name+`"}}`)
	e.remove(crd)
	e.eventually("kept", func() bool { return e.failing(crd) == ReasonNotEmpty })
}

func TestEditedAPIVersionKeepsTheObject(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	e.start()
	spec := map[string]any{"spec": map[string]any{
		"scaleTargetRef": map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}, "maxReplicas": 3,
	}}
	old := topology.Key{Group: "autoscaling", Version: "v1", Resource: "horizontalpodautoscalers", Namespace: e.name, Name: "h"}
	now := old
	now.Version = "v2"
	e.want(old, "HorizontalPodAutoscaler", spec)
	e.eventually("created", func() bool { return e.get(old) != nil })
	e.settled()
	uid := field(e.get(old), "metadata", "uid")
	e.want(now, "HorizontalPodAutoscaler", spec)
	e.eventually("taken over", func() bool {
		return field(e.get(now), "metadata", "annotations", topology.KeyAnnotation) == now.String()
	})
	e.remove(old)
	e.settled()
	if got := field(e.get(now), "metadata", "uid"); got != uid {
		t.Errorf("the object under its new key: %v, was %v", got, uid)
	}
}
