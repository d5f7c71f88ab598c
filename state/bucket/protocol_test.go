package bucket

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// memory is a server of one object a path, for what a real one cannot be made to
// do: answer goes first, and takes the request if it returns true.
type memory struct {
	answer func(w http.ResponseWriter, r *http.Request) bool

	etag func([]byte) string

	mu      sync.Mutex
	objects map[string]object1
	seen    []*http.Request
}

type object1 struct {
	content []byte
	header  http.Header
}

func (m *memory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	content, _ := io.ReadAll(r.Body)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen = append(m.seen, r)
	if m.answer != nil && m.answer(w, r) {
		return
	}
	at, found := m.objects[r.URL.Path]
	switch r.Method {
	case http.MethodPut:
		m.objects[r.URL.Path] = object1{content, r.Header}
		w.Header().Set("ETag", `"`+m.etag(content)+`"`)
	case http.MethodDelete:
		delete(m.objects, r.URL.Path)
		w.WriteHeader(http.StatusNoContent)
	default:
		if !found {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, "<Error><Code>NoSuchKey</Code></Error>")
			return
		}
		for name, values := range at.header {
			if strings.HasPrefix(name, "X-Amz-Meta-") {
				w.Header()[name] = values
			}
		}
		w.Header().Set("ETag", `"`+m.etag(at.content)+`"`)
		w.Header().Set("Content-Length", strconv.Itoa(len(at.content)))
		_, _ = w.Write(at.content)
	}
}

func (m *memory) requests() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var methods []string
	for _, r := range m.seen {
		methods = append(methods, r.Method)
	}
	m.seen = nil
	return methods
}

func onMemory(t *testing.T, answer func(http.ResponseWriter, *http.Request) bool) (*memory, *Bucket) {
	t.Helper()
	m := &memory{answer: answer, etag: ETagOf, objects: map[string]object1{}}
	server := httptest.NewServer(m)
	t.Cleanup(server.Close)
	return m, impatient(fake(t, server))
}

// TestAcceptEncodingIsNotSigned: Google changes the header on the way, and then
// the signature is wrong.
func TestAcceptEncodingIsNotSigned(t *testing.T) {
	m, b := onMemory(t, nil)
	ctx := context.Background()
	o := original("a", 1)
	mustPut(t, b, o)
	get(t, b, o.Path)
	if err := b.Delete(ctx, o.Path, o.Version); err != nil {
		t.Fatal(err)
	}
	m.answer = func(w http.ResponseWriter, _ *http.Request) bool {
		_, _ = io.WriteString(w, "<ListBucketResult></ListBucketResult>")
		return true
	}
	if err := b.Probe(ctx); err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	methods := map[string]bool{}
	for _, r := range m.seen {
		methods[r.Method] = true
		_, signed, ok := strings.Cut(r.Header.Get("Authorization"), "SignedHeaders=")
		signed, _, _ = strings.Cut(signed, ",")
		headers := strings.Split(signed, ";")
		if !ok || !slices.Contains(headers, "host") {
			t.Errorf("%s %s is not signed: %q", r.Method, r.URL, r.Header.Get("Authorization"))
		}
		if slices.Contains(headers, "accept-encoding") {
			t.Errorf("%s %s: accept-encoding is signed: %s", r.Method, r.URL, signed)
		}
		if r.Method == http.MethodGet && r.Header.Get("Accept-Encoding") != "identity" {
			t.Errorf("GET %s accepts %q: the content could come changed", r.URL, r.Header.Get("Accept-Encoding"))
		}
		for name := range r.Header {
			if strings.HasPrefix(name, "X-Amz-Checksum") || strings.HasPrefix(name, "X-Amz-Sdk-Checksum") || name == "X-Amz-Trailer" {
				t.Errorf("%s %s has %s, which generic servers do not know", r.Method, r.URL, name)
			}
		}
	}
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodHead, http.MethodDelete} {
		if !methods[method] {
			t.Errorf("no %s was seen", method)
		}
	}
}

