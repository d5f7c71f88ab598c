package streamtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/stream"
)

func appendAndReadInOrder(e *env) {
	e.create(3)
	w := e.writer()
	// Asynchronously, in order per partition, acknowledged in order.
	const n = 3000
	var mu sync.Mutex
	acked := map[int32][]int64{}
	var wg sync.WaitGroup
	for i := range n {
		wg.Add(1)
		w.Append(e.ctx, e.record(int32(i%3), fmt.Sprint(i), fmt.Sprint(i/3)), func(r *kgo.Record, err error) {
			defer wg.Done()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				e.Error(err)
			}
			acked[r.Partition] = append(acked[r.Partition], r.Offset)
		})
	}
	wg.Wait()
	for p := range int32(3) {
		if len(acked[p]) != n/3 || !slices.IsSorted(acked[p]) || acked[p][0] != 0 {
			e.Fatalf("partition %d: %d acknowledgements, in order: %v", p, len(acked[p]), slices.IsSorted(acked[p]))
		}
		next := int64(0)
		e.must(e.c.Read(e.ctx, e.topic, p, 0, n/3, func(r *kgo.Record) error {
			if r.Offset != next || string(r.Value) != fmt.Sprint(next) || r.Topic != e.topic || r.Partition != p {
				return fmt.Errorf("%s/%d@%d holds %q, want offset %d", r.Topic, r.Partition, r.Offset, r.Value, next)
			}
			if len(r.Headers) != 1 || r.Headers[0].Key != "schema" {
				return fmt.Errorf("headers %v", r.Headers)
			}
			next++
			return nil
		}))
		if next != n/3 {
			e.Fatalf("partition %d: read %d, want %d", p, next, n/3)
		}
	}
	// The broker's clock counts, not the writer's.
	old := e.record(0, "old", "old")
	old.Timestamp = time.Now().Add(-time.Hour)
	e.must(w.AppendSync(e.ctx, old))
	e.must(e.c.Read(e.ctx, e.topic, 0, n/3, n/3+1, func(r *kgo.Record) error {
		if age := time.Since(r.Timestamp); age > time.Minute {
			return fmt.Errorf("appended now, stamped %v ago", age)
		}
		return nil
	}))
	ps, err := e.c.Partitions(e.ctx, e.topic)
	e.must(err)
	ps[0].End-- // the old one
	id, err := e.c.TopicID(e.ctx, e.topic)
	e.must(err)
	for i, p := range ps {
		if p.Number != int32(i) || p.Start != 0 || p.End != n/3 || p.TopicID != id || id == [16]byte{} {
			e.Errorf("partition %+v", p)
		}
	}
	if ok, why := e.c.Healthy(); !ok {
		e.Error("not healthy:", why)
	}
}

func readBounds(e *env) {
	e.create(1)
	e.fill(e.writer(), 0, 0, 10, 10)
	collect := func(from, to int64) (out []int64, err error) {
		err = e.c.Read(e.ctx, e.topic, 0, from, to, func(r *kgo.Record) error { out = append(out, r.Offset); return nil })
		return out, err
	}
	got, err := collect(3, 7)
	e.must(err)
	if !slices.Equal(got, []int64{3, 4, 5, 6}) {
		e.Errorf("read %v", got)
	}
	if got, err = collect(7, 7); err != nil || len(got) != 0 {
		e.Errorf("empty stretch: %v %v", got, err)
	}
	_, err = collect(5, 11)
	e.wantErr(err, stream.ErrOffsetOutOfRange)
	_, err = collect(50, 60)
	e.wantErr(err, stream.ErrOffsetOutOfRange)
	stop := errors.New("enough")
	e.wantErr(e.c.Read(e.ctx, e.topic, 0, 0, 10, func(*kgo.Record) error { return stop }), stop)
	_, err = e.c.Bounds(e.ctx, e.topic+".missing", 0)
	e.wantErr(err, stream.ErrNoTopic)
	_, err = e.c.Bounds(e.ctx, e.topic, 1)
	e.wantErr(err, stream.ErrNoTopic)
	e.wantErr(e.c.Read(e.ctx, e.topic, 7, 0, 1, func(*kgo.Record) error { return nil }), stream.ErrNoTopic)
}

