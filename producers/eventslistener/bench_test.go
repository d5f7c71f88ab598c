package eventslistener

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/topology"
)

// BenchmarkColdListing appends 5,000 ConfigMaps of 1 KiB beside a bare paged
// LIST of the same.
func BenchmarkColdListing(b *testing.B) {
	const objects = 5000
	w := newWorld(b, source(b), configMaps)
	r := w.resource(configMaps)
	var wg sync.WaitGroup
	for k := range 32 {
		wg.Go(func() {
			for i := k; i < objects; i += 32 {
				_, err := w.kube.Create(b.Context(), r, w.namespace, object1(fmt.Sprint("cm-", i), map[string]string{"a": strings.Repeat("x", 1024)}), "test")
				if err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var bare, ours time.Duration
	b.ResetTimer()
	for range b.N {
		began := time.Now()
		o := kube.ListOptions{Limit: 500}
		for {
			page, err := w.kube.ListPage(b.Context(), r, o)
			if err != nil {
				b.Fatal(err)
			}
			if o.Continue = page.Continue; o.Continue == "" {
				break
			}
		}
		bare += time.Since(began)

		for _, topic := range w.topics.All() {
			if err := w.log.Delete(b.Context(), topic); err != nil {
				b.Fatal(err)
			}
		}
		w.ensure()
		w.wipe()
		l := w.start()
		var first time.Time
		for {
			if first.IsZero() && l.Counters().Appended > 0 {
				first = time.Now()
			}
			// Everything is acknowledged and remembered by then.
			if l.status().LastResyncTime != nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		ours += time.Since(first)
		l.stop()
	}
	if n := len(w.ofKind(topology.Object)); n < objects {
		b.Fatalf("%d objects logged", n)
	}
	b.ReportMetric(float64(objects*b.N)/ours.Seconds(), "records/s")
	b.ReportMetric(float64(objects*b.N)/bare.Seconds(), "bare-objects/s")
	b.ReportMetric(ours.Seconds()/bare.Seconds(), "times-bare")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkDecode(b *testing.B) {
	raw := fmt.Appendf(nil, `{"metadata":{"name":"n","namespace":"s","uid":"4c1d","resourceVersion":"5","creationTimestamp":"2026-01-01T00:00:00Z","managedFields":[{"manager":"m","operation":"Update","apiVersion":"v1","time":"2026-01-01T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:data":{".":{},"f:a":{}}}}]},"data":{"a":"%s"}}`, strings.Repeat("x", 1024))
	b.ReportAllocs()
	for b.Loop() {
		o, err := decode(testResource, raw)
		if err != nil {
			b.Fatal(err)
		}
		_ = o.hash(stamp{})
		_ = o.managers()
	}
}