func TestRegionAndStyle(t *testing.T) {
	yes, no := true, false
	for endpoint, c := range map[string]struct {
		region string
		style  *bool
		want   string // region, host and path of a GET of "k"
	}{
		"s3.eu-west-1.amazonaws.com":           {want: "eu-west-1 name.s3.eu-west-1.amazonaws.com /k"},
		"s3.dualstack.eu-west-1.amazonaws.com": {want: "eu-west-1 name.s3.dualstack.eu-west-1.amazonaws.com /k"},
		"s3.cn-north-1.amazonaws.com.cn":       {want: "cn-north-1 name.s3.cn-north-1.amazonaws.com.cn /k"},
		"s3.amazonaws.com":                     {want: "us-east-1 name.s3.amazonaws.com /k"},
		"s3.us-west-2.amazonaws.com":           {style: &yes, want: "us-west-2 s3.us-west-2.amazonaws.com /name/k"},
		"s3.us-west-1.amazonaws.com:443":       {region: "x", want: "x name.s3.us-west-1.amazonaws.com:443 /k"},
		"storage.googleapis.com":               {want: "us-east-1 storage.googleapis.com /name/k"},
		"localhost:9000":                       {want: "us-east-1 localhost:9000 /name/k"},
		"minio.example":                        {region: "here", style: &no, want: "here name.minio.example /k"},
	} {
		b := open(t, Options{Endpoint: endpoint, Name: "name", AccessKeyID: "k", SecretAccessKey: "s", Region: c.region, PathStyle: c.style})
		var got string
		stop := fmt.Errorf("seen")
		b.client = withTransport(b, roundTripper(func(r *http.Request) (*http.Response, error) {
			_, scope, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
			got = strings.Split(scope, "/")[2] + " " + r.URL.Host + " " + r.URL.Path
			return nil, stop
		}))
		if _, err := impatient(b).Get(context.Background(), "k"); err == nil {
			t.Errorf("%s: no error", endpoint)
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", endpoint, got, c.want)
		}
	}
}

func TestRequestsOfEachCall(t *testing.T) {
	m, b := onMemory(t, nil)
	ctx := context.Background()
	o, newer := original("a", 1), original("a", 2)
	content, _ := o.Content()
	for _, step := range []struct {
		reason string
		do     func() (bool, error)
		stored bool
		want   []string
	}{
		{"a first fill writes blindly", func() (bool, error) { return b.PutKnown(ctx, o, "") }, true, []string{"PUT"}},
		{"what is listed is there", func() (bool, error) { return b.PutKnown(ctx, o, ETagOf(content)) }, false, nil},
		{"unchanged", func() (bool, error) { return b.Put(ctx, o) }, false, []string{"HEAD"}},
		{"an update", func() (bool, error) { return b.Put(ctx, newer) }, true, []string{"HEAD", "PUT"}},
		{"an older one", func() (bool, error) { return b.Put(ctx, o) }, false, []string{"HEAD"}},
		{"a delete that came late", func() (bool, error) { return false, b.Delete(ctx, o.Path, o.Version) }, false, []string{"HEAD"}},
		{"a delete", func() (bool, error) { return false, b.Delete(ctx, o.Path, newer.Version) }, false, []string{"HEAD", "DELETE"}},
		{"nothing is there, surely", func() (bool, error) { return false, b.Delete(ctx, o.Path, newer.Version) }, false, []string{"HEAD", "GET"}},
		{"a known delete", func() (bool, error) { return b.DeleteKnown(ctx, o.Path, "x") }, true, []string{"DELETE"}},
	} {
		stored, err := step.do()
		if err != nil || stored != step.stored {
			t.Errorf("%s: %v, %v", step.reason, stored, err)
		}
		if diff := cmp.Diff(step.want, m.requests()); diff != "" {
			t.Errorf("%s:\n%s", step.reason, diff)
		}
	}
}

