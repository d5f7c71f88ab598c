package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

type options struct {
	rounds, objects int
	memory          []int
	only            []string
	trees           string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var o options
	var memory, only string
	flag.IntVar(&o.rounds, "rounds", 3, "rounds of each comparison, alternating")
	flag.IntVar(&o.objects, "objects", 5000, "ConfigMaps of 1 KiB for the cold convergence")
	flag.StringVar(&memory, "memory", "10000,50000", "object counts to compare memory at")
	flag.StringVar(&o.trees, "trees", "", "of zookeeper, only the trees whose name contains this")
	flag.StringVar(&only, "only", "cold,bucket,recover,lag,resync,history,memory,zookeeper", "which rows")
	flag.Parse()
	for n := range strings.SplitSeq(memory, ",") {
		v, err := strconv.Atoi(n)
		if err != nil {
			return fmt.Errorf("-memory: %w", err)
		}
		o.memory = append(o.memory, v)
	}
	o.only = strings.Split(only, ",")
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	rows, err := b.all(ctx)
	err = errors.Join(err, b.close())
	printTable(rows)
	return err
}

// row of the table: a ratio, what it is made of, and its goal.
type row struct {
	name, subject, baseline, ratio, spread, goal string
}

func (b *bench) all(ctx context.Context) ([]row, error) {
	var rows []row
	for _, section := range []struct {
		name string
		run  func(context.Context) ([]row, error)
	}{{"cold", b.cold}, {"bucket", b.bucket}, {"recover", b.recover}, {"lag", b.lag}, {"resync", b.resync}, {"history", b.history}, {"memory", b.memory}, {"zookeeper", b.zookeeper}} {
		if !slices.Contains(b.options.only, section.name) {
			continue
		}
		begin := time.Now()
		r, err := section.run(ctx)
		rows = append(rows, r...)
		if err != nil {
			return rows, fmt.Errorf("%s: %w", section.name, err)
		}
		say("%s: done in %s", section.name, time.Since(begin).Round(time.Second))
	}
	return rows, nil
}

func printTable(rows []row) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "MEASURED\tAFTERIMAGE\tBASELINE\tRATIO\tSPREAD\tGOAL")
	for _, r := range rows {
		_, _ = fmt.Fprintln(w, strings.Join([]string{r.name, r.subject, r.baseline, r.ratio, r.spread, r.goal}, "\t"))
	}
	_ = w.Flush()
}

func say(format string, a ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", a...)
}
