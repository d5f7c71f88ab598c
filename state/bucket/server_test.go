package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"

	"github.com/afterimage-dr/afterimage/internal/testenv"
	"github.com/afterimage-dr/afterimage/topology"
)

const testBucket = "originals"

func optionsOf(server *testenv.S3) Options {
	return Options{Endpoint: server.Endpoint, Name: testBucket, AccessKeyID: server.AccessKey, SecretAccessKey: server.SecretKey}
}

func open(t testing.TB, o Options) *Bucket {
	t.Helper()
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// onServer opens an empty bucket of a real server.
func onServer(t *testing.T, options ...testenv.S3Option) (*testenv.S3, *Bucket) {
	t.Helper()
	server := testenv.StartS3(t, options...)
	server.CreateBucket(testBucket)
	o := optionsOf(server)
	if ca := server.CA(); ca != nil {
		o.UseSSL, o.CA = true, ca
	}
	return server, open(t, o)
}

// original of a ConfigMap whose data say its resourceVersion.
func original(name string, rv int) Original {
	body := fmt.Sprintf(`{"apiVersion":"v1","data":{"rv":"%d"},"kind":"ConfigMap","metadata":{"name":%q,"namespace":"shop","resourceVersion":"%d"}}`, rv, name, rv)
	r := &topology.Record{
		Key: "core/v1/configmaps/shop/" + name, Kind: topology.Object, UID: "uid-" + name,
		Version:         topology.Version{Epoch: 1, RV: strconv.Itoa(rv), NamespaceRV: "7"},
		NamespaceLabels: map[string]string{"team": "a"},
		AppendedAt:      time.UnixMilli(1700000000123 + int64(rv)).UTC(),
		Body:            []byte(body),
	}
	o, err := FromRecord(topology.Owner{LiveSynchronization: "dr/pre", SourceUID: "src"}, r)
	if err != nil {
		panic(err)
	}
	return o
}

func mustPut(t testing.TB, b *Bucket, o Original) {
	t.Helper()
	if stored, err := b.Put(context.Background(), o); err != nil || !stored {
		t.Fatalf("Put %s: %v, %v", o.Path, stored, err)
	}
}

func get(t testing.TB, b *Bucket, path string) Original {
	t.Helper()
	o, err := b.Get(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func listing(t testing.TB, b *Bucket, folder string) []Entry {
	t.Helper()
	var entries []Entry
	if err := b.List(context.Background(), folder, func(e Entry) error { entries = append(entries, e); return nil }); err != nil {
		t.Fatal(err)
	}
	return entries
}

func paths(entries []Entry) []string {
	var p []string
	for _, e := range entries {
		p = append(p, e.Path)
	}
	return p
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reason  string
		server  []testenv.S3Option
		options func(*Options)
	}{
		"plain":  {reason: "http and path style are the defaults"},
		"tls":    {reason: "the CA of the bucket is trusted", server: []testenv.S3Option{testenv.WithS3TLS()}},
		"prefix": {reason: "the prefix stands before every path", options: func(o *Options) { o.Prefix = "backups/site-a" }},
		"region": {reason: "the region is used to sign", server: []testenv.S3Option{testenv.WithS3Region("eu-central-1")}, options: func(o *Options) { o.Region = "eu-central-1" }},
		"insecure": {reason: "no certificate is checked", server: []testenv.S3Option{testenv.WithS3TLS()}, options: func(o *Options) {
			o.CA, o.InsecureSkipVerify = nil, true
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, b := onServer(t, c.server...)
			if c.options != nil {
				o := b.options
				c.options(&o)
				b = open(t, o)
			}
			ctx := context.Background()
			if err := b.Probe(ctx); err != nil {
				t.Fatalf("%s: %v", c.reason, err)
			}
			want := original("settings", 5)
			if _, err := b.Get(ctx, want.Path); !errors.Is(err, ErrNotFound) {
				t.Errorf("before it is stored: %v", err)
			}
			mustPut(t, b, want)
			if diff := cmp.Diff(want, get(t, b, want.Path)); diff != "" {
				t.Errorf("%s:\n%s", c.reason, diff)
			}
			content, _ := want.Content()
			entries := listing(t, b, Folder("dr", "pre"))
			if len(entries) != 1 || entries[0].Path != want.Path || entries[0].ETag != ETagOf(content) || entries[0].Size != int64(len(content)) || entries[0].Modified.IsZero() {
				t.Errorf("listed: %+v, want %s of %d bytes with ETag %s", entries, want.Path, len(content), ETagOf(content))
			}
			if _, err := os.Stat(server.File(testBucket, b.prefix+want.Path)); err != nil {
				t.Errorf("%s: %v", c.reason, err)
			}
			if err := b.Delete(ctx, want.Path, want.Version); err != nil {
				t.Error(err)
			}
			if _, err := b.Get(ctx, want.Path); !errors.Is(err, ErrNotFound) {
				t.Errorf("after its deletion: %v", err)
			}
			if err := b.Delete(ctx, want.Path, want.Version); err != nil {
				t.Errorf("deleting what is not there: %v", err)
			}
		})
	}
}

func TestNamesThatNeedEscaping(t *testing.T) {
	t.Parallel()
	_, b := onServer(t)
	names := []string{"system:controller:a", "with space", "plus+plus", "a?b#c&d=e", "ä-ö", "back\\slash", "q\"uote", "tilde~", "a.b.c", "%41", "<x>"}
	want := map[string]bool{}
	for _, name := range names {
		key := topology.Key{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles", Name: name}
		o := Original{Path: Path("dr", "pre", key), Key: key, LiveSynchronization: "dr/pre", Version: topology.Version{RV: "1.%"}, Body: marshal(map[string]any{"metadata": map[string]string{"name": name}})}
		mustPut(t, b, o)
		if diff := cmp.Diff(o, get(t, b, o.Path)); diff != "" {
			t.Errorf("%q:\n%s", name, diff)
		}
		if stored, err := b.Put(context.Background(), o); stored || err != nil {
			t.Errorf("%q, unchanged: %v, %v", name, stored, err)
		}
		want[o.Path] = true
	}
	for _, e := range listing(t, b, "dr/pre") {
		if !want[e.Path] {
			t.Errorf("listed %q", e.Path)
		}
		delete(want, e.Path)
	}
	if len(want) > 0 {
		t.Errorf("not listed: %v", want)
	}
}

func TestUnchangedIsNotWrittenAgain(t *testing.T) {
	t.Parallel()
	server, b := onServer(t)
	ctx := context.Background()
	o := original("a", 5)
	mustPut(t, b, o)
	before, err := os.Stat(server.File(testBucket, o.Path))
	if err != nil {
		t.Fatal(err)
	}
	etag := listing(t, b, "")[0].ETag
	for about, put := range map[string]func() (bool, error){
		"Put":                          func() (bool, error) { return b.Put(ctx, o) },
		"PutKnown with its ETag":       func() (bool, error) { return b.PutKnown(ctx, o, etag) },
		"PutKnown, listed too early":   func() (bool, error) { return b.PutKnown(ctx, o, "") },
		"PutKnown with another's ETag": func() (bool, error) { return b.PutKnown(ctx, o, ETagOf(nil)) },
	} {
		if stored, err := put(); stored || err != nil {
			t.Errorf("%s: %v, %v", about, stored, err)
		}
	}
	after, err := os.Stat(server.File(testBucket, o.Path))
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("the file was replaced (%v)", err)
	}
	// Same version and body, appended to the log again: what is stored follows the log.
	o.SyncedAt = o.SyncedAt.Add(time.Second)
	mustPut(t, b, o)
}

func TestDamageIsFound(t *testing.T) {
	t.Parallel()
	server, b := onServer(t)
	ctx := context.Background()
	raw := server.Client()
	name := testBucket
	damage := func(path string, f func([]byte) []byte) {
		file := server.File(testBucket, path)
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// In place: the metadata stay.
		if err := os.WriteFile(file, f(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for about, c := range map[string]struct {
		reason string
		damage func(path string)
		want   error
	}{
		"truncated": {"half an object is none", func(p string) { damage(p, func(c []byte) []byte { return c[:len(c)/2] }) }, ErrDamaged},
		"emptied":   {"nothing is no object", func(p string) { damage(p, func([]byte) []byte { return nil }) }, ErrDamaged},
		"changed": {"a bit may turn", func(p string) {
			damage(p, func(c []byte) []byte { return bytes.Replace(c, []byte(`"rv":"5"`), []byte(`"rv":"6"`), 1) })
		}, ErrDamaged},
		"replaced by others": {"without our metadata it is not ours", func(p string) {
			if _, err := raw.PutObject(ctx, &s3.PutObjectInput{Bucket: &name, Key: &p, Body: strings.NewReader("{}")}); err != nil {
				t.Fatal(err)
			}
		}, ErrForeign},
		"copied from another path": {"a copy is not the object of its path", func(p string) {
			source := testBucket + "/" + original("other", 1).Path
			if _, err := raw.CopyObject(ctx, &s3.CopyObjectInput{Bucket: &name, Key: &p, CopySource: &source}); err != nil {
				t.Fatal(err)
			}
		}, ErrForeign},
	} {
		mustPutAnyway(t, b, original("other", 1))
		o := original(strings.ReplaceAll(about, " ", "-"), 5)
		mustPut(t, b, o)
		c.damage(o.Path)
		if got, err := b.Get(ctx, o.Path); !errors.Is(err, c.want) || !strings.Contains(err.Error(), o.Path) {
			t.Errorf("%s: %+v, %v; want %v, because %s", about, got, err, c.want, c.reason)
		}
		if c.want == ErrForeign {
			// What is not ours does not keep our own out.
			mustPut(t, b, o)
			if diff := cmp.Diff(o, get(t, b, o.Path)); diff != "" {
				t.Errorf("%s, stored again:\n%s", about, diff)
			}
		}
	}
}

func mustPutAnyway(t testing.TB, b *Bucket, o Original) {
	t.Helper()
	if _, err := b.Put(context.Background(), o); err != nil {
		t.Fatal(err)
	}
}

func TestOlderNeverReplacesNewer(t *testing.T) {
	t.Parallel()
	_, b := onServer(t)
	ctx := context.Background()
	mustPut(t, b, original("a", 9))
	for about, put := range map[string]func(Original) (bool, error){
		"Put":                        func(o Original) (bool, error) { return b.Put(ctx, o) },
		"PutKnown, listed missing":   func(o Original) (bool, error) { return b.PutKnown(ctx, o, "") },
		"PutKnown, listed otherwise": func(o Original) (bool, error) { return b.PutKnown(ctx, o, "0123") },
	} {
		if stored, err := put(original("a", 8)); stored || err != nil {
			t.Errorf("%s: %v, %v", about, stored, err)
		}
	}
	if err := b.Delete(ctx, original("a", 8).Path, original("a", 8).Version); err != nil {
		t.Error(err)
	}
	if got := get(t, b, original("a", 9).Path); got.Version.RV != "9" {
		t.Errorf("stored is %s", got.Version)
	}
	// By number, and a new epoch begins low.
	mustPut(t, b, original("a", 10))
	low := original("a", 2)
	low.Version.Epoch = 2
	mustPut(t, b, low)
}

// TestConcurrentWriters has many clients store the versions of a few objects in
// any order, as zombies and resyncs do: while they write, what is stored never
// goes back, and in the end it is the newest.
func TestConcurrentWriters(t *testing.T) {
	t.Parallel()
	server, b := onServer(t)
	ctx := context.Background()
	const objects, versions, writers = 3, 12, 6
	var writing, watching sync.WaitGroup
	var clients []*Bucket
	stop := make(chan struct{})
	for i := range objects {
		watching.Go(func() {
			last := topology.Version{}
			for {
				o, err := b.Get(ctx, original(strconv.Itoa(i), 1).Path)
				switch {
				case errors.Is(err, ErrNotFound) && last.IsZero():
				case err != nil:
					t.Error(err)
					return
				case o.Version.Older(last):
					t.Errorf("object %d went back from %s to %s", i, last, o.Version)
					return
				default:
					last = o.Version
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for w := range writers {
		other := open(t, optionsOf(server))
		clients = append(clients, other)
		writing.Go(func() {
			for i := range objects * versions {
				n := (i*7 + w*5) % (objects * versions)
				o := original(strconv.Itoa(n%objects), 1+n/objects)
				var err error
				if w%2 == 0 {
					_, err = other.Put(ctx, o)
				} else {
					_, err = other.PutKnown(ctx, o, "")
				}
				if err != nil {
					t.Error(err)
				}
				if w == 0 {
					// A delete of an older version removes nothing newer.
					if err := other.Delete(ctx, o.Path, topology.Version{Epoch: 1, RV: "0"}); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	writing.Wait()
	close(stop)
	watching.Wait()
	for _, c := range clients {
		if c.unconditional.Load() {
			t.Error("the server was taken for one without conditional writes")
		}
	}
	for i := range objects {
		want := original(strconv.Itoa(i), versions)
		if diff := cmp.Diff(want, get(t, b, want.Path)); diff != "" {
			t.Errorf("object %d:\n%s", i, diff)
		}
	}
}

func TestListIsOrderedPagedAndBounded(t *testing.T) {
	t.Parallel()
	_, b := onServer(t)
	ctx := context.Background()
	var want []string
	var wg sync.WaitGroup
	const n = 1100 // more than a page
	work := make(chan Original)
	for range 16 {
		wg.Go(func() {
			for o := range work {
				if stored, err := b.PutKnown(ctx, o, ""); err != nil || !stored {
					t.Errorf("%s: %v, %v", o.Path, stored, err)
				}
			}
		})
	}
	for i := range n {
		o := original(fmt.Sprintf("o%04d", i), 1)
		work <- o
		want = append(want, o.Path)
	}
	for _, neighbour := range []string{"pr", "pre-x", "pre.x", "pre0", "prex"} {
		o := original("x", 1)
		o.Path = strings.Replace(o.Path, "/pre/", "/"+neighbour+"/", 1)
		work <- o
	}
	close(work)
	wg.Wait()
	for _, folder := range []string{"dr/pre", "dr/pre/"} {
		if diff := cmp.Diff(want, paths(listing(t, b, folder))); diff != "" {
			t.Errorf("%s:\n%s", folder, diff)
		}
	}
	if got := len(listing(t, b, "dr")); got != n+5 {
		t.Errorf("dr: %d objects, want %d", got, n+5)
	}
	if got := len(listing(t, b, "dr/p")); got != 0 {
		t.Errorf("half a name lists %d objects", got)
	}
	enough := errors.New("enough")
	seen := 0
	if err := b.List(ctx, "", func(Entry) error { seen++; return enough }); err != enough || seen != 1 {
		t.Errorf("an error of the caller: %v after %d", err, seen)
	}
}

func TestDeleteKnown(t *testing.T) {
	t.Parallel()
	_, b := onServer(t)
	ctx := context.Background()
	o := original("a", 1)
	mustPut(t, b, o)
	listed := listing(t, b, "")[0]
	mustPut(t, b, original("a", 2))
	if removed, err := b.DeleteKnown(ctx, o.Path, listed.ETag); removed || err != nil {
		t.Errorf("replaced meanwhile: %v, %v", removed, err)
	}
	get(t, b, o.Path)
	if removed, err := b.DeleteKnown(ctx, o.Path, listing(t, b, "")[0].ETag); !removed || err != nil {
		t.Errorf("as listed: %v, %v", removed, err)
	}
	if _, err := b.Get(ctx, o.Path); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	mustPut(t, b, o)
	if removed, err := b.DeleteKnown(ctx, o.Path, ""); !removed || err != nil || len(listing(t, b, "")) != 0 {
		t.Errorf("whatever it is: %v, %v", removed, err)
	}
}

func TestLiteral(t *testing.T) {
	t.Parallel()
	server, b := onServer(t)
	ctx := context.Background()
	name := testBucket
	put := func(path, content string) {
		if _, err := server.Client().PutObject(ctx, &s3.PutObjectInput{Bucket: &name, Key: &path, Body: strings.NewReader(content)}); err != nil {
			t.Fatal(err)
		}
	}
	stamped := original("stamped", 3)
	content, _ := stamped.Content()
	const folder = "dr-config/pre/apps-v1-deployments/"
	const body = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"annotations":{"afterimage.io/synced-at":"x","mine":"1"},"name":"helloworld","namespace":"one","uid":"u"}}`
	const role = `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"annotations":{"afterimage.io/synced-at":"x"},"name":"a.b"}}`
	for about, c := range map[string]struct {
		path, content string
		want          Original
		err           error
	}{
		"namespaced": {folder + "one.helloworld", body, Original{
			Path: folder + "one.helloworld", UID: "u",
			Key:  topology.Key{Group: "apps", Version: "v1", Resource: "deployments", Namespace: "one", Name: "helloworld"},
			Body: []byte(strings.Replace(body, `"afterimage.io/synced-at":"x",`, "", 1)),
		}, nil},
		"cluster-scoped": {"a/b/rbac.authorization.k8s.io-v1-clusterroles/a.b", role, Original{
			Path: "a/b/rbac.authorization.k8s.io-v1-clusterroles/a.b",
			Key:  topology.Key{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles", Name: "a.b"},
			Body: []byte(`{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"a.b"}}`),
		}, nil},
		"ours without metadata":   {stamped.Path, string(content), stamped, nil},
		"of another name":         {folder + "one.other", body, Original{}, ErrForeign},
		"of another namespace":    {folder + "two.helloworld", body, Original{}, ErrForeign},
		"no JSON":                 {folder + "one.text", "hello", Original{}, ErrForeign},
		"no object of Kubernetes": {folder + "one.json", "{}", Original{}, ErrForeign},
		"elsewhere":               {"readme.txt", body, Original{}, ErrForeign},
	} {
		put(c.path, c.content)
		if _, err := b.Get(ctx, c.path); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: Get: %v", about, err)
		}
		got, err := b.GetLiteral(ctx, c.path)
		if !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", about, err, c.err)
		}
		if c.err == nil {
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s:\n%s", about, diff)
			}
		}
	}
	if _, err := b.GetLiteral(ctx, folder+"one.none"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	own := original("own", 1)
	mustPut(t, b, own)
	if got, err := b.GetLiteral(ctx, own.Path); err != nil || cmp.Diff(own, got) != "" {
		t.Errorf("what is ours: %v\n%s", err, cmp.Diff(own, got))
	}
	if err := os.Truncate(server.File(testBucket, own.Path), 10); err != nil {
		t.Fatal(err)
	}
	if _, err := b.GetLiteral(ctx, own.Path); !errors.Is(err, ErrDamaged) {
		t.Errorf("what is ours and damaged: %v", err)
	}
}

func TestStoredForm(t *testing.T) {
	t.Parallel()
	server, b := onServer(t)
	o := original("settings", 5)
	mustPut(t, b, o)
	name := testBucket
	out, err := server.Client().GetObject(context.Background(), &s3.GetObjectInput{Bucket: &name, Key: &o.Path})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	content, err := io.ReadAll(out.Body)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"apiVersion":"v1","data":{"rv":"5"},"kind":"ConfigMap","metadata":{"annotations":{"afterimage.io/key":"core/v1/configmaps/shop/settings","afterimage.io/live-synchronization":"dr/pre","afterimage.io/namespace-labels":"{\"team\":\"a\"}","afterimage.io/original-annotations":"absent","afterimage.io/source-cluster":"src","afterimage.io/source-resource-version":"5","afterimage.io/source-uid":"uid-settings","afterimage.io/synced-at":"2023-11-14T22:13:20.128Z","afterimage.io/version":"1.5.7.0"},"name":"settings","namespace":"shop","resourceVersion":"5"}}`
	if diff := cmp.Diff(want, string(content)); diff != "" {
		t.Error(diff)
	}
	wantMetadata := map[string]string{
		"afterimage-schema": "1", "afterimage-sha256": checksum(content), "afterimage-md5": ETagOf(content), "afterimage-version": "1.5.7.0",
		"afterimage-key": "core/v1/configmaps/shop/settings",
	}
	if diff := cmp.Diff(wantMetadata, out.Metadata); diff != "" {
		t.Error(diff)
	}
	if got := *out.ContentType; got != "application/json" {
		t.Errorf("content type %q", got)
	}
}
