package main

import (
	"fmt"
	"slices"
	"time"
)

// percentile p (0–100) by nearest rank; 0 of nothing.
func percentile(v []time.Duration, p float64) time.Duration {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	return s[min(len(s)-1, int(float64(len(s))*p/100))]
}

// ratios of a over b, pair by pair, in the order of the rounds.
func ratios(a, b []time.Duration) []float64 {
	var out []float64
	for i := range a {
		out = append(out, a[i].Seconds()/b[i].Seconds())
	}
	return out
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

func spread(v []float64) string {
	return fmt.Sprintf("%.2f–%.2f of %d", slices.Min(v), slices.Max(v), len(v))
}

func medianDuration(v []time.Duration) time.Duration { return percentile(v, 50) }

func compared(name string, subject, baseline []time.Duration, unit time.Duration, goal string) row {
	r := ratios(subject, baseline)
	return row{name, medianDuration(subject).Round(unit).String(), medianDuration(baseline).Round(unit).String(), fmt.Sprintf("%.2f", median(r)), spread(r), goal}
}

// faster tells how many times as fast as the baseline.
func faster(name string, subject, baseline []time.Duration, goal string) row {
	r := ratios(baseline, subject)
	return row{name, medianDuration(subject).Round(time.Millisecond).String(), medianDuration(baseline).Round(time.Millisecond).String(), fmt.Sprintf("%.1f", median(r)), spread(r), goal}
}
