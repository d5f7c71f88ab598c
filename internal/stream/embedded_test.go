package stream

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func embedded(t testing.TB) (*Embedded, *Client) {
	t.Helper()
	e, err := StartEmbedded(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	c, err := NewClient(e.Dial(), "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return e, c
}

func rec(topic string, p int32, key, value string) *kgo.Record {
	return &kgo.Record{Topic: topic, Partition: p, Key: []byte(key), Value: []byte(value)}
}

func TestLatency(t *testing.T) {
	ctx := testContext(t)
	_, c := embedded(t)
	start := time.Now()
	if w, err := c.Ensure(ctx, "a", TopicSettings{Partitions: 12, Replication: -1, Configs: map[string]string{"cleanup.policy": "compact", "min.compaction.lag.ms": "1000"}}); err != nil {
		t.Fatal(err)
	} else {
		t.Log(w)
	}
	t.Log("ensure", time.Since(start))
	start = time.Now()
	w, err := c.Writer()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.AppendSync(ctx, rec("a", 0, "k", "v")); err != nil {
		t.Fatal(err)
	}
	t.Log("first append", time.Since(start))
	start = time.Now()
	var tails []*Tail
	for p := range int32(12) {
		tl, err := c.Tail("a", p, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer tl.Close()
		tails = append(tails, tl)
	}
	t.Log("12 tails", time.Since(start))
	if _, err := tails[0].Next(ctx); err != nil {
		t.Fatal(err)
	}
	t.Log("first record", time.Since(start))
	var sum, worst time.Duration
	var appendSum time.Duration
	for i := range 1000 {
		p := int32(i % 12)
		start := time.Now()
		if err := w.AppendSync(ctx, rec("a", p, fmt.Sprint(i), "v")); err != nil {
			t.Fatal(err)
		}
		appendSum += time.Since(start)
		rs, err := tails[p].Next(ctx)
		if err != nil || len(rs) != 1 {
			t.Fatal(rs, err)
		}
		d := time.Since(start)
		sum += d
		worst = max(worst, d)
	}
	t.Log("append", appendSum/1000, "append→tail", sum/1000, "worst", worst)
}
