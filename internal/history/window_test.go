package history

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

var (
	noon    = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	maps1   = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	secrets = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
)

func minute(n float64) time.Time { return noon.Add(time.Duration(n * float64(time.Minute))) }

func config(generation int64, resources ...schema.GroupVersionResource) topology.Config {
	c := topology.Config{Generation: generation}
	for _, r := range resources {
		c.Replication.Resources = append(c.Replication.Resources, v1alpha1.Resource{Group: r.Group, Version: r.Version, Resource: r.Resource})
	}
	return c
}

// beat is a heartbeat at a minute, with the minute it says the source is known up to.
func beat(at, verified float64) *topology.Record {
	return &topology.Record{AppendedAt: minute(at), ObservedAt: minute(at), VerifiedAt: minute(verified)}
}

// windowOf partitions with these facts, cleaned at a minute (negative: never).
func windowOf(t *testing.T, cleaned float64, partitions ...facts) Window {
	t.Helper()
	l := Log{Embedded: true}
	if cleaned >= 0 {
		l.Floor = minute(cleaned)
	}
	s := &scanned{facts: newFacts()}
	for i, f := range partitions {
		s.facts.merge(f, i == 0)
	}
	w, err := l.window(t.Context(), s)
	must(t, err)
	return w
}

func about(t *testing.T, what string, got, want time.Time) {
	t.Helper()
	if d := got.Sub(want); d < 0 || d > 2*time.Millisecond {
		t.Errorf("%s is %s, want %s", what, got, want)
	}
}

func TestWindowBeginsWithTheFirstCompleteListing(t *testing.T) {
	var parts []facts
	for i := range 2 {
		f := newFacts()
		f.configured(config(1, maps1, secrets))
		f.complete(topology.Subject(maps1), minute(1))
		f.complete(topology.Subject(secrets), minute(2+float64(i)))
		f.complete(topology.Subject(secrets), minute(50)) // listed again
		f.heartbeat(beat(4, 3.5))
		for m := 5.0; m <= 60; m++ {
			f.heartbeat(beat(m, m-0.5-float64(i)))
		}
		parts = append(parts, f)
	}
	w := windowOf(t, -1, parts...)
	about(t, "the beginning", w.From, minute(3))
	about(t, "the end", w.To, minute(58.5))
	if w.Why != "first complete listing" || len(w.Gaps) != 0 {
		t.Errorf("%s, gaps %v", w.Why, w.Gaps)
	}
	w = windowOf(t, 30, parts...)
	about(t, "the beginning after cleaning", w.From, minute(30))
	about(t, "since when a resource is complete", w.Resources[maps1], minute(30))
	if !strings.Contains(w.Why, "cleaned") {
		t.Errorf("what bounds it: %s", w.Why)
	}
	late := newFacts()
	late.configured(config(1, maps1, secrets))
	if w := windowOf(t, -1, parts[0], late); !w.From.IsZero() {
		t.Errorf("a partition without any listing gives a window from %s", w.From)
	}
}

func TestResourceAddedLater(t *testing.T) {
	f := newFacts()
	f.configured(config(1, maps1))
	f.complete(topology.Subject(maps1), minute(1))
	f.heartbeat(beat(2, 1.5))
	f.configured(config(2, maps1, secrets))
	f.complete(topology.Subject(secrets), minute(2.5))
	f.configured(config(3, maps1)) // not kept up to date from here …
	f.configured(config(4, maps1, secrets))
	f.complete(topology.Subject(secrets), minute(4)) // … to here
	f.heartbeat(beat(4.1, 4))
	w := windowOf(t, -1, f)
	about(t, "the beginning", w.From, minute(1))
	about(t, "what was added", w.Resources[secrets], minute(4))
	if got := w.Incomplete(config(4, maps1, secrets), minute(3)); !slices.Equal(got, []schema.GroupVersionResource{secrets}) {
		t.Errorf("incomplete: %v", got)
	}
	if got := w.Incomplete(config(4, maps1, secrets), minute(4)); len(got) != 0 {
		t.Errorf("incomplete once it is listed: %v", got)
	}
	if got := w.Incomplete(config(5, schema.GroupVersionResource{Resource: "never"}), minute(4)); len(got) != 1 {
		t.Errorf("a resource that was never listed: %v", got)
	}
}