func foldKnowsTheLast(e *env) {
	e.create(1)
	w := e.writer()
	e.fill(w, 0, 0, 100, 7)
	seen := 0
	f, err := e.c.Fold(e.ctx, e.topic, 0, 10, 90, func(*kgo.Record) { seen++ })
	e.must(err)
	if seen != 80 || f.End() != 90 || f.Keys() != 7 {
		e.Fatalf("saw %d, end %d, keys %d", seen, f.End(), f.Keys())
	}
	for o := range int64(110) {
		key := fmt.Sprintf("k%d", o%7)
		want := o < 10 || o >= 90 || o+7 >= 90
		if got := f.Last([]byte(key), o); got != want {
			e.Errorf("Last(%s, %d) = %v", key, o, got)
		}
	}
	var none *stream.Fold
	if !none.Last([]byte("k"), 1) {
		e.Error("a nil Fold must say true")
	}
	if f, err = e.c.Fold(e.ctx, e.topic, 0, 100, 100, nil); err != nil || f.Keys() != 0 {
		e.Error("empty stretch:", err)
	}
}

func atFindsARecord(e *env) {
	e.create(1)
	e.fill(e.writer(), 0, 0, 20, 20)
	r, ok, err := e.c.At(e.ctx, e.topic, 0, 13, "k13")
	if err != nil || !ok || string(r.Value) != "13" {
		e.Fatal(r, ok, err)
	}
	for o, key := range map[int64]string{13: "k12", 20: "k20", 99: "k1"} {
		if _, ok, err := e.c.At(e.ctx, e.topic, 0, o, key); ok || err != nil {
			e.Errorf("At(%d, %s): %v %v", o, key, ok, err)
		}
	}
}

func tailFollows(e *env) {
	e.create(2)
	w := e.writer()
	e.fill(w, 1, 0, 50, 50)
	t := e.tail(1, 20)
	e.next(t, 20, 30)
	// Live, one by one: nothing to wait for but the broker.
	for i := 50; i < 150; i++ {
		e.fill(w, 1, i, 1, 1000)
		e.next(t, int64(i), 1)
	}
	// Nothing there: it waits for its context.
	ctx, cancel := context.WithTimeout(e.ctx, 50*time.Millisecond)
	defer cancel()
	_, err := t.Next(ctx)
	e.wantErr(err, context.DeadlineExceeded)
	t.Close()
	_, err = t.Next(e.ctx)
	e.wantErr(err, stream.ErrClosed)
	_, err = e.c.Tail(e.topic+".missing", 0, 0)
	e.wantErr(err, stream.ErrNoTopic)
}

func tailsOfOnePartition(e *env) {
	e.create(1)
	w := e.writer()
	e.fill(w, 0, 0, 30, 30)
	a, b, c := e.tail(0, 0), e.tail(0, 10), e.tail(0, 30)
	e.next(a, 0, 30)
	e.next(b, 10, 20)
	e.fill(w, 0, 30, 5, 30)
	for _, t := range []*stream.Tail{a, b, c} {
		e.next(t, 30, 5)
	}
	b.Close()
	e.fill(w, 0, 35, 5, 30)
	e.next(a, 35, 5)
	e.next(c, 35, 5)
}

// tailReopenedElsewhere: a new Tail must never see what an old one left in the pipes.
func tailReopenedElsewhere(e *env) {
	e.create(1)
	w := e.writer()
	e.fill(w, 0, 0, 2000, 2000)
	for i := range 25 {
		from := int64(rand.IntN(1990))
		t, err := e.c.Tail(e.topic, 0, from)
		e.must(err)
		if i%3 != 0 {
			e.next(t, from, 1+rand.IntN(9))
		}
		t.Close()
	}
}

func slowTail(e *env) {
	e.create(2)
	w := e.writer()
	slow, fast := e.tail(0, 0), e.tail(1, 0)
	const n = 20_000
	for i := 0; i < n; i += 1000 {
		e.fill(w, 0, i, 1000, n)
	}
	for i := range 100 {
		e.fill(w, 1, i, 1, 100)
		e.next(fast, int64(i), 1)
	}
	e.next(slow, 0, n)
}

