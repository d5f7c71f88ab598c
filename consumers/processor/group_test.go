package processor

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/live"
	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// member is a processor with a state of its own, in the real group.
type member struct {
	*Processor
	stop func()
}

func newMember(t testing.TB, dial stream.Dial, topics topology.Topics, name string) *member {
	t.Helper()
	c, err := stream.NewClient(dial, name)
	if err != nil {
		t.Fatal(err)
	}
	store, err := state.OpenWith(filepath.Join(t.TempDir(), name), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	p := New(Options{
		Settings: live.New(settings.Settings{Config: topology.Config{Namespace: "dr", Name: "ls"}}), Log: c, Topics: topics,
		State: store.Stage("processor"), Logger: slog.New(slog.DiscardHandler), InstanceID: name, Incarnation: name + "-1", Session: 6 * time.Second,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	m := &member{Processor: p}
	stopped := false
	m.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		c.Close()
		_ = store.Close()
	}
	t.Cleanup(m.stop)
	return m
}

// partitioned is a log with several partitions and a writer to them.
type partitioned struct {
	testing.TB
	ctx    context.Context
	log    *stream.Client
	dial   stream.Dial
	topics topology.Topics
	writer *stream.Writer
	number int32
}

func newPartitioned(t testing.TB, number int32) *partitioned {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	e, err := stream.StartEmbedded(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	c, err := stream.NewClient(e.Dial(), "listener")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	l := &partitioned{TB: t, ctx: ctx, log: c, dial: e.Dial(), topics: topology.TopicsFor("dr", "ls"), number: number}
	for _, topic := range l.topics.All() {
		n := number
		if topic == l.topics.Requests {
			n = 1
		}
		if _, err := c.Ensure(ctx, topic, stream.TopicSettings{Partitions: n, Replication: -1, Configs: map[string]string{"cleanup.policy": "compact"}}); err != nil {
			t.Fatal(err)
		}
	}
	if l.writer, err = c.Writer(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.writer.Close)
	config := topology.Config{Namespace: "dr", Name: "ls", Generation: 1, SourceUID: "src"}
	if err := json.Unmarshal([]byte(everything), &config.Replication); err != nil {
		t.Fatal(err)
	}
	body, _ := json.Marshal(config)
	for p := range number {
		l.append(p, &topology.Record{Key: topology.ControlKey(topology.Configured, ""), Kind: topology.Configured, Body: body})
	}
	return l
}

func (l *partitioned) append(p int32, r *topology.Record) {
	l.Helper()
	if err := l.writer.AppendSync(l.ctx, r.Encode(l.topics.Changes, p)); err != nil {
		l.Fatal(err)
	}
}

func (l *partitioned) put(name string, rv int) {
	l.Helper()
	k := key(name)
	l.append(topology.PartitionOf(k, l.number), &topology.Record{
		Key: k, Kind: topology.Object, Op: topology.Update, Version: topology.Version{Epoch: 1, RV: fmt.Sprint(rv)},
		Body: fmt.Appendf(nil, `{"data":{"v":"%d"},"metadata":{"name":%q,"namespace":"ns"}}`, rv, name),
	})
}

// records returns all object records of desired, by partition and in order.
func (l *partitioned) records() (out []topology.Record) {
	l.Helper()
	r := &rig{fataler: l, ctx: l.ctx, log: l.log}
	for p := range l.number {
		out = append(out, r.readPartition(l.topics.Desired, p)...)
	}
	return out
}

func TestMembersShareAndTakeOver(t *testing.T) {
	l := newPartitioned(t, 4)
	a := newMember(t, l.dial, l.topics, "a")
	for i := range 40 {
		l.put(fmt.Sprint("k", i), 1)
	}
	want := func(reason string, rv int) {
		t.Helper()
		last := map[string]string{}
		deadline := time.Now().Add(30 * time.Second)
		for {
			for _, r := range l.records() {
				if r.Kind == topology.Object {
					last[r.Key] = r.Version.RV
				}
			}
			n := 0
			for _, v := range last {
				if v == fmt.Sprint(rv) {
					n++
				}
			}
			if n == 40 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d of 40 keys are at %d", reason, n, rv)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	want("one member", 1)
	b := newMember(t, l.dial, l.topics, "b")
	for deadline := time.Now().Add(30 * time.Second); len(b.statuses()) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the second member was given nothing")
		}
	}
	for i := range 40 {
		l.put(fmt.Sprint("k", i), 2)
	}
	want("two members", 2)
	a.stop() // a static member that stops keeps its partitions for a session
	for i := range 40 {
		l.put(fmt.Sprint("k", i), 3)
	}
	want("the other takes over, with no state for what it takes", 3)
	seen := map[string]map[string]int{}
	for _, r := range l.records() {
		if r.Kind != topology.Object {
			continue
		}
		if seen[r.Key] == nil {
			seen[r.Key] = map[string]int{}
		}
		seen[r.Key][r.Version.RV]++
	}
	for k, versions := range seen {
		for v, n := range versions {
			if n > 1 {
				t.Errorf("%s at %s was appended %d times", k, v, n)
			}
		}
	}
	assertMonotonic(t, l.records())
}

// BenchmarkProcess measures records through a processor, 1 KiB each, from
// changes to desired, acknowledged and committed.
func BenchmarkProcess(b *testing.B) {
	const objects = 5000
	for b.Loop() {
		b.StopTimer()
		l := newPartitioned(b, topology.DefaultPartitions)
		data := make([]byte, 900)
		for i := range data {
			data[i] = 'x'
		}
		for i := range objects {
			k := key(fmt.Sprint("k", i))
			r := &topology.Record{
				Key: k, Kind: topology.Object, Op: topology.Create, Version: topology.Version{Epoch: 1, RV: fmt.Sprint(i + 1)},
				NamespaceLabels: map[string]string{"kubernetes.io/metadata.name": "ns"},
				Body:            fmt.Appendf(nil, `{"apiVersion":"v1","data":{"v":"%s"},"kind":"ConfigMap","metadata":{"name":"k%d","namespace":"ns","uid":"u","resourceVersion":"%d"}}`, data, i, i),
			}
			l.writer.Append(l.ctx, r.Encode(l.topics.Changes, topology.PartitionOf(k, l.number)), func(*kgo.Record, error) {})
		}
		if err := l.writer.Flush(l.ctx); err != nil {
			b.Fatal(err)
		}
		m := newMember(b, l.dial, l.topics, "a")
		for m.Counts().Processed == 0 { // joining the group is not what is measured
			time.Sleep(100 * time.Microsecond)
		}
		b.StartTimer()
		for m.Counts().Appended < objects+int64(l.number) {
			time.Sleep(time.Millisecond)
		}
		b.StopTimer()
		m.stop()
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*objects), "µs/record")
}