func TestGaps(t *testing.T) {
	f := newFacts()
	f.configured(config(1, maps1))
	f.complete(topology.Subject(maps1), minute(1))
	for m := 1.0; m <= 10; m++ {
		f.heartbeat(beat(m, m-0.1))
	}
	f.gap(topology.GapBody{From: minute(10), To: minute(10.5)})
	f.heartbeat(beat(10.6, -20)) // a new listener that knows nothing yet
	f.heartbeat(beat(11, 10.4))  // not even up to the end of the gap
	f.heartbeat(beat(12, 11.5))
	f.heartbeat(beat(13, 11.5)) // the source does not answer
	f.heartbeat(beat(20, 11.5))
	f.heartbeat(beat(21, 20.5))
	w := windowOf(t, -1, f, f)
	want := []Gap{{From: minute(10), To: minute(12)}, {From: minute(11.5), To: minute(21)}}
	joined := []Gap{{From: want[0].From, To: want[1].To}}
	if len(w.Gaps) != 1 || !w.Gaps[0].From.Equal(joined[0].From) || !w.Gaps[0].To.Equal(joined[0].To) {
		t.Fatalf("gaps %v, want %v as one", w.Gaps, want)
	}
	for name, test := range map[string]struct {
		reason string
		at     time.Time
		want   any
	}{
		"before":      {"before the first listing", minute(0.5), new(*OutsideError)},
		"within":      {"nobody watched", minute(10.2), new(*GapError)},
		"noticing":    {"what was missed is not all dated yet", minute(11.9), new(*GapError)},
		"known":       {"watched", minute(9.5), nil},
		"unreachable": {"the source did not answer", minute(15), new(*GapError)},
		"unverified":  {"not verified up to now", minute(30), new(*GapError)},
	} {
		t.Run(name, func(t *testing.T) {
			err := w.Check(test.at)
			if test.want == nil && err != nil || test.want != nil && (err == nil || !errors.As(err, test.want)) {
				t.Errorf("%s: %v", test.reason, err)
			}
		})
	}
	if err := w.Check(time.Now().Add(time.Minute)); !errors.Is(err, ErrFuture) {
		t.Errorf("the future: %v", err)
	}
	w = windowOf(t, 22, f)
	if len(w.Gaps) != 0 {
		t.Errorf("gaps before the window: %v", w.Gaps)
	}
}

func TestErrorsNameMomentsThatCanBeAskedFor(t *testing.T) {
	w := Window{From: noon.Add(time.Millisecond), To: noon.Add(time.Minute + time.Millisecond), Why: "audit window of 168h0m0s"}
	err := w.Check(noon)
	for _, want := range []string{"2026-01-02T12:00:01Z", "2026-01-02T12:01:00Z", "not at 2026-01-02T12:00:00Z", "audit window of 168h0m0s"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %s", err, want)
		}
	}
	if err := (Window{Why: "no resource was listed completely yet"}).Check(noon); err == nil || !strings.Contains(err.Error(), "listed completely") {
		t.Errorf("an empty window: %v", err)
	}
}

// A record that cannot be decoded stops nothing else and is named.
func TestDamagedRecordIsNamed(t *testing.T) {
	log, _ := embeddedLog(t)
	w := newWorld(t, 1, log, log.Topics.TopicConfigs(0)[log.Topics.Changes])
	w.run(50)
	key := keyOf("ns-0", 1)
	w.set(key, &object{uid: "u", rv: w.next(), body: `{}`})
	r := w.record(key, nil).Encode(log.Topics.Changes, topology.PartitionOf(key, testPartitions))
	for i := range r.Headers {
		if r.Headers[i].Key == "namespace-labels" {
			r.Headers[i].Value = []byte("{")
		}
	}
	must(t, w.writer.AppendSync(t.Context(), r))
	w.beat(time.Now())
	s, err := log.Snapshot(t.Context(), time.Time{})
	must(t, err)
	var told atomic.Int64
	err = s.Each(contextFor(t, time.Minute), func(*topology.Record) error { told.Add(1); return nil })
	var damaged *DamagedError
	if !errors.As(err, &damaged) || !slices.Equal(damaged.Keys, []string{key}) {
		t.Fatalf("damaged: %v", err)
	}
	if told.Load() != int64(len(w.objects)-1) {
		t.Errorf("%d objects were told, want all %d others", told.Load(), len(w.objects)-1)
	}
}
