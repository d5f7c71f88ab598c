package synchronization

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/afterimage-dr/afterimage/internal/manifest"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

func ptr[T any](v T) *T { return &v }

func TestPlanRunsEachTime(t *testing.T) {
	bubble(t, func(r *runsRig) {
		p := r.start("one", plans(every("*/10 * * * *")))
		began := time.Now()
		time.Sleep(65 * time.Minute)
		var want []string
		for n := 1; n <= 6; n++ {
			want = append(want, runAt(began.Add(time.Duration(n)*10*time.Minute)))
		}
		_, done := r.plugin.lists()
		if diff := cmp.Diff(want, done); diff != "" {
			t.Errorf("runs (-want +got):\n%s", diff)
		}
		// Of them three are kept.
		if diff := cmp.Diff([]string{want[3] + " Complete", want[4] + " Complete", want[5] + " Complete"}, p.states()); diff != "" {
			t.Errorf("status (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{want[3] + " Complete", want[4] + " Complete", want[5] + " Complete", "plan/plan"}, r.logged("default")); diff != "" {
			t.Errorf("the log (-want +got):\n%s", diff)
		}
		s := p.plan().Status
		last, next := began.Add(60*time.Minute), began.Add(70*time.Minute)
		switch {
		case !s.LastScheduleTime.Time.Equal(last), !s.NextScheduleTime.Time.Equal(next), s.LastSuccessfulTime.Sub(last) > 2*time.Second:
			t.Errorf("last %s, next %s, successful %s; want %s, %s and a second after the last", s.LastScheduleTime, s.NextScheduleTime, s.LastSuccessfulTime, last, next)
		case s.MissedRuns != 0, len(s.Active) != 0, s.Conditions[0].Reason != "Scheduled":
			t.Errorf("status %+v", s)
		}
		_, runs := p.Status()
		if runs[0].Plan != "plan" {
			t.Errorf("a run of plan %q", runs[0].Plan)
		}
		p.end()
	})
}

func TestRunsAreOwned(t *testing.T) {
	plan := every("* * * * *")
	plan.UID = "u"
	plan.Spec.Template.Metadata = v1alpha1.TemplateMetadata{Labels: map[string]string{"team": "x"}, Annotations: map[string]string{"note": "y"}}
	moment := time.Date(2026, 11, 25, 4, 30, 0, 0, time.UTC)
	s := runFor(plan, moment, moment)
	owner := s.OwnerReferences[0]
	switch {
	case s.Name != "plan-29926350" || s.Namespace != "default":
		t.Errorf("name %s/%s", s.Namespace, s.Name)
	case owner.Kind != "SynchronizationPlan" || owner.Name != "plan" || owner.UID != "u" || owner.APIVersion != "automation.astronetes.io/v1alpha1" || !*owner.Controller:
		t.Errorf("owner %+v", owner)
	case s.Labels[LabelPlan] != "plan" || s.Labels["team"] != "x" || s.Annotations["note"] != "y" || s.Annotations[annotationScheduled] != "2026-11-25T04:30:00Z":
		t.Errorf("labels %v, annotations %v", s.Labels, s.Annotations)
	case len(plan.Spec.Template.Metadata.Labels) != 1:
		t.Error("the plan was changed")
	}
}

func TestForbid(t *testing.T) {
	bubble(t, func(r *runsRig) {
		began := time.Now()
		r.plugin.set(25*time.Minute+30*time.Second, nil)
		p := r.start("one", plans(every("*/10 * * * *")))
		time.Sleep(35 * time.Minute) // begun at 10, due at 20 and 30, ends at 35:30
		if s := p.plan().Status; len(s.Active) != 1 || s.Active[0].Name != runAt(began.Add(10*time.Minute)) || s.MissedRuns != 1 {
			t.Errorf("while it runs: %+v, want the time before the latest missed", s)
		}
		time.Sleep(time.Minute)
		begun, _ := r.plugin.lists()
		if diff := cmp.Diff([]string{runAt(began.Add(10 * time.Minute)), runAt(began.Add(30 * time.Minute))}, begun); diff != "" {
			t.Errorf("begun (-want +got):\n%s", diff)
		}
		if n := strings.Count(r.logs.String(), "it is started when that has ended"); n != 2 {
			t.Errorf("said %d times, want once for each of the two times\n%s", n, r.logs)
		}
		p.end()
		if r.plugin.most != 1 {
			t.Errorf("%d at a time", r.plugin.most)
		}
	})
}

func TestForbidWithDeadline(t *testing.T) {
	bubble(t, func(r *runsRig) {
		began := time.Now()
		r.plugin.set(12*time.Minute, nil)
		p := r.start("one", plans(every("*/10 * * * *", func(s *v1alpha1.SynchronizationPlanSpec) { s.StartingDeadlineSeconds = ptr(int64(60)) })))
		time.Sleep(21*time.Minute + 30*time.Second) // begun at 10, ends at 22; 20 is given up at 21
		if s := p.plan().Status; s.MissedRuns != 1 {
			t.Errorf("missed %d, want the time whose deadline has passed", s.MissedRuns)
		}
		time.Sleep(10 * time.Minute)
		begun, _ := r.plugin.lists()
		if diff := cmp.Diff([]string{runAt(began.Add(10 * time.Minute)), runAt(began.Add(30 * time.Minute))}, begun); diff != "" {
			t.Errorf("begun (-want +got):\n%s", diff)
		}
		p.end()
	})
}

func TestReplace(t *testing.T) {
	bubble(t, func(r *runsRig) {
		began := time.Now()
		r.plugin.set(time.Hour, nil)
		p := r.start("one", plans(every("*/10 * * * *", func(s *v1alpha1.SynchronizationPlanSpec) { s.ConcurrencyPolicy = v1alpha1.ConcurrencyReplace })))
		time.Sleep(25 * time.Minute)
		first, second := runAt(began.Add(10*time.Minute)), runAt(began.Add(20*time.Minute))
		if diff := cmp.Diff([]string{first + " Failed", second + " Running"}, p.states()); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
		_, runs := p.Status()
		if c := runs[0].Status.Conditions[0]; c.Reason != ReasonReplaced {
			t.Errorf("the old one: %+v", c)
		}
		if s := p.plan().Status; s.MissedRuns != 0 {
			t.Errorf("missed %d, want none", s.MissedRuns)
		}
		p.end()
		if r.plugin.most != 1 {
			t.Errorf("%d at a time", r.plugin.most)
		}
	})
}

func TestAllow(t *testing.T) {
	bubble(t, func(r *runsRig) {
		r.plugin.set(25*time.Minute, nil)
		p := r.start("one", plans(every("*/10 * * * *", func(s *v1alpha1.SynchronizationPlanSpec) { s.ConcurrencyPolicy = v1alpha1.ConcurrencyAllow })))
		time.Sleep(31 * time.Minute)
		if got := p.plan().Status.Active; len(got) != 3 {
			t.Errorf("active: %v, want three", got)
		}
		p.end()
	})
}

func TestMissedWhileNothingRan(t *testing.T) {
	bubble(t, func(r *runsRig) {
		set := plans(every("*/10 * * * *"))
		began := time.Now()
		p := r.start("one", set)
		time.Sleep(15 * time.Minute)
		p.end()
		time.Sleep(2 * time.Hour)
		p = r.start("one", set) // at 2:15; due since 0:10 were 0:20 to 2:10
		time.Sleep(time.Minute)
		_, done := r.plugin.lists()
		if diff := cmp.Diff([]string{runAt(began.Add(10 * time.Minute)), runAt(began.Add(130 * time.Minute))}, done); diff != "" {
			t.Errorf("runs (-want +got):\n%s", diff)
		}
		if s := p.plan().Status; s.MissedRuns != 11 {
			t.Errorf("missed %d, want the 11 before the latest", s.MissedRuns)
		}
		if n := strings.Count(r.logs.String(), "scheduled runs were missed"); n != 1 || !strings.Contains(r.logs.String(), "missed=11") {
			t.Errorf("said %d times\n%s", n, r.logs)
		}
		p.end()
	})
}

// TestCutOffRunOfAPlan: it is made again under its name, and its time is not run twice.
func TestCutOffRunOfAPlan(t *testing.T) {
	bubble(t, func(r *runsRig) {
		set := plans(every("*/10 * * * *"))
		began := time.Now()
		r.plugin.set(5*time.Minute, nil)
		p := r.start("one", set)
		time.Sleep(12 * time.Minute)
		p.end()
		name := runAt(began.Add(10 * time.Minute))
		if diff := cmp.Diff([]string{name + " Running", "plan/plan"}, r.logged("default")); diff != "" {
			t.Errorf("the log (-want +got):\n%s", diff)
		}
		p = r.start("one", set)
		time.Sleep(7 * time.Minute)
		p.end()
		begun, done := r.plugin.lists()
		if diff := cmp.Diff([]string{name, name}, begun); diff != "" || len(done) != 1 {
			t.Errorf("done: %v; begun (-want +got):\n%s", done, diff)
		}
	})
}

func TestSuspendAndResume(t *testing.T) {
	bubble(t, func(r *runsRig) {
		began := time.Now()
		suspended := every("*/10 * * * *", func(s *v1alpha1.SynchronizationPlanSpec) { s.Suspend = true })
		p := r.start("one", plans(suspended))
		time.Sleep(35 * time.Minute)
		s := p.plan()
		if begun, _ := r.plugin.lists(); len(begun) != 0 || s.Status.NextScheduleTime != nil || s.Status.Conditions[0].Reason != "Suspended" || !s.Suspend {
			t.Errorf("while suspended: %v, %+v", begun, s)
		}
		p.Apply(p.ctx, plans(every("*/10 * * * *")))
		time.Sleep(time.Minute)
		begun, _ := r.plugin.lists()
		if diff := cmp.Diff([]string{runAt(began.Add(30 * time.Minute))}, begun); diff != "" {
			t.Errorf("resumed, without a deadline the latest is run, as by a CronJob (-want +got):\n%s", diff)
		}
		if got := p.plan().Status; got.MissedRuns != 2 {
			t.Errorf("missed %d, want the two before", got.MissedRuns)
		}
		p.end()
	})
}

func TestChangedSchedule(t *testing.T) {
	bubble(t, func(r *runsRig) {
		began := time.Now()
		p := r.start("one", plans(every("0 12 * * *")))
		time.Sleep(5 * time.Minute)
		p.Apply(p.ctx, plans(every("2-59/10 * * * *")))
		time.Sleep(10 * time.Minute)
		begun, _ := r.plugin.lists()
		if diff := cmp.Diff([]string{runAt(began.Add(12 * time.Minute))}, begun); diff != "" {
			t.Errorf("without a restart, and not for a time before the change (-want +got):\n%s", diff)
		}
		p.end()
		// The same while nothing runs: a time of another schedule was not missed.
		time.Sleep(time.Hour)
		p = r.start("one", plans(every("*/7 * * * *")))
		time.Sleep(30 * time.Second)
		if got := p.plan().Status; got.MissedRuns != 0 {
			t.Errorf("missed %d, want none", got.MissedRuns)
		}
		p.end()
	})
}

func TestRemovedPlan(t *testing.T) {
	bubble(t, func(r *runsRig) {
		p := r.start("one", plans(every("*/10 * * * *")))
		time.Sleep(15 * time.Minute)
		p.Apply(p.ctx, plans())
		time.Sleep(time.Hour)
		if begun, _ := r.plugin.lists(); len(begun) != 1 {
			t.Errorf("begun: %v, want none after it was removed", begun)
		}
		if plans, runs := p.Status(); len(plans)+len(runs) != 0 {
			t.Errorf("status still has %v, %v", plans, runs)
		}
		p.Apply(p.ctx, plans(every("*/10 * * * *")))
		time.Sleep(6 * time.Minute) // 1:21
		if got := p.plan().Status; got.MissedRuns != 5 {
			t.Errorf("named again: missed %d, want the 5 before the latest", got.MissedRuns)
		}
		p.end()
	})
}

func TestFailedRunsOfAPlan(t *testing.T) {
	bubble(t, func(r *runsRig) {
		r.plugin.set(time.Second, errors.New("no"))
		p := r.start("one", plans(every("*/10 * * * *")))
		time.Sleep(35 * time.Minute)
		if got := p.states(); len(got) != 1 || !strings.HasSuffix(got[0], " Failed") {
			t.Errorf("%v, want one that failed to be kept", got)
		}
		if s := p.plan().Status; s.LastSuccessfulTime != nil || s.LastScheduleTime == nil {
			t.Errorf("%+v", s)
		}
		p.end()
	})
}

// TestDaylightSaving runs through both changes of the clock in Berlin.
func TestDaylightSaving(t *testing.T) {
	for name, c := range map[string]struct {
		from time.Time
		want []time.Time
	}{
		"spring": {
			from: time.Date(2000, 3, 26, 0, 15, 0, 0, time.UTC),
			want: []time.Time{time.Date(2000, 3, 26, 1, 30, 0, 0, time.UTC)}, // 03:30, not 02:30
		},
		"autumn": {
			from: time.Date(2000, 10, 29, 0, 15, 0, 0, time.UTC),
			want: []time.Time{
				time.Date(2000, 10, 29, 0, 30, 0, 0, time.UTC), time.Date(2000, 10, 29, 1, 30, 0, 0, time.UTC), // 02:30 twice
				time.Date(2000, 10, 29, 2, 30, 0, 0, time.UTC), // 03:30
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubbleAt(t, c.from, func(r *runsRig) {
				p := r.start("one", plans(every("30 2,3 * * *", func(s *v1alpha1.SynchronizationPlanSpec) { s.TimeZone = "Europe/Berlin" })))
				time.Sleep(time.Until(c.want[len(c.want)-1].Add(20 * time.Minute)))
				p.end()
				var want []string
				for _, at := range c.want {
					want = append(want, runAt(at))
				}
				_, done := r.plugin.lists()
				if diff := cmp.Diff(want, done); diff != "" {
					t.Errorf("runs (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestTwoProcesses share a log: each time is run once, and one goes on for the other.
func TestTwoProcesses(t *testing.T) {
	bubble(t, func(r *runsRig) {
		began := time.Now()
		set := plans(every("*/10 * * * *"))
		set.Synchronizations = manifests(oneOff("a")).Synchronizations
		one, two := r.start("one", set), r.start("two", set)
		time.Sleep(35 * time.Minute)
		begun, _ := r.plugin.lists()
		want := []string{"a", runAt(began.Add(10 * time.Minute)), runAt(began.Add(20 * time.Minute)), runAt(began.Add(30 * time.Minute))}
		if diff := cmp.Diff(want, begun); diff != "" {
			t.Errorf("begun (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(one.states(), two.states()); diff != "" || len(one.states()) != 4 {
			t.Errorf("%v; the other says otherwise:\n%s", one.states(), diff)
		}
		if a, b := one.plan().Status, two.plan().Status; !a.LastScheduleTime.Equal(b.LastScheduleTime) || !a.NextScheduleTime.Equal(b.NextScheduleTime) {
			t.Errorf("one says %+v, the other %+v", a, b)
		}
		// The one that is elected ends in mid-run.
		r.plugin.set(5*time.Minute, nil)
		time.Sleep(7 * time.Minute) // 0:42
		first, other := one, two
		if two.elected() {
			first, other = two, one
		}
		if !first.elected() || other.elected() {
			t.Fatalf("elected: %v and %v, want one of them", one.elected(), two.elected())
		}
		first.end()
		time.Sleep(7 * time.Minute)
		again := runAt(began.Add(40 * time.Minute))
		begun, done := r.plugin.lists()
		if begun = begun[len(want):]; !cmp.Equal(begun, []string{again, again}) || done[len(done)-1] != again {
			t.Errorf("begun %v, done %v, want %s made again by the other", begun, done, again)
		}
		other.end()
	})
}

// elected tells whether the process runs the plan.
func (p *process) elected() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.members["default/plan/plan"].current() != nil
}

// TestDifferentManifests: two processes of one namespace each run what they were given.
func TestDifferentManifests(t *testing.T) {
	bubble(t, func(r *runsRig) {
		one, two := r.start("one", manifests(oneOff("a"))), r.start("two", manifests(oneOff("b")))
		r.until("both are complete", func() bool {
			return cmp.Equal(one.states(), []string{"a Complete"}) && cmp.Equal(two.states(), []string{"b Complete"})
		})
		one.end()
		two.end()
	})
}

// TestZombiesRecord: what a process writes after it lost the election does not stay.
func TestZombiesRecord(t *testing.T) {
	bubble(t, func(r *runsRig) {
		r.plugin.set(time.Hour, nil)
		set := plans(every("0 12 * * *"))
		set.Synchronizations = manifests(oneOff("a")).Synchronizations
		p := r.start("one", set)
		time.Sleep(5 * time.Minute)
		w, err := p.client.Writer()
		if err != nil {
			t.Fatal(err)
		}
		zombie := oneOff("a")
		zombie.Status.State = v1alpha1.StateFailed
		for key, object := range map[string]any{"a": zombie, "plan/plan": nil} {
			rec, err := record(topology.RunsTopic("default"), key, "zombie", object)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.AppendSync(r.Context(), rec); err != nil {
				t.Fatal(err)
			}
		}
		w.Close()
		r.until("the log is right again", func() bool { return cmp.Equal(r.logged("default"), []string{"a Running", "plan/plan"}) })
		p.end()
	})
}

// TestTopicDeleted: what has been run is forgotten, what runs is run again, and what is
// to come is not lost. In real time: while the topic is gone its followers ask for it
// without a pause, and the time of a bubble passes only in pauses.
func TestTopicDeleted(t *testing.T) {
	e, err := stream.StartEmbedded(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	r := &runsRig{
		T: t, embedded: e, plugin: &fakePlugin{takes: time.Hour}, logs: &syncBuffer{},
		topicPeriod: 200 * time.Millisecond, patience: time.Minute,
	}
	p := r.start("one", &manifest.Set{
		Synchronizations:     []*v1alpha1.Synchronization{oneOff("a")},
		SynchronizationPlans: []*v1alpha1.SynchronizationPlan{every("0 0 1 1 *")},
	})
	r.until("both are in the log", func() bool { return cmp.Equal(r.logged("default"), []string{"a Running", "plan/plan"}) })
	r.plugin.set(time.Millisecond, nil)
	if err := p.client.Delete(t.Context(), topology.RunsTopic("default")); err != nil {
		t.Fatal(err)
	}
	r.until("both are in the topic made anew", func() bool { return cmp.Equal(r.logged("default"), []string{"a Complete", "plan/plan"}) })
	p.end()
}

// TestLedgerOutlivesItsFirstMember: the runs of a namespace are followed for all plans
// and Synchronizations in it, whichever was the first and is no longer.
func TestLedgerOutlivesItsFirstMember(t *testing.T) {
	bubble(t, func(r *runsRig) {
		p := r.start("one", plans(every("0 12 * * *")))
		r.until("the plan is in the log", func() bool { return cmp.Equal(r.logged("default"), []string{"plan/plan"}) })
		p.Apply(p.ctx, manifests(oneOff("a")))
		r.until("it is complete, in the log too", func() bool {
			return cmp.Equal(p.states(), []string{"a Complete"}) && cmp.Equal(r.logged("default"), []string{"a Complete", "plan/plan"})
		})
		time.Sleep(time.Minute) // long enough for it to have read its own record
		if s := p.ledgers["default"].run("a"); s == nil || !finished(s) {
			t.Errorf("the ledger has %+v, want what the log has", s)
		}
		p.end()
	})
}
