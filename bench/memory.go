package main

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// memory compares what stays resident with few and with many objects.
func (b *bench) memory(ctx context.Context) ([]row, error) {
	const ns = "bench-memory"
	if err := b.namespace(ctx, ns); err != nil {
		return nil, err
	}
	var peaks, settled []int
	filled := 0
	for _, n := range b.options.memory {
		if err := b.fill(ctx, ns, filled, n); err != nil {
			return nil, err
		}
		filled = n
		peak, rest, err := b.residentWith(ctx, ns, n)
		if err != nil {
			return nil, err
		}
		say("memory: %d objects: RssAnon peak %d MiB, settled %d MiB", n, peak>>10, rest>>10)
		peaks, settled = append(peaks, peak), append(settled, rest)
		if err := b.empty(ctx, ns); err != nil {
			return nil, err
		}
	}
	var rows []row
	for _, f := range []struct {
		name string
		kib  []int
	}{{"RssAnon peak", peaks}, {"RssAnon settled", settled}} {
		last := len(f.kib) - 1
		rows = append(rows, row{
			fmt.Sprintf("%s, %d over %d objects", f.name, b.options.memory[last], b.options.memory[0]),
			fmt.Sprintf("%d MiB", f.kib[last]>>10), fmt.Sprintf("%d MiB", f.kib[0]>>10),
			fmt.Sprintf("%.2f", float64(f.kib[last])/float64(f.kib[0])), "", "< 1.3",
		})
	}
	return rows, nil
}

// residentWith converges from nothing and returns the highest RssAnon on the
// way and that after 20 s of rest, in KiB.
func (b *bench) residentWith(ctx context.Context, ns string, n int) (peak, settled int, err error) {
	p, err := b.afterimage(ns, "1h", nil)
	if err != nil {
		return 0, 0, err
	}
	defer p.stop()
	converged := make(chan error, 1)
	go func() { converged <- b.awaitCount(ctx, ns, n, p) }()
	for {
		now, err := p.rssAnon()
		if err != nil {
			return 0, 0, err
		}
		peak = max(peak, now)
		select {
		case err := <-converged:
			if err != nil {
				return 0, 0, err
			}
			time.Sleep(20 * time.Second)
			settled, err = p.rssAnon()
			return peak, settled, err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

var rssAnon = regexp.MustCompile(`RssAnon:\s+(\d+) kB`)

func (p *process) rssAnon() (int, error) {
	s, err := p.status()
	if err != nil {
		return 0, err
	}
	m := rssAnon.FindStringSubmatch(s)
	if m == nil {
		return 0, fmt.Errorf("no RssAnon in %q", s)
	}
	return strconv.Atoi(m[1])
}
