package history

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/topology"
)

// BenchmarkSnapshot is the state at a moment, bodies included, from 100,000 events
// over 10,000 keys.
func BenchmarkSnapshot(b *testing.B) {
	const keys, events = 10_000, 100_000
	log, _ := embeddedLog(b)
	if _, err := log.Client.Ensure(b.Context(), log.Topics.Changes, stream.TopicSettings{Partitions: topology.DefaultPartitions, Replication: -1, Configs: map[string]string{"cleanup.policy": "compact"}}); err != nil {
		b.Fatal(err)
	}
	w, err := log.Client.Writer()
	must(b, err)
	defer w.Close()
	body := []byte(`{"data":"` + strings.Repeat("x", 1200) + `"}`)
	for i := range events {
		r := &topology.Record{
			Key: fmt.Sprintf("core/v1/configmaps/ns/o-%d", i%keys), Kind: topology.Object, Op: topology.Update, UID: "2d1b9d3c-0a41-4b7e-8f5c-7f4d3b1c2a10", Body: body,
			Version: topology.Version{Epoch: 1700000000, RV: fmt.Sprint(i + 1), NamespaceRV: "42"}, ObservedAt: time.Now(), Writer: "bench", Hash: "0123456789abcdef",
			NamespaceLabels: map[string]string{"a": "b"}, Managers: []topology.Manager{{Name: "bench", Operation: "Update", Time: "2026-01-02T15:04:05Z"}},
		}
		w.Append(b.Context(), r.Encode(log.Topics.Changes, topology.PartitionOf(r.Key, topology.DefaultPartitions)), func(_ *kgo.Record, err error) {
			if err != nil {
				b.Error(err)
			}
		})
	}
	must(b, w.Flush(b.Context()))
	b.ReportAllocs()
	for b.Loop() {
		s, err := log.Snapshot(b.Context(), time.Time{})
		must(b, err)
		var n atomic.Int64
		must(b, s.Each(b.Context(), func(*topology.Record) error { n.Add(1); return nil }))
		if n.Load() != keys {
			b.Fatalf("%d objects, want %d", n.Load(), keys)
		}
	}
}
