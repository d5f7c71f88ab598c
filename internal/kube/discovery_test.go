package kube

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/afterimage-dr/afterimage/internal/testenv"
	"github.com/afterimage-dr/afterimage/topology"
)

const widgetCRD = `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"widgets.kube.test"},
 "spec":{"group":"kube.test","scope":"Namespaced","names":{"plural":"widgets","singular":"widget","kind":"Widget","shortNames":["wd"]},
 "versions":[{"name":"v1","served":true,"storage":true,"subresources":{"status":{}},
  "schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}},
  {"name":"v0","served":false,"storage":false,"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}`

func TestResolve(t *testing.T) {
	c, ns := connect(t)
	crds, err := c.Resolve(t.Context(), "apiextensions.k8s.io", "v1", "CustomResourceDefinition")
	if err != nil || crds.Namespaced || !crds.Can("watch") {
		t.Fatalf("%+v, %v", crds, err)
	}
	if _, err := c.Resolve(t.Context(), "kube.test", "v1", "widgets"); !errors.Is(err, ErrNotServed) {
		t.Errorf("before its CRD: %v", err)
	}
	if _, err := c.Create(t.Context(), crds, "", []byte(widgetCRD), "test"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		key := topology.Key{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions", Name: "widgets.kube.test"}
		if err := c.Delete(context.Background(), crds, key, Preconditions{}); err != nil {
			t.Error(err)
		}
	})
	var widgets Resource
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if widgets, err = c.Resolve(t.Context(), "kube.test", "v1", "widgets"); err == nil {
			break
		}
		if !errors.Is(err, ErrNotServed) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct{ group, version, name, want string }{
		{"kube.test", "v1", "Widget", "widgets"},
		{"kube.test", "v1", "WIDGETS", "widgets"},
		{"kube.test", "v1", "widget", "widgets"},
		{"kube.test", "v1", "wd", "widgets"},
		{"kube.test", "v1", "gadgets", ""},
		{"kube.test", "v1", "widgets/status", ""},
		{"kube.test", "v0", "widgets", ""},
		{"", "v1", "cm", "configmaps"},
		{"", "v1", "Secret", "secrets"},
		{"", "v1", "serviceaccounts/token", ""},
		{"", "v2", "secrets", ""},
		{"apps", "v1", "deploy", "deployments"},
		{"apps", "v1beta2", "deployments", ""},
	} {
		r, err := c.Resolve(t.Context(), tc.group, tc.version, tc.name)
		if r.Resource != tc.want || (tc.want == "") != errors.Is(err, ErrNotServed) {
			t.Errorf("%s/%s %s: got %q, %v; want %q", tc.group, tc.version, tc.name, r.Resource, err, tc.want)
		}
	}
	object, err := c.Create(t.Context(), widgets, ns, []byte(`{"apiVersion":"kube.test/v1","kind":"Widget","metadata":{"name":"w"},"spec":{"n":12345678901234567}}`), "test")
	if err != nil || !strings.Contains(string(object), "12345678901234567") {
		t.Fatalf("%v: %s", err, object)
	}
	page, err := c.ListPage(t.Context(), widgets, ListOptions{Namespace: ns})
	if err != nil || len(page.Items) != 1 || string(page.Items[0]) != strings.TrimSpace(string(object)) {
		t.Errorf("custom resources: %v, %s, want %s", err, page.Items, object)
	}
}

// An aggregated API whose server is away is served all the same.
func TestBrokenAggregatedAPIIsServed(t *testing.T) {
	server := testenv.StartCluster(t)
	c, err := New(server.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	services, err := c.Resolve(t.Context(), "apiregistration.k8s.io", "v1", "apiservices")
	if err != nil {
		t.Fatal(err)
	}
	body := []byte(`{"apiVersion":"apiregistration.k8s.io/v1","kind":"APIService","metadata":{"name":"v1.broken.test"},
		"spec":{"group":"broken.test","version":"v1","insecureSkipTLSVerify":true,"groupPriorityMinimum":1000,"versionPriority":10,"service":{"namespace":"default","name":"none"}}}`)
	if _, err := c.Create(t.Context(), services, "", body, "test"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		_, err := c.Resolve(t.Context(), "broken.test", "v1", "things")
		if err != nil && !errors.Is(err, ErrNotServed) {
			t.Logf("as wanted: %v", err)
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a broken aggregated API: %v", err)
		}
	}
	if _, err := c.Resolve(t.Context(), "apps", "v1", "deployments"); err != nil {
		t.Errorf("the other groups must not suffer: %v", err)
	}
}
