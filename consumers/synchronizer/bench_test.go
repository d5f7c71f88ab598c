package synchronizer

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/topology"
)

// BenchmarkColdConvergence writes 5,000 ConfigMaps of 1 KiB from desired records,
// and beside it has 32 workers create as many with the same client and nothing
// else, before and after: the ratio is what lasts.
//
//	go test ./consumers/synchronizer -run '^$' -bench ColdConvergence -benchtime 1x
func BenchmarkColdConvergence(b *testing.B) {
	const objects = 5000
	cluster := destination(b)
	payload := data("payload", strings.Repeat("x", 1024))
	for b.Loop() {
		first := bareCreate(b, newEnv(b, cluster), objects, payload)

		e := newEnv(b, cluster)
		e.namespace()
		e.opts = func(o *Options) { o.Logger = quiet() }
		keys := make([]topology.Key, objects)
		for i := range keys {
			keys[i] = e.key(fmt.Sprintf("c%05d", i))
			e.want(keys[i], "ConfigMap", payload)
		}
		began := time.Now()
		e.start()
		for e.status().Objects.Sync < objects {
			time.Sleep(5 * time.Millisecond)
		}
		took := time.Since(began)
		if n := e.traffic.writes.Load(); n != objects {
			b.Errorf("%d writes for %d objects", n, objects)
		}
		e.stop()

		second := bareCreate(b, newEnv(b, cluster), objects, payload)
		bare := (first + second) / 2
		b.ReportMetric(objects/took.Seconds(), "objects/s")
		b.ReportMetric(objects/bare.Seconds(), "bare-objects/s")
		b.ReportMetric(took.Seconds()/bare.Seconds(), "times-bare")
		b.ReportMetric(max(first, second).Seconds()/min(first, second).Seconds(), "bare-spread")
	}
}

func bareCreate(b *testing.B, e *env, objects int, payload map[string]any) time.Duration {
	e.namespace()
	r := e.resource(e.key(""))
	began := time.Now()
	next := make(chan topology.Key)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for key := range next {
				create(b, e.kube, r, key, object(key, "ConfigMap", payload))
			}
		})
	}
	for i := range objects {
		next <- e.key(fmt.Sprintf("c%05d", i))
	}
	close(next)
	wg.Wait()
	return time.Since(began)
}

func create(b *testing.B, k *kube.Client, r kube.Resource, key topology.Key, body []byte) {
	if _, err := k.Create(b.Context(), r, key.Namespace, body, "bare"); err != nil {
		b.Error(err)
	}
}

// BenchmarkMarked is the cost of the marks on a 1 KiB ConfigMap.
func BenchmarkMarked(b *testing.B) {
	key := topology.Key{Version: "v1", Resource: "configmaps", Namespace: "n", Name: "a"}
	w := want{key: key, keyText: key.String(), hash: "h", uid: "u", body: object(key, "ConfigMap", data("payload", strings.Repeat("x", 1024)))}
	owner := topology.Owner{LiveSynchronization: "dr/pre", SourceUID: testSource}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.marked(owner, kube.Resource{Kind: "ConfigMap"}, false, nil); err != nil {
			b.Fatal(err)
		}
	}
}