// TestServerWithoutConditionalWrites: it says so once, and is not asked again.
func TestServerWithoutConditionalWrites(t *testing.T) {
	for code, status := range map[string]int{"NotImplemented": http.StatusNotImplemented, "InvalidArgument": http.StatusBadRequest} {
		refusals := 0
		m, b := onMemory(t, func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("If-None-Match") == "" && r.Header.Get("If-Match") == "" {
				return false
			}
			refusals++
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "<Error><Code>"+code+"</Code></Error>")
			return true
		})
		ctx := context.Background()
		if stored, err := b.PutKnown(ctx, original("a", 1), ""); !stored || err != nil {
			t.Errorf("%s: %v, %v", code, stored, err)
		}
		mustPut(t, b, original("a", 2))
		mustPut(t, b, original("b", 1))
		if stored, err := b.Put(ctx, original("a", 1)); stored || err != nil {
			t.Errorf("%s: an older one: %v, %v", code, stored, err)
		}
		if err := b.Delete(ctx, original("b", 1).Path, original("b", 1).Version); err != nil {
			t.Errorf("%s: %v", code, err)
		}
		if refusals != 1 || len(m.objects) != 1 {
			t.Errorf("%s: refused %d times, %d objects", code, refusals, len(m.objects))
		}
	}
}

// TestGoogleIsNotAskedForConditions, for it documents none.
func TestGoogleIsNotAskedForConditions(t *testing.T) {
	for endpoint, want := range map[string]bool{"storage.googleapis.com": true, "Storage.GoogleAPIs.com:443": true, "localhost:9000": false, "s3.amazonaws.com": false} {
		b := open(t, Options{Endpoint: endpoint, Name: "name", AccessKeyID: "k", SecretAccessKey: "s"})
		if got := b.unconditional.Load(); got != want {
			t.Errorf("%s: %v", endpoint, got)
		}
	}
}

// TestOpaqueETags: a store with keys of its own has ETags that are no MD5; what
// is unchanged is then written once more at most.
func TestOpaqueETags(t *testing.T) {
	m, b := onMemory(t, nil)
	m.etag = func([]byte) string { return "opaque" }
	o := original("a", 1)
	mustPut(t, b, o)
	m.requests()
	for range 2 {
		if stored, err := b.PutKnown(context.Background(), o, "opaque"); stored || err != nil {
			t.Errorf("%v, %v", stored, err)
		}
		if diff := cmp.Diff([]string{"HEAD"}, m.requests()); diff != "" {
			t.Error(diff)
		}
	}
}

// TestTornHead: a server that keeps metadata and content apart answers with the
// version that was and the ETag of the one that is.
func TestTornHead(t *testing.T) {
	m, b := onMemory(t, nil)
	mustPut(t, b, original("a", 9))
	torn := 0
	m.answer = func(w http.ResponseWriter, r *http.Request) bool {
		at := m.objects[r.URL.Path]
		if r.Method != http.MethodHead || torn > 0 {
			return false
		}
		torn++
		old := original("a", 7)
		for name, value := range old.metadata(mustContent(old)) {
			w.Header().Set("X-Amz-Meta-"+name, value)
		}
		w.Header().Set("ETag", `"`+ETagOf(at.content)+`"`)
		w.Header().Set("Content-Length", strconv.Itoa(len(at.content)))
		return true
	}
	if stored, err := b.Put(context.Background(), original("a", 8)); stored || err != nil || torn != 1 {
		t.Errorf("%v, %v, torn %d times", stored, err, torn)
	}
	if got := get(t, b, original("a", 9).Path); got.Version.RV != "9" {
		t.Errorf("stored is %s", got.Version)
	}
}

func TestSlowDownIsHonoured(t *testing.T) {
	var slow atomic.Int32
	slow.Store(3)
	_, b := onMemory(t, func(w http.ResponseWriter, _ *http.Request) bool {
		if slow.Add(-1) < 0 {
			return false
		}
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "<Error><Code>SlowDown</Code></Error>")
		return true
	})
	var mu sync.Mutex
	now := time.Unix(1700000000, 0)
	var slept []time.Duration
	b.timing.jitter = func() float64 { return 0.5 }
	b.timing.now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	b.timing.sleep = func(_ context.Context, d time.Duration) error {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(d)
		slept = append(slept, d)
		return nil
	}
	if stored, err := b.PutKnown(context.Background(), original("a", 1), ""); !stored || err != nil {
		t.Fatalf("%v, %v", stored, err)
	}
	ms := time.Millisecond
	want := []time.Duration{75 * ms, 7*time.Second - 75*ms, 150 * ms, 7*time.Second - 150*ms, 300 * ms, 7*time.Second - 300*ms}
	if diff := cmp.Diff(want, slept); diff != "" {
		t.Errorf("pauses: %s", diff)
	}
	if got := int(b.limiter.limit); got != maxConcurrency/8 {
		t.Errorf("%d at a time after three requests for patience, want %d", got, maxConcurrency/8)
	}
	// It comes back with success.
	for range 1000 {
		if _, err := b.PutKnown(context.Background(), original("a", 1), "x"); err != nil {
			t.Fatal(err)
		}
	}
	if got := int(b.limiter.limit); got <= 2*maxConcurrency/8 {
		t.Errorf("%d at a time after 1000 successes", got)
	}
}

