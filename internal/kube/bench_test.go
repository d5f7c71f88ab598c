package kube

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/afterimage-dr/afterimage/internal/testenv"
)

// workers is what a synchronizer has by default.
const workers = 32

// parallel calls fn for 0 … b.N-1 from 32 goroutines and reports objects a second.
func parallel(b *testing.B, fn func(i int) error) {
	b.Helper()
	b.ResetTimer()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				if err := fn(int(i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "objects/s")
}

// BenchmarkServer measures writes of 1 KiB ConfigMaps with 32 workers against a
// real API server. Run it with a fixed count: -benchtime 3000x.
func BenchmarkServer(b *testing.B) {
	source, _ := testenv.Pair(b)
	data := strings.Repeat("x", 1000)
	for _, mode := range []string{"HTTP1", "HTTP2", "HTTP1-metadata"} {
		var opts []Option
		if mode == "HTTP2" {
			opts = append(opts, WithHTTP2())
		}
		c, err := New(source.RESTConfig(), opts...)
		if err != nil {
			b.Fatal(err)
		}
		if mode == "HTTP1-metadata" {
			c = c.Metadata()
		}
		b.Run("create/"+mode, func(b *testing.B) {
			ns := newNamespace(b, c)
			parallel(b, func(i int) error {
				_, err := c.Create(b.Context(), configMaps, ns, configMap(ns, fmt.Sprintf("cm-%d", i), data), "afterimage")
				return err
			})
		})
		b.Run("apply/"+mode, func(b *testing.B) {
			ns := newNamespace(b, c)
			parallel(b, func(i int) error {
				name := fmt.Sprintf("cm-%d", i)
				_, err := c.Apply(b.Context(), configMaps, keyOf(ns, name), configMap(ns, name, data), "afterimage")
				return err
			})
		})
		b.Run("get/"+mode, func(b *testing.B) {
			ns := newNamespace(b, c)
			mustCreate(b, c, ns, "a", data)
			parallel(b, func(int) error {
				_, err := c.Get(b.Context(), configMaps, keyOf(ns, "a"))
				return err
			})
		})
	}
}

// BenchmarkList measures a whole listing in pages of 500.
func BenchmarkList(b *testing.B) {
	source, _ := testenv.Pair(b)
	c, err := New(source.RESTConfig())
	if err != nil {
		b.Fatal(err)
	}
	ns := newNamespace(b, c)
	const objects = 2000
	for i := range objects {
		mustCreate(b, c, ns, fmt.Sprintf("cm-%d", i), strings.Repeat("x", 1000))
	}
	for name, c := range map[string]*Client{"full": c, "metadata": c.Metadata()} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				n := 0
				for o := (ListOptions{Namespace: ns, Limit: 500}); ; {
					page, err := c.ListPage(b.Context(), configMaps, o)
					if err != nil {
						b.Fatal(err)
					}
					n += len(page.Items)
					if o.Continue = page.Continue; o.Continue == "" {
						break
					}
				}
				if n != objects {
					b.Fatalf("%d objects", n)
				}
			}
			b.ReportMetric(float64(objects*b.N)/b.Elapsed().Seconds(), "objects/s")
		})
	}
}
