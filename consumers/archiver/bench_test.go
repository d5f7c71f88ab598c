package archiver

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/state/bucket"
)

// BenchmarkArchive measures new objects of 1 KiB through the archiver into a
// bucket that discards bodies, acknowledged and committed.
func BenchmarkArchive(b *testing.B) {
	const objects = 5000
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, `<ListBucketResult></ListBucketResult>`)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("ETag", `"discarded"`)
	}))
	defer server.Close()
	for b.Loop() {
		b.StopTimer()
		r := newRigIn(b, b.TempDir(), b.Cleanup)
		r.open = nil
		r.level = 0
		r.options.Set(bucket.Options{Endpoint: strings.TrimPrefix(server.URL, "http://"), Name: "b", AccessKeyID: "bench", SecretAccessKey: "bench-bench"})
		r.configure(everything)
		for i := range objects {
			rec := r.object(fmt.Sprint("k", i), strings.Repeat("x", 1024))
			p := r.partitionOf(rec.Key)
			r.writer.Append(r.ctx, rec.Encode(r.topics.Changes, p), func(*kgo.Record, error) {})
		}
		if err := r.writer.Flush(r.ctx); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		r.start()
		for r.a.Counts().Stored < objects {
			time.Sleep(time.Millisecond)
		}
		b.StopTimer()
		r.kill()
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*objects), "µs/object")
}