// TestRetriesAreBounded and happen only where they may help.
func TestRetriesAreBounded(t *testing.T) {
	for code, c := range map[string]struct{ status, want int }{
		"SlowDown": {503, 6}, "InternalError": {500, 6}, "RequestTimeout": {400, 6}, "": {502, 6},
		"AccessDenied": {403, 1}, "NoSuchBucket": {404, 1}, "InvalidArgument": {400, 1}, "RequestTimeTooSkewed": {403, 6}, "EntityTooLarge": {400, 1},
	} {
		requests := 0
		_, b := onMemory(t, func(w http.ResponseWriter, _ *http.Request) bool {
			requests++
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, "<Error><Code>"+code+"</Code></Error>")
			return true
		})
		if _, err := b.Get(context.Background(), "a"); err == nil || requests != c.want {
			t.Errorf("%s: %d requests, want %d (%v)", code, requests, c.want, err)
		}
	}
}

// TestAnswerThatBreaksOff is read again: it is no damage of what is stored.
func TestAnswerThatBreaksOff(t *testing.T) {
	broken := false
	_, b := onMemory(t, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || broken {
			return false
		}
		broken = true
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, `{"half`)
		return true
	})
	o := original("a", 1)
	mustPut(t, b, o)
	if diff := cmp.Diff(o, get(t, b, o.Path)); diff != "" || !broken {
		t.Error(diff)
	}
}

// TestLostAnswerToAWrite: the write took place, its answer was lost, and the
// condition of the second attempt fails on our own object.
func TestLostAnswerToAWrite(t *testing.T) {
	m, b := onMemory(t, nil)
	lost := false
	m.answer = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut {
			return false
		}
		if lost {
			w.WriteHeader(http.StatusPreconditionFailed)
			return true
		}
		lost = true
		m.objects[r.URL.Path] = object1{mustContent(original("a", 1)), r.Header}
		panic(http.ErrAbortHandler)
	}
	if _, err := b.PutKnown(context.Background(), original("a", 1), ""); err != nil || !lost {
		t.Errorf("%v, lost %v", err, lost)
	}
}

func mustContent(o Original) []byte {
	content, err := o.Content()
	if err != nil {
		panic(err)
	}
	return content
}

func TestHungServerTimesOut(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	b := impatient(fake(t, server))
	b.timing.timeout, b.timing.probeTimeout = 20*time.Millisecond, 20*time.Millisecond
	check(t, b, Unreachable, "no answer in time")
}

// TestListOutOfOrderIsRefused: a comparison with it would delete what is there.
func TestListOutOfOrderIsRefused(t *testing.T) {
	for body, want := range map[string]string{
		"<Contents><Key>b</Key></Contents><Contents><Key>a</Key></Contents>": "in order",
		"<Contents><Key>a</Key></Contents><Contents><Key>a</Key></Contents>": "in order",
		"<IsTruncated>true</IsTruncated><Contents><Key>a</Key></Contents>":   "not how to get it",
	} {
		_, b := onMemory(t, func(w http.ResponseWriter, _ *http.Request) bool {
			_, _ = io.WriteString(w, "<ListBucketResult>"+body+"</ListBucketResult>")
			return true
		})
		if err := b.List(context.Background(), "", func(Entry) error { return nil }); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", body, err)
		}
	}
}
