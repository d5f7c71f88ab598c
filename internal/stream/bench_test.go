package stream

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// residentMiB is the process's own anonymous memory (files mapped or cached do
// not count): what records would pile up in.
func residentMiB(b *testing.B) float64 {
	runtime.GC()
	debug.FreeOSMemory()
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0 // only Linux tells
	}
	_, rest, _ := bytes.Cut(raw, []byte("RssAnon:"))
	kb, err := strconv.ParseFloat(string(bytes.Fields(rest)[0]), 64)
	must(b, err)
	return kb / 1024
}

// BenchmarkAppendToTail is the way of one change: appended, acknowledged, seen
// by a follower of one of 12 partitions.
func BenchmarkAppendToTail(b *testing.B) {
	ctx := b.Context()
	_, c := start(b, b.TempDir())
	_, err := c.Ensure(ctx, "t", compacted(12))
	must(b, err)
	w, err := c.Writer()
	must(b, err)
	defer w.Close()
	tails := make([]*Tail, 12)
	for p := range tails {
		tails[p], err = c.Tail("t", int32(p), 0)
		must(b, err)
		defer tails[p].Close()
	}
	body := string(bytes.Repeat([]byte("x"), 1024))
	i := 0
	for b.Loop() {
		p := int32(i % 12)
		must(b, w.AppendSync(ctx, rec("t", p, strconv.Itoa(i), body)))
		if rs, err := tails[p].Next(ctx); err != nil || len(rs) != 1 {
			b.Fatal(rs, err)
		}
		i++
	}
}

// BenchmarkLog appends 50,000 records of 1 KiB and reads them back, and tells
// what the process has grown by meanwhile.
func BenchmarkLog(b *testing.B) {
	const n, partitions = 50_000, 12
	ctx := b.Context()
	e, c := start(b, b.TempDir())
	body := string(bytes.Repeat([]byte("x"), 1024))
	w, err := c.Writer()
	must(b, err)
	defer w.Close()
	round := 0
	for b.Loop() {
		round++
		topic := fmt.Sprint("t", round)
		_, err := c.Ensure(ctx, topic, compacted(partitions))
		must(b, err)
		before := residentMiB(b)
		began := time.Now()
		acks := make(chan error, n)
		for i := range n {
			w.Append(ctx, rec(topic, int32(i%partitions), strconv.Itoa(i), body), func(_ *kgo.Record, err error) { acks <- err })
		}
		for range n {
			must(b, <-acks)
		}
		b.ReportMetric(n/time.Since(began).Seconds(), "appends/s")
		b.ReportMetric(residentMiB(b)-before, "MiB-grown")

		began = time.Now()
		for p := range int32(partitions) {
			t, err := c.Tail(topic, p, 0)
			must(b, err)
			for got := 0; got < n/partitions; {
				rs, err := t.Next(ctx)
				must(b, err)
				got += len(rs)
			}
			t.Close()
		}
		b.ReportMetric(n/time.Since(began).Seconds(), "tailed/s")
		began = time.Now()
		for p := range int32(partitions) {
			_, err := c.Fold(ctx, topic, p, 0, n/partitions, nil)
			must(b, err)
		}
		b.ReportMetric(n/time.Since(began).Seconds(), "folded/s")
		began = time.Now()
		must(b, e.Compact())
		b.ReportMetric(float64(time.Since(began).Milliseconds()), "ms-compact")
		b.ReportMetric(residentMiB(b), "MiB-resident")
	}
}
