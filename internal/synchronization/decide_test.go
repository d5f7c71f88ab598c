package synchronization

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/afterimage-dr/afterimage/internal/schedule"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

func at(clock string) time.Time {
	t, err := time.Parse(time.DateTime, "2026-11-25 "+clock)
	if err != nil {
		panic(err)
	}
	return t
}

func TestDecide(t *testing.T) {
	seconds := func(n int64) *int64 { return &n }
	for name, c := range map[string]struct {
		reason       string
		suspend      bool
		policy       string
		deadline     *int64
		settled, now string
		active       int
		want         decision
	}{
		"nothing is due": {
			settled: "10:00:00", now: "10:03:00",
			want: decision{settled: at("10:00:00"), next: at("10:05:00"), wake: at("10:05:00")},
		},
		"one is due": {
			settled: "10:00:00", now: "10:05:00",
			want: decision{start: at("10:05:00"), settled: at("10:05:00"), next: at("10:10:00"), wake: at("10:10:00")},
		},
		"some were missed": {
			reason:  "only the latest is run",
			settled: "10:00:00", now: "10:21:00",
			want: decision{start: at("10:20:00"), settled: at("10:20:00"), missed: 3, next: at("10:25:00"), wake: at("10:25:00")},
		},
		"very many were missed": {
			settled: "00:00:00", now: "10:01:00",
			want: decision{start: at("10:00:00"), settled: at("10:00:00"), missed: schedule.MostCounted, more: true, next: at("10:05:00"), wake: at("10:05:00")},
		},
		"within its deadline": {
			deadline: seconds(60), settled: "10:00:00", now: "10:06:00",
			want: decision{start: at("10:05:00"), settled: at("10:05:00"), next: at("10:10:00"), wake: at("10:10:00")},
		},
		"at once or not at all": {
			reason:   "a deadline of 0 s leaves the second itself",
			deadline: seconds(0), settled: "10:00:00", now: "10:05:00",
			want: decision{start: at("10:05:00"), settled: at("10:05:00"), next: at("10:10:00"), wake: at("10:10:00")},
		},
		"beyond its deadline": {
			deadline: seconds(60), settled: "10:00:00", now: "10:06:01",
			want: decision{settled: at("10:05:00"), missed: 1, next: at("10:10:00"), wake: at("10:10:00")},
		},
		"several beyond the deadline": {
			deadline: seconds(60), settled: "10:00:00", now: "10:12:00",
			want: decision{settled: at("10:10:00"), missed: 2, next: at("10:15:00"), wake: at("10:15:00")},
		},
		"forbidden": {
			policy: v1alpha1.ConcurrencyForbid, active: 1, settled: "10:00:00", now: "10:05:00",
			want: decision{waits: at("10:05:00"), settled: at("10:00:00"), next: at("10:10:00"), wake: at("10:10:00")},
		},
		"forbidden twice": {
			reason: "the earlier one is not run any more",
			policy: v1alpha1.ConcurrencyForbid, active: 1, settled: "10:00:00", now: "10:10:00",
			want: decision{waits: at("10:10:00"), settled: at("10:09:00"), missed: 1, next: at("10:15:00"), wake: at("10:15:00")},
		},
		"forbidden with a deadline": {
			reason: "it is given up when its deadline has passed",
			policy: v1alpha1.ConcurrencyForbid, active: 1, deadline: seconds(30), settled: "10:00:00", now: "10:05:00",
			want: decision{waits: at("10:05:00"), settled: at("10:00:00"), next: at("10:10:00"), wake: at("10:05:31")},
		},
		"forbidden beyond its deadline": {
			policy: v1alpha1.ConcurrencyForbid, active: 1, deadline: seconds(30), settled: "10:00:00", now: "10:05:31",
			want: decision{settled: at("10:05:00"), missed: 1, next: at("10:10:00"), wake: at("10:10:00")},
		},
		"replaced": {
			reason: "it waits for the old one to be stopped",
			policy: v1alpha1.ConcurrencyReplace, active: 1, settled: "10:00:00", now: "10:05:00",
			want: decision{waits: at("10:05:00"), settled: at("10:00:00"), next: at("10:10:00"), wake: at("10:10:00")},
		},
		"allowed": {
			policy: v1alpha1.ConcurrencyAllow, active: 3, settled: "10:00:00", now: "10:05:00",
			want: decision{start: at("10:05:00"), settled: at("10:05:00"), next: at("10:10:00"), wake: at("10:10:00")},
		},
		"suspended": {
			reason:  "what was due is decided when it is resumed",
			suspend: true, settled: "10:00:00", now: "12:00:00",
			want: decision{settled: at("10:00:00")},
		},
		"the clock went back": {
			settled: "10:05:00", now: "09:00:30",
			want: decision{settled: at("10:05:00"), next: at("09:05:00"), wake: at("09:05:00")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := schedule.Parse("*/5 * * * *", "Etc/UTC")
			if err != nil {
				t.Fatal(err)
			}
			got := timing{schedule: s, suspend: c.suspend, policy: c.policy, deadline: c.deadline}.decide(at(c.settled), at(c.now), c.active)
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(decision{})); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

// TestEveryTimeIsRunOrMissed: whatever happens, each time of the schedule is either
// run, once, or counted as missed, once.
func TestEveryTimeIsRunOrMissed(t *testing.T) {
	s, err := schedule.Parse("*/5 * * * *", "Etc/UTC")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		timing := timing{schedule: s, policy: rapid.SampledFrom([]string{v1alpha1.ConcurrencyForbid, v1alpha1.ConcurrencyReplace, v1alpha1.ConcurrencyAllow}).Draw(t, "policy")}
		if d := rapid.Int64Range(-1, 900).Draw(t, "deadline"); d >= 0 {
			timing.deadline = &d
		}
		began := at("00:00:00")
		settled, now, active := began, began, 0
		var missed int64
		run := map[time.Time]bool{}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 1500).Draw(t, "seconds")) * time.Second)
			timing.suspend = rapid.IntRange(0, 9).Draw(t, "suspended") == 0
			if rapid.Bool().Draw(t, "ended") {
				active = 0
			}
			d := timing.decide(settled, now, active)
			if d.settled.Before(settled) || d.settled.After(now) {
				t.Fatalf("settled went from %s to %s at %s", settled, d.settled, now)
			}
			if !d.wake.IsZero() && !d.wake.After(now) {
				t.Fatalf("wakes at %s, which is not after %s", d.wake, now)
			}
			settled, missed = d.settled, missed+d.missed
			if !d.start.IsZero() {
				if run[d.start] || active > 0 && timing.policy != v1alpha1.ConcurrencyAllow {
					t.Fatalf("%s is run, with %d active; before: %v", d.start, active, run)
				}
				run[d.start] = true
				active++
			}
		}
		all := int64(settled.Sub(began) / (5 * time.Minute))
		if int64(len(run))+missed != all {
			t.Fatalf("%d run and %d missed, want %d up to %s", len(run), missed, all, settled)
		}
	})
}

