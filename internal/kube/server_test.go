package kube

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/afterimage-dr/afterimage/internal/testenv"
	"github.com/afterimage-dr/afterimage/topology"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// connect returns a client of the shared source cluster and a new namespace there.
func connect(t testing.TB) (*Client, string) {
	t.Helper()
	source, _ := testenv.Pair(t)
	c, err := New(source.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	return c, newNamespace(t, c)
}

func newNamespace(t testing.TB, c *Client) string {
	t.Helper()
	object, err := c.Create(t.Context(), Namespaces, "", []byte(`{"metadata":{"generateName":"kube-test-"}}`), "test")
	if err != nil {
		t.Fatal(err)
	}
	return mustMeta(t, object).Name
}

func mustMeta(t testing.TB, object []byte) Meta {
	t.Helper()
	m, err := MetaOf(object)
	if err != nil {
		t.Fatalf("%v in %s", err, object)
	}
	return m
}

func keyOf(namespace, name string) topology.Key {
	return topology.Key{Version: "v1", Resource: "configmaps", Namespace: namespace, Name: name}
}

func configMap(namespace, name, data string) []byte {
	return fmt.Appendf(nil, `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"namespace":%q,"name":%q},"data":{"k":%q}}`, namespace, name, data)
}

func mustCreate(t testing.TB, c *Client, namespace, name, data string) Meta {
	t.Helper()
	object, err := c.Create(t.Context(), configMaps, namespace, configMap(namespace, name, data), "test")
	if err != nil {
		t.Fatal(err)
	}
	return mustMeta(t, object)
}

func TestListPages(t *testing.T) {
	c, ns := connect(t)
	for i := range 25 {
		mustCreate(t, c, ns, fmt.Sprintf("cm-%02d", i), "v")
	}
	var names []string
	var rv string
	o := ListOptions{Namespace: ns, Limit: 10}
	for pages := 1; ; pages++ {
		page, err := c.ListPage(t.Context(), configMaps, o)
		if err != nil {
			t.Fatal(err)
		}
		if rv != "" && page.ResourceVersion != rv {
			t.Errorf("page %d has resourceVersion %s, the first had %s", pages, page.ResourceVersion, rv)
		}
		rv = page.ResourceVersion
		for _, item := range page.Items {
			names = append(names, mustMeta(t, item).Name)
			got, err := c.Get(t.Context(), configMaps, keyOf(ns, names[len(names)-1]))
			if err != nil {
				t.Fatal(err)
			}
			if string(item) != strings.TrimSpace(string(got)) {
				t.Fatalf("an item of a list and a GET differ:\n%s\n%s", item, got)
			}
		}
		if o.Continue = page.Continue; o.Continue == "" {
			if pages != 3 {
				t.Errorf("25 objects came in %d pages of 10", pages)
			}
			break
		}
		if want := int64(25 - len(names)); page.Remaining != want {
			t.Errorf("page %d: %d remain, want %d", pages, page.Remaining, want)
		}
	}
	if len(names) != 25 || !slices.IsSorted(names) {
		t.Errorf("got %v: want 25 names in order", names)
	}
	page, err := c.ListPage(t.Context(), configMaps, ListOptions{Namespace: ns, LabelSelector: "no=such"})
	if err != nil || len(page.Items) != 0 || page.ResourceVersion == "" {
		t.Errorf("an empty listing: %+v, %v", page, err)
	}
}

func TestExpiry(t *testing.T) {
	server := testenv.StartCluster(t, testenv.WithoutWatchCache())
	c, err := New(server.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	ns := newNamespace(t, c)
	for i := range 5 {
		mustCreate(t, c, ns, fmt.Sprintf("cm-%d", i), "v")
	}
	page, err := c.ListPage(t.Context(), configMaps, ListOptions{Namespace: ns, Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	mustCreate(t, c, ns, "later", "v")
	mustCreate(t, c, ns, "latest", "v") // the newest revision itself is not compacted
	server.Compact()
	_, err = c.ListPage(t.Context(), configMaps, ListOptions{Namespace: ns, Limit: 2, Continue: page.Continue})
	if !apierrors.IsResourceExpired(err) {
		t.Errorf("continue after compaction: got %v, want Expired", err)
	}
	w, err := c.Watch(t.Context(), configMaps, ns, page.ResourceVersion)
	if err == nil {
		defer w.Close()
		_, err = w.Next()
	}
	if !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
		t.Errorf("watch after compaction: got %v, want Expired or Gone", err)
	}
}

func TestWatchSeesEverything(t *testing.T) {
	c, ns := connect(t)
	page, err := c.ListPage(t.Context(), configMaps, ListOptions{Namespace: ns})
	if err != nil {
		t.Fatal(err)
	}
	w, err := c.Watch(t.Context(), configMaps, ns, page.ResourceVersion)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	created := mustCreate(t, c, ns, "a", "1")
	updated, err := c.JSONPatch(t.Context(), configMaps, keyOf(ns, "a"), []byte(`[{"op":"replace","path":"/data/k","value":"2"}]`), "test")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(t.Context(), configMaps, keyOf(ns, "a"), Preconditions{UID: created.UID}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []EventType{Added, Modified, Deleted} {
		ev, err := w.Next()
		if err != nil || ev.Type != want {
			t.Fatalf("got %s (%v), want %s", ev.Type, err, want)
		}
		m := mustMeta(t, ev.Object)
		if want == Modified && strings.TrimSpace(string(updated)) != string(ev.Object) {
			t.Errorf("event and answer differ:\n%s\n%s", ev.Object, updated)
		}
		if want == Deleted && m.ResourceVersion == mustMeta(t, updated).ResourceVersion {
			t.Errorf("a delete has no resourceVersion of its own")
		}
	}
}

func TestWatchBookmarks(t *testing.T) {
	c, ns := connect(t)
	mustCreate(t, c, ns, "a", "1")
	page, err := c.ListPage(t.Context(), configMaps, ListOptions{Namespace: ns})
	if err != nil {
		t.Fatal(err)
	}
	// A server sends a bookmark about 2 s before it ends a watch, if it has gone on
	// meanwhile: ask for a short one, and write elsewhere.
	w, err := c.watch(t.Context(), configMaps, ns, page.ResourceVersion, 6*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	elsewhere := mustCreate(t, c, newNamespace(t, c), "b", "1")
	bookmarks := 0
	for {
		ev, err := w.Next()
		if err == io.EOF {
			break
		}
		if err != nil || ev.Type != Bookmark {
			t.Fatalf("got %s, %v", ev.Type, err)
		}
		if got := mustMeta(t, ev.Object).ResourceVersion; got != elsewhere.ResourceVersion {
			t.Errorf("a bookmark with resourceVersion %q, want that of the write elsewhere, %s", got, elsewhere.ResourceVersion)
		}
		bookmarks++
	}
	if bookmarks == 0 {
		t.Error("no bookmark came")
	}
}

func TestMetadataOnly(t *testing.T) {
	c, ns := connect(t)
	full := mustCreate(t, c, ns, "a", "secret-data")
	m := c.Metadata()
	page, err := m.ListPage(t.Context(), configMaps, ListOptions{Namespace: ns, Limit: 5})
	if err != nil || len(page.Items) != 1 {
		t.Fatalf("%d items, %v", len(page.Items), err)
	}
	got, err := m.Get(t.Context(), configMaps, keyOf(ns, "a"))
	if err != nil {
		t.Fatal(err)
	}
	created, err := m.Create(t.Context(), configMaps, ns, configMap(ns, "b", "secret-data"), "test")
	if err != nil {
		t.Fatal(err)
	}
	w, err := m.Watch(t.Context(), configMaps, ns, full.ResourceVersion)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	ev, err := w.Next()
	if err != nil {
		t.Fatal(err)
	}
	for what, object := range map[string][]byte{"list": page.Items[0], "get": got, "create": created, "watch": ev.Object} {
		meta := mustMeta(t, object)
		if strings.Contains(string(object), "secret-data") || !strings.Contains(string(object), `"kind":"PartialObjectMetadata"`) || meta.UID == "" ||
			len(meta.ManagedFields) != 1 {
			t.Errorf("%s: %s", what, object)
		}
	}
}

func TestClusterUID(t *testing.T) {
	source, destination := testenv.Pair(t)
	var uids []string
	for _, cfg := range []*testenv.Cluster{source, source, destination} {
		c, err := New(cfg.RESTConfig())
		if err != nil {
			t.Fatal(err)
		}
		uid, err := c.ClusterUID(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		uids = append(uids, uid)
	}
	if len(uids[0]) != 36 || uids[0] != uids[1] || uids[0] == uids[2] {
		t.Errorf("got uids %v of source, source and destination", uids)
	}
}

func TestWrongTokenIsUnavailable(t *testing.T) {
	source, _ := testenv.Pair(t)
	cfg := source.RESTConfig()
	cfg.BearerToken = "wrong"
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.ClusterUID(t.Context()); !apierrors.IsUnauthorized(err) || !Unavailable(err) {
		t.Errorf("got %v", err)
	}
	cfg = source.RESTConfig()
	cfg.CAData = nil
	if c, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ClusterUID(t.Context()); !Unavailable(err) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown authority: got %v", err)
	}
}

func TestLargeObject(t *testing.T) {
	c, ns := connect(t)
	data := strings.Repeat("0123456789abcdef", 60_000) // 960 kB; a ConfigMap may hold 1 MiB
	mustCreate(t, c, ns, "big", data)
	page, err := c.ListPage(t.Context(), configMaps, ListOptions{Namespace: ns})
	if err != nil || len(page.Items) != 1 {
		t.Fatal(err)
	}
	var o struct{ Data map[string]string }
	if err := json.Unmarshal(page.Items[0], &o); err != nil || o.Data["k"] != data {
		t.Errorf("a large object did not survive: %v, %d bytes", err, len(o.Data["k"]))
	}
}