// busyTail is filled and drained at once, over the point where it is paused.
func busyTail(e *env) {
	e.create(1)
	w, t := e.writer(), e.tail(0, 0)
	const n = 60_000
	go func() {
		for i := range n {
			w.Append(e.ctx, e.record(0, fmt.Sprint(i), fmt.Sprint(i)), func(_ *kgo.Record, err error) {
				if err != nil {
					e.Error(err)
				}
			})
		}
	}()
	e.next(t, 0, n)
}

func bigRecord(e *env) {
	e.create(1)
	w := e.writer()
	big := make([]byte, 1<<20+1<<19) // 1.5 MiB that no compression makes smaller
	for i := range big {
		big[i] = byte(rand.Uint32())
	}
	t := e.tail(0, 0)
	var recs []*kgo.Record
	for range 5 {
		r := e.record(0, "big", "")
		r.Value = big
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: "managers", Value: bytes.Repeat([]byte("m"), 100<<10)})
		recs = append(recs, r)
	}
	e.must(w.AppendSync(e.ctx, recs...))
	got := 0
	for got < len(recs) {
		rs, err := t.Next(e.ctx)
		e.must(err)
		for _, r := range rs {
			if !bytes.Equal(r.Value, big) {
				e.Fatal("the record came back different")
			}
			got++
		}
	}
	e.must(e.c.Read(e.ctx, e.topic, 0, 0, 5, func(r *kgo.Record) error {
		if !bytes.Equal(r.Value, big) {
			return errors.New("the record reads different")
		}
		return nil
	}))
	tooBig := e.record(0, "big", strings.Repeat("x", 8<<20))
	if err := w.AppendSync(e.ctx, tooBig); err == nil {
		e.Error("8 MiB were accepted")
	}
	e.fill(w, 0, 5, 1, 1) // and the writer goes on
}

func tailOutOfRange(e *env) {
	e.create(1)
	e.fill(e.writer(), 0, 0, 10, 10)
	_, err := e.tail(0, 1000).Next(e.ctx)
	e.wantErr(err, stream.ErrOffsetOutOfRange)
	// The end itself is in range: the next record will be there.
	t := e.tail(0, 10)
	e.fill(e.writer(), 0, 10, 1, 10)
	e.next(t, 10, 1)
}

func topicRecreated(e *env) {
	e.create(2)
	w := e.writer()
	e.fill(w, 0, 0, 10, 10)
	before, err := e.c.Bounds(e.ctx, e.topic, 0)
	e.must(err)
	t, idle := e.tail(0, 0), e.tail(1, 0)
	e.next(t, 0, 10)
	e.must(e.c.Delete(e.ctx, e.topic))
	e.create(2)
	after, err := e.c.Bounds(e.ctx, e.topic, 0)
	e.must(err)
	if after.TopicID == before.TopicID || after.End != 0 {
		e.Fatalf("before %+v, after %+v", before, after)
	}
	for _, x := range []*stream.Tail{t, idle} {
		if rs, err := x.Next(e.ctx); !errors.Is(err, stream.ErrTopicRecreated) {
			e.Fatalf("tail of the old topic: %d records, %v", len(rs), err)
		}
	}
	old, err := e.c.TailOf(before, 0)
	e.must(err)
	e.Cleanup(old.Close)
	if rs, err := old.Next(e.ctx); !errors.Is(err, stream.ErrTopicRecreated) {
		e.Fatalf("tail of a topic that is no more: %d records, %v", len(rs), err)
	}
	t.Close()
	idle.Close()
	old.Close()
	// The writer says so at most for what was in flight, and then goes on.
	e.eventually("an append to the new topic", func() bool {
		err := w.AppendSync(e.ctx, e.record(0, "k0", "0"))
		if err != nil {
			e.wantErr(err, stream.ErrTopicRecreated)
		}
		return err == nil
	})
	e.next(e.tail(0, 0), 0, 1)
	e.must(e.c.Read(e.ctx, e.topic, 0, 0, 1, func(r *kgo.Record) error { return nil }))
}

