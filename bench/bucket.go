package main

import (
	"context"
	"crypto/md5" //nolint:gosec // the ETag of S3 is defined so
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// bucket compares cold convergence with a bucket of originals and without.
func (b *bench) bucket(ctx context.Context) ([]row, error) {
	const ns = "bench-bucket"
	if err := b.namespace(ctx, ns); err != nil {
		return nil, err
	}
	if err := b.fill(ctx, ns, 0, b.options.objects); err != nil {
		return nil, err
	}
	var subject, complete, baseline []time.Duration
	for i := range b.options.rounds {
		d, err := b.coldAfterimage(ctx, ns)
		if err != nil {
			return nil, err
		}
		baseline = append(baseline, d)
		say("bucket %d/%d: without %s", i+1, b.options.rounds, d.Round(time.Millisecond))
		d, all, err := b.coldBucket(ctx, ns)
		if err != nil {
			return nil, err
		}
		subject, complete = append(subject, d), append(complete, all)
		say("bucket %d/%d: with %s, every original after %s", i+1, b.options.rounds, d.Round(time.Millisecond), all.Round(time.Millisecond))
	}
	return []row{
		compared("cold convergence with a bucket over without", subject, baseline, time.Millisecond, "≤ 1.10"),
		compared("every original stored over convergence without", complete, baseline, time.Millisecond, ""),
	}, b.src.CoreV1().ConfigMaps(ns).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
}

// coldBucket returns when the destination, and when the bucket had everything.
func (b *bench) coldBucket(ctx context.Context, ns string) (destination, bucket time.Duration, err error) {
	s := &sink{etags: map[string]string{}, want: b.options.objects, full: make(chan struct{})}
	server := httptest.NewServer(s)
	defer server.Close()
	begin := time.Now()
	p, err := b.afterimageWith(ns, "1h", nil, strings.TrimPrefix(server.URL, "http://"))
	if err != nil {
		return 0, 0, err
	}
	defer p.stop()
	if err := b.awaitCount(ctx, ns, b.options.objects, p); err != nil {
		return 0, 0, err
	}
	destination = time.Since(begin)
	select {
	case <-s.full:
	case <-time.After(time.Minute):
		return 0, 0, fmt.Errorf("the bucket was not given every original; the log ends: %s", p.tail())
	}
	bucket = s.at.Sub(begin)
	if err := b.equal(ctx, ns); err != nil {
		return 0, 0, err
	}
	p.stop()
	return destination, bucket, b.empty(ctx, ns)
}

// sink is an S3 server that discards bodies and remembers their ETags, so that a
// listing shows what was stored.
type sink struct {
	want int
	full chan struct{} // closed when as many objects are there
	at   time.Time

	mu    sync.Mutex
	etags map[string]string
}

// ServeHTTP answers what storing originals asks for.
func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case r.Method == http.MethodPut && key != "":
		h := md5.New() //nolint:gosec // see the import
		if _, err := io.Copy(h, r.Body); err != nil {
			return
		}
		etag := hex.EncodeToString(h.Sum(nil))
		s.mu.Lock()
		s.etags[key] = etag
		if len(s.etags) == s.want && s.at.IsZero() {
			s.at = time.Now()
			close(s.full)
		}
		s.mu.Unlock()
		w.Header().Set("ETag", `"`+etag+`"`)
	case r.Method == http.MethodGet && key == "":
		s.list(w, r)
	case r.Method == http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (s *sink) list(w http.ResponseWriter, r *http.Request) {
	type object struct{ Key, ETag string }
	var page struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		IsTruncated           bool
		NextContinuationToken string `xml:",omitempty"`
		Contents              []object
	}
	q := r.URL.Query()
	s.mu.Lock()
	for _, key := range slices.Sorted(maps.Keys(s.etags)) {
		if !strings.HasPrefix(key, q.Get("prefix")) || key <= q.Get("continuation-token") {
			continue
		}
		if len(page.Contents) == 1000 {
			page.IsTruncated, page.NextContinuationToken = true, page.Contents[999].Key
			break
		}
		page.Contents = append(page.Contents, object{key, `"` + s.etags[key] + `"`})
	}
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/xml")
	_ = xml.NewEncoder(w).Encode(page) // whoever went away asks again
}
