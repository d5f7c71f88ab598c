package history

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/internal/testenv"
	"github.com/afterimage-dr/afterimage/topology"
)

// auditWindow of the test: real, but short.
const auditWindow = 6 * time.Second

// On Kafka the cleaner runs behind the window: inside everything is exact, outside
// it is refused, and what is outside is really gone.
func TestKafkaWindowMoves(t *testing.T) {
	k := testenv.StartKafka(t, testenv.OwnBroker(), testenv.WithSetting("log.cleaner.backoff.ms", "200"))
	client, err := stream.NewClient(stream.Brokers(k.Brokers()...), "test")
	must(t, err)
	t.Cleanup(client.Close)
	log := Log{Client: client, Topics: topology.TopicsFor("dr", "pre")}
	configs := maps.Clone(log.Topics.TopicConfigs(auditWindow)[log.Topics.Changes])
	configs["segment.ms"], configs["min.cleanable.dirty.ratio"] = "500", "0.01"
	w := newWorld(t, 11, log, configs)

	young, err := log.Window(t.Context())
	must(t, err)
	if young.Why != "first complete listing" {
		t.Errorf("while nothing is cleaned the window begins at %s (%s)", young.From, young.Why)
	}
	appended := 0
	for began := time.Now(); appended < 5000 || time.Since(began) < 3*auditWindow; appended += 50 {
		w.run(50)
		time.Sleep(100 * time.Millisecond) // about 5,000 changes in three windows
	}
	for deadline := time.Now().Add(time.Minute); w.count() > appended*3/4; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never cleaned: %d records for %d changes", w.count(), appended)
		}
		w.run(5) // the active segment closes only when something is appended
		appended += 5
	}
	window, err := log.Window(t.Context())
	must(t, err)
	if !strings.Contains(window.Why, "audit window of 6s") {
		t.Errorf("what bounds the window: %s", window.Why)
	}
	if since := time.Since(window.From); since < auditWindow-time.Second || since > auditWindow+2*time.Second {
		t.Errorf("the window begins %s ago", since)
	}
	compared := 0
	for _, at := range w.sample(20, func(at time.Time) bool { return time.Since(at) < auditWindow-2*time.Second }) {
		w.compare(at)
		compared++
	}
	w.compare(time.Time{})
	if compared < 10 {
		t.Errorf("only %d moments were within the window", compared)
	}
	for _, at := range w.sample(5, func(at time.Time) bool { return time.Since(at) > auditWindow+time.Second }) {
		_, err := log.Snapshot(t.Context(), at)
		if outside := (*OutsideError)(nil); !errors.As(err, &outside) {
			t.Errorf("a moment before the window: %v", err)
		}
	}
}

// count is how many records are in changes.
func (w *world) count() (n int) {
	w.t.Helper()
	parts, err := w.log.Client.Partitions(w.t.Context(), w.log.Topics.Changes)
	must(w.t, err)
	for _, p := range parts {
		must(w.t, w.log.Client.Read(w.t.Context(), p.Topic, p.Number, p.Start, p.End, func(*kgo.Record) error { n++; return nil }))
	}
	return n
}