// The tails of a topic that is no more are closed one after the other; one of the
// new topic must not have to wait for the last of them.
func topicRecreatedTailByTail(e *env) {
	e.create(2)
	w := e.writer()
	e.fill(w, 0, 0, 3, 10)
	e.fill(w, 1, 0, 3, 10)
	t, other := e.tail(0, 0), e.tail(1, 0)
	e.next(t, 0, 3)
	e.next(other, 0, 3)
	e.must(e.c.Delete(e.ctx, e.topic))
	e.create(2)
	for _, x := range []*stream.Tail{t, other} {
		if rs, err := x.Next(e.ctx); !errors.Is(err, stream.ErrTopicRecreated) {
			e.Fatalf("tail of the old topic: %d records, %v", len(rs), err)
		}
	}
	t.Close()
	again := e.tail(0, 0) // while the other is still open
	e.eventually("an append to the new topic", func() bool {
		return w.AppendSync(e.ctx, e.record(0, "k0", "0")) == nil
	})
	e.next(again, 0, 1)
	other.Close()
	e.fill(w, 0, 1, 3, 10)
	e.next(again, 1, 3)
}

func ensureChecks(e *env) {
	want := stream.TopicSettings{Partitions: 12, Replication: -1, Configs: map[string]string{"cleanup.policy": "compact", "segment.ms": "86400000"}}
	warnings, err := e.c.Ensure(e.ctx, e.topic, want)
	if err != nil || len(warnings) > 0 {
		e.Fatal(warnings, err)
	}
	if warnings, err = e.c.Ensure(e.ctx, e.topic, want); err != nil || len(warnings) > 0 {
		e.Fatal("again:", warnings, err)
	}
	want.Configs["segment.ms"] = "3600000"
	want.Configs["no.such.setting"] = "x"
	warnings, err = e.c.Ensure(e.ctx, e.topic, want)
	e.must(err)
	if all := strings.Join(warnings, "\n"); len(warnings) != 2 || !strings.Contains(all, "no.such.setting") || !strings.Contains(all, "segment.ms is 86400000, want 3600000") {
		e.Errorf("warnings %q", warnings)
	}
	want.Partitions = 6
	_, err = e.c.Ensure(e.ctx, e.topic, want)
	if err == nil || !strings.Contains(err.Error(), "has 12 partitions, want 6: keys would change partition") {
		e.Errorf("error %v", err)
	}
	// A new topic with a setting the broker refuses is made without it.
	e.topic += ".new"
	want.Partitions = 1
	warnings, err = e.c.Ensure(e.ctx, e.topic, want)
	e.must(err)
	if len(warnings) != 1 || !strings.Contains(warnings[0], "no.such.setting") {
		e.Errorf("warnings %q", warnings)
	}
}

func appendRefuses(e *env) {
	e.create(1)
	w := e.writer()
	r := e.record(0, "k", "v")
	r.Key = nil
	e.wantErr(w.AppendSync(e.ctx, r), stream.ErrNoKey)
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	e.wantErr(w.AppendSync(ctx, e.record(0, "k", "v")), context.Canceled)
	e.fill(w, 0, 0, 1, 1)
}

// brokerOutage: what was appended while the broker was away arrives, in order, once.
func brokerOutage(e *env) {
	e.create(1)
	w := e.writer()
	e.fill(w, 0, 0, 10, 10)
	t := e.tail(0, 0)
	e.next(t, 0, 10)
	e.must(e.target.Stop())
	errs := make(chan error, 200)
	for i := 10; i < 210; i++ {
		w.Append(e.ctx, e.record(0, fmt.Sprintf("k%d", i), fmt.Sprint(i)), func(_ *kgo.Record, err error) { errs <- err })
	}
	e.eventually("the client to notice", func() bool { ok, why := e.c.Healthy(); return !ok && why != "" })
	short, cancel := context.WithTimeout(e.ctx, 100*time.Millisecond)
	defer cancel()
	_, err := e.c.Bounds(short, e.topic, 0)
	e.wantErr(err, context.DeadlineExceeded)
	e.wantErr(w.AppendSync(short, e.record(0, "late", "late")), context.DeadlineExceeded)
	e.must(e.target.Start())
	for range 200 {
		e.must(<-errs)
	}
	e.next(t, 10, 200)
	e.eventually("the client to recover", func() bool { ok, _ := e.c.Healthy(); return ok })
	p, err := e.c.Bounds(e.ctx, e.topic, 0)
	e.must(err)
	if p.End != 210 {
		e.Errorf("the log ends at %d, want 210: each record once", p.End)
	}
}
