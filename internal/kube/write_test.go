package kube

import (
	"fmt"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestDeletePreconditions(t *testing.T) {
	c, ns := connect(t)
	m := mustCreate(t, c, ns, "a", "1")
	key := keyOf(ns, "a")
	for name, p := range map[string]Preconditions{
		"another uid":             {UID: "00000000-0000-0000-0000-000000000000"},
		"another resourceVersion": {UID: m.UID, ResourceVersion: "1"},
	} {
		if err := c.Delete(t.Context(), configMaps, key, p); !apierrors.IsConflict(err) {
			t.Errorf("%s: got %v, want a conflict", name, err)
		}
	}
	if err := c.Delete(t.Context(), configMaps, key, Preconditions{UID: m.UID, ResourceVersion: m.ResourceVersion}); err != nil {
		t.Error(err)
	}
	if err := c.Delete(t.Context(), configMaps, key, Preconditions{}); !apierrors.IsNotFound(err) {
		t.Errorf("deleted twice: got %v, want not found", err)
	}
}

func TestApply(t *testing.T) {
	c, ns := connect(t)
	key := keyOf(ns, "a")
	body := func(uid, rv, data string) []byte {
		return fmt.Appendf(nil, `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"namespace":%q,"name":"a","uid":%q,"resourceVersion":%q},"data":{%s}}`, ns, uid, rv, data)
	}
	if _, err := c.Apply(t.Context(), configMaps, key, body("00000000-0000-0000-0000-000000000000", "5", `"k":"1"`), "afterimage"); !apierrors.IsConflict(err) {
		t.Errorf("apply with a uid on a missing object: got %v, want a conflict", err)
	}
	object, err := c.Apply(t.Context(), configMaps, key, body("", "", `"k":"1","gone":"x"`), "afterimage")
	if err != nil {
		t.Fatal(err)
	}
	m := mustMeta(t, object)
	if len(m.ManagedFields) != 1 || m.ManagedFields[0].Manager != "afterimage" || m.ManagedFields[0].Operation != "Apply" ||
		!strings.Contains(string(m.ManagedFields[0].FieldsV1), `"f:gone"`) {
		t.Errorf("managedFields after an apply: %+v", m.ManagedFields)
	}
	if _, err := c.Apply(t.Context(), configMaps, key, body(m.UID, "1", `"k":"2"`), "afterimage"); !apierrors.IsConflict(err) {
		t.Errorf("apply at an old resourceVersion: got %v, want a conflict", err)
	}
	object, err = c.Apply(t.Context(), configMaps, key, body(m.UID, m.ResourceVersion, `"k":"2"`), "afterimage")
	if err != nil || strings.Contains(string(object), "gone") {
		t.Errorf("apply with preconditions: %v, %s", err, object)
	}
}

func TestWriteErrors(t *testing.T) {
	c, ns := connect(t)
	mustCreate(t, c, ns, "a", "1")
	ctx := t.Context()
	_, err := c.Create(ctx, configMaps, ns, configMap(ns, "a", "1"), "test")
	if !apierrors.IsAlreadyExists(err) {
		t.Errorf("created twice: %v", err)
	}
	_, err = c.Create(ctx, configMaps, "no-such-namespace", configMap("no-such-namespace", "a", "1"), "test")
	if !apierrors.IsNotFound(err) {
		t.Errorf("created in a missing namespace: %v", err)
	}
	_, err = c.Create(ctx, configMaps, ns, configMap(ns, "Not A Name", "1"), "test")
	if !apierrors.IsInvalid(err) {
		t.Errorf("created with a bad name: %v", err)
	}
	_, err = c.JSONPatch(ctx, configMaps, keyOf(ns, "a"), []byte(`[{"op":"test","path":"/data/k","value":"other"}]`), "test")
	if !apierrors.IsInvalid(err) {
		t.Errorf("failed test operation: %v", err)
	}
	_, err = c.Get(ctx, configMaps, keyOf(ns, "none"))
	if !apierrors.IsNotFound(err) || Unavailable(err) {
		t.Errorf("got a missing object: %v", err)
	}
	_, err = c.ListPage(ctx, Resource{GroupVersionResource: schema.GroupVersionResource{Group: "no.such", Version: "v1", Resource: "things"}}, ListOptions{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("listed a resource that is not served: %v", err)
	}
}

// A dry run is checked by the server and changes nothing, a delete included: its
// options are in its body, which makes the server ignore the query.
func TestDryRunChangesNothing(t *testing.T) {
	c, ns := connect(t)
	dry := c.DryRun()
	key := keyOf(ns, "a")
	was := mustCreate(t, c, ns, "a", "1")
	for name, write := range map[string]func() error{
		"create": func() error {
			_, err := dry.Create(t.Context(), configMaps, ns, configMap(ns, "b", "1"), "test")
			return err
		},
		"apply": func() error {
			_, err := dry.Apply(t.Context(), configMaps, key, configMap(ns, "a", "2"), "test")
			return err
		},
		"json patch": func() error {
			_, err := dry.JSONPatch(t.Context(), configMaps, key, []byte(`[{"op":"replace","path":"/data/k","value":"2"}]`), "test")
			return err
		},
		"merge patch": func() error {
			_, err := dry.MergePatch(t.Context(), configMaps, key, []byte(`{"data":{"k":"2"}}`), "test")
			return err
		},
		"delete": func() error { return dry.Delete(t.Context(), configMaps, key, Preconditions{UID: was.UID}) },
	} {
		if err := write(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		is, err := c.Get(t.Context(), configMaps, key)
		if err != nil {
			t.Fatalf("after a dry run of %s: %v", name, err)
		}
		if m := mustMeta(t, is); m.ResourceVersion != was.ResourceVersion {
			t.Errorf("a dry run of %s changed the object", name)
		}
	}
	if _, err := c.Get(t.Context(), configMaps, keyOf(ns, "b")); err == nil {
		t.Error("a dry run created an object")
	}
}
