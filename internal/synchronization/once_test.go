package synchronization

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/afterimage-dr/afterimage/internal/manifest"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

func TestRunsOnce(t *testing.T) {
	bubble(t, func(r *rig) {
		set := manifests(oneOff("a"), oneOff("b"))
		p := r.start("one", set)
		r.until("both are complete", func() bool { return cmp.Equal(p.states(), []string{"a Complete", "b Complete"}) })
		p.Apply(p.ctx, set) // read again
		time.Sleep(5 * time.Minute)
		p.end()
		p = r.start("one", set)
		time.Sleep(5 * time.Minute)
		if diff := cmp.Diff([]string{"a Complete", "b Complete"}, p.states()); diff != "" {
			t.Errorf("after a restart (-want +got):\n%s", diff)
		}
		_, runs := p.Status()
		if s := runs[0].Status; s.Result.Created != 2 || s.CompletionTime == nil || s.Attempts != 1 || s.Conditions[0].Type != v1alpha1.ConditionComplete {
			t.Errorf("status after a restart: %+v", s)
		}
		p.end()
		if begun, _ := r.plugin.lists(); len(begun) != 2 {
			t.Errorf("begun: %v, want each once", begun)
		}
		if diff := cmp.Diff([]string{"a Complete", "b Complete"}, r.logged("default")); diff != "" {
			t.Errorf("the log (-want +got):\n%s", diff)
		}
	})
}

func TestCutOffRunsGoOn(t *testing.T) {
	bubble(t, func(r *rig) {
		set := manifests(oneOff("a"))
		r.plugin.set(time.Hour, nil)
		p := r.start("one", set)
		r.until("it runs", func() bool { begun, _ := r.plugin.lists(); return len(begun) == 1 })
		time.Sleep(10 * time.Minute)
		_, runs := p.Status()
		began := runs[0].Status.StartTime
		if runs[0].Status.State != v1alpha1.StateRunning || runs[0].Status.Result.Created != 1 {
			t.Errorf("while it runs: %+v", runs[0].Status)
		}
		p.end()
		if diff := cmp.Diff([]string{"a Running"}, r.logged("default")); diff != "" {
			t.Errorf("the log after the end of the process (-want +got):\n%s", diff)
		}
		r.plugin.set(time.Second, nil)
		p = r.start("one", set)
		r.until("it is complete", func() bool { return cmp.Equal(p.states(), []string{"a Complete"}) })
		_, runs = p.Status()
		if s := runs[0].Status; s.StartTime.Unix() != began.Unix() || s.Attempts != 1 {
			t.Errorf("began at %s, attempt %d; want at %s, 1: being cut off is no failure", s.StartTime, s.Attempts, began)
		}
		p.end()
	})
}

func TestFailedRunIsNotRunAgain(t *testing.T) {
	bubble(t, func(r *rig) {
		r.plugin.set(time.Second, Permanent(errors.New("no root")))
		p := r.start("one", manifests(oneOff("a")))
		r.until("it failed", func() bool { return cmp.Equal(p.states(), []string{"a Failed"}) })
		p.end()
		r.plugin.set(time.Second, nil)
		p = r.start("one", manifests(oneOff("a")))
		time.Sleep(5 * time.Minute)
		p.end()
		if begun, _ := r.plugin.lists(); len(begun) != 1 {
			t.Errorf("begun: %v, want it once", begun)
		}
	})
}

func TestChangedSpecIsRefused(t *testing.T) {
	bubble(t, func(r *rig) {
		p := r.start("one", manifests(oneOff("a")))
		r.until("it is complete", func() bool { return cmp.Equal(p.states(), []string{"a Complete"}) })
		p.end()
		changed := oneOff("a")
		changed.Spec.Config.RootPath = "/other"
		p = r.start("one", manifests(changed))
		time.Sleep(time.Minute)
		_, runs := p.Status()
		if len(runs) != 1 || !strings.HasPrefix(runs[0].Refused, "spec: cannot be changed") || !strings.Contains(runs[0].Refused, "expected") {
			t.Errorf("status: %+v, want it refused", runs)
		}
		if n := strings.Count(r.logs.String(), "spec: cannot be changed"); n != 1 {
			t.Errorf("said %d times, want once", n)
		}
		p.end()
		if begun, _ := r.plugin.lists(); len(begun) != 1 {
			t.Errorf("begun: %v, want it once", begun)
		}
	})
}

func TestUnknownPluginFails(t *testing.T) {
	bubble(t, func(r *rig) {
		s := oneOff("a")
		s.Spec.Plugin = v1alpha1.PluginKubernetes
		p := r.start("one", manifests(s))
		r.until("it failed", func() bool { return cmp.Equal(p.states(), []string{"a Failed"}) })
		_, runs := p.Status()
		if got := runs[0].Status.Conditions[0].Message; !strings.Contains(got, "spec.plugin: kubernetes-objects-to-kubernetes cannot be run") {
			t.Errorf("message %q", got)
		}
		p.end()
	})
}

func TestForgottenAfterItsTime(t *testing.T) {
	bubble(t, func(r *rig) {
		s := oneOff("a")
		ttl := int32(300)
		s.Spec.TTLSecondsAfterFinished = &ttl
		p := r.start("one", manifests(s))
		r.until("it is complete", func() bool { return cmp.Equal(p.states(), []string{"a Complete"}) })
		time.Sleep(4 * time.Minute)
		if len(p.states()) != 1 {
			t.Error("it is forgotten before its time")
		}
		time.Sleep(2 * time.Minute)
		if got := p.states(); len(got) != 0 {
			t.Errorf("after its time: %v, want nothing", got)
		}
		p.end()
		p = r.start("one", manifests(s))
		time.Sleep(5 * time.Minute)
		p.end()
		if begun, _ := r.plugin.lists(); len(begun) != 1 {
			t.Errorf("begun: %v, want it once although it is not shown any more", begun)
		}
	})
}

// TestRunOfAPlanKeepsItsName: a Synchronization of the manifests may not take over.
func TestRunOfAPlanKeepsItsName(t *testing.T) {
	bubble(t, func(r *rig) {
		p := r.start("one", plans(every("* * * * *")))
		r.minute(30)
		p.end()
		_, done := r.plugin.lists()
		if len(done) != 1 {
			t.Fatalf("done: %v, want one", done)
		}
		p = r.start("one", &manifest.Set{Synchronizations: []*v1alpha1.Synchronization{oneOff(done[0])}})
		time.Sleep(5 * time.Minute)
		_, runs := p.Status()
		if len(runs) != 1 || !strings.Contains(runs[0].Refused, "SynchronizationPlan plan") {
			t.Errorf("status: %+v, want it refused", runs)
		}
		p.end()
		if begun, _ := r.plugin.lists(); len(begun) != 1 {
			t.Errorf("begun: %v, want it once", begun)
		}
	})
}