func TestExpired(t *testing.T) {
	runs := map[string]*v1alpha1.Synchronization{}
	add := func(name, state, clock string, ttl int32) {
		s := &v1alpha1.Synchronization{ObjectMeta: metav1.ObjectMeta{Name: name}}
		s.Status.State, s.Status.StartTime = state, &metav1.Time{Time: at(clock)}
		if state != v1alpha1.StateRunning {
			s.Status.CompletionTime = s.Status.StartTime
		}
		if ttl >= 0 {
			s.Spec.TTLSecondsAfterFinished = &ttl
		}
		runs[name] = s
	}
	for i := range 5 {
		add(fmt.Sprint("good", i), v1alpha1.StateComplete, fmt.Sprintf("10:0%d:00", i), -1)
		add(fmt.Sprint("bad", i), v1alpha1.StateFailed, fmt.Sprintf("11:0%d:00", i), -1)
	}
	add("running", v1alpha1.StateRunning, "09:00:00", 0)
	add("over", v1alpha1.StateComplete, "11:59:00", 60)
	add("not yet", v1alpha1.StateComplete, "11:59:00", 61)
	names, next := expired(&v1alpha1.SynchronizationPlanSpec{}, runs, at("12:00:00"))
	// Of the good ones the newest three are kept, of which one is "not yet".
	want := []string{"bad0", "bad1", "bad2", "bad3", "good0", "good1", "good2", "over"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if !next.Equal(at("12:00:01")) {
		t.Errorf("next at %s, want when the time of \"not yet\" is over", next)
	}
	none := int32(0)
	names, _ = expired(&v1alpha1.SynchronizationPlanSpec{SuccessfulRunsHistoryLimit: &none, FailedRunsHistoryLimit: &none}, runs, at("12:00:00"))
	if len(names) != 12 {
		t.Errorf("with limits of 0: %v, want all but the running one", names)
	}
}
