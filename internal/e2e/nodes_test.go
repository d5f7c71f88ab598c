package e2e

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/afterimage-dr/afterimage/internal/status"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

const (
	sampleOnce = "09-zookeeper-once.yaml"
	samplePlan = "10-zookeeper-plan.yaml"
	sampleLive = "14-live-zookeeper.yaml"
)

// The documented samples as they are: a copy by hand, then an hourly plan whose run is
// killed in the middle.
func TestNodeSamples(t *testing.T) {
	r := newNodeRig(t)
	f := r.grow("/test", 40, 100)
	once := r.manifests("once", sampleOnce)
	if got := r.begin(once).complete(); got.Result.Created != f.size() || got.Copy.Verified != f.size() {
		t.Errorf("%+v, want %d created and read back", got.Result, f.size())
	}
	r.equal("/test")
	if got := r.begin(once).complete(); got.Result.Unchanged != f.size() || got.Result.Created+got.Result.Updated+got.Result.Deleted != 0 {
		t.Errorf("%+v, want nothing done", got.Result)
	}
	r.planned(f)

	// A source that is gone is not taken for an empty one.
	for _, g := range f.groups {
		for _, leaf := range g.leaves {
			f.remove(leaf)
		}
		f.remove(g.path)
	}
	f.remove("/test")
	f.send()
	before := len(r.destination.read("/test"))
	r.begin(once).refused("SourceRootMissing")
	if after := len(r.destination.read("/test")); after != before {
		t.Errorf("%d nodes at the destination, there were %d", after, before)
	}
}

// planned has a changed tree copied by the plan of the samples, and its run killed in
// the middle.
func (r *nodeRig) planned(f *forest) {
	r.t.Helper()
	f.change(500)
	f.large(25)
	f.fell()
	r.manifests("manifests", samplePlan)
	must(r.t, r.start())
	must(r.t, eventually(patience, func() error {
		p, err := r.process()
		if err == nil && (len(p.SynchronizationPlans) != 1 || p.SynchronizationPlans[0].Status.NextScheduleTime == nil) {
			err = fmt.Errorf("the plan is not scheduled: %+v", p.SynchronizationPlans)
		}
		if err == nil && (p.SynchronizationPlans[0].Status.LastSuccessfulTime != nil || len(p.Synchronizations) != 0) {
			r.t.Errorf("before its time: %+v, %+v", p.SynchronizationPlans, p.Synchronizations)
		}
		return err
	}))
	r.kill()
	// From here on the hour is full in a moment, wherever that is; what is late is made up for.
	zone := r.fullHour()
	must(r.t, r.start(zone, "AFTERIMAGE_FAILPOINTS=zookeeper/after-write=kill@3"))
	select {
	case <-r.exited():
		r.kill()
	case <-time.After(settle):
		r.t.Fatal("the run of the plan did not come to its third write")
	}
	if len(r.differences("/test")) == 0 {
		r.t.Error("everything was copied when it was killed")
	}
	must(r.t, r.start(zone))
	run := r.ran("synchronize-zookeeper")
	if n := run.Status.Result; n.Failed != 0 || n.Created+n.Updated+n.Deleted == 0 || n.Unchanged == 0 {
		r.t.Errorf("%+v, want what the killed process had left", n)
	}
	r.equal("/test")
	r.ready()
	must(r.t, r.stop())
}

// ran waits until the one run of a plan is Complete.
func (r *nodeRig) ran(plan string) (run status.Synchronization) {
	r.t.Helper()
	must(r.t, eventually(settle, func() error {
		p, err := r.process()
		if err != nil {
			return err
		}
		if len(p.Synchronizations) != 1 || p.Synchronizations[0].Plan != plan {
			return fmt.Errorf("want one run of %s: %+v", plan, p.Synchronizations)
		}
		run = p.Synchronizations[0]
		last := p.SynchronizationPlans[0].Status
		if run.Status.State != v1alpha1.StateComplete || last.LastSuccessfulTime == nil || len(last.Active) > 0 {
			return fmt.Errorf("not complete: %+v, of %+v", run, last)
		}
		return nil
	}))
	return run
}

// Guarantee 10 for a copy by hand: SIGKILL at any moment, and what was equal is not
// written again.
func TestSyncKilledAtRandom(t *testing.T) {
	r := newNodeRig(t)
	f := r.grow("/test", 100, 200)
	once := r.manifests("once", sampleOnce)
	was := map[string]znode{}
	kills, partly, longest := 0, 0, time.Second
	for round := 0; kills < 8 || partly < 3; round++ {
		if round == 30 {
			t.Fatalf("%d were killed and %d of them had written something, want most", kills, partly)
		}
		s := r.begin(once)
		time.Sleep(50*time.Millisecond + time.Duration(r.random.Int64N(int64(longest))))
		killed := s.kill()
		is := r.destination.read("/test")
		switch {
		case !killed: // it takes less time here
			longest = longest * 3 / 4
		case maps.Equal(is, was): // or more
			longest = longest * 5 / 4
			kills++
		default:
			kills++
			partly++
		}
		undisturbed(t, was, is)
		was = is
		f.change(500)
		for range 5 {
			f.fell()
		}
	}
	t.Logf("%d killed, of which %d had written something", kills, partly)
	r.begin(once).complete()
	r.equal("/test")
	undisturbed(t, was, r.destination.read("/test"))
}

// undisturbed compares a destination with itself, a little later: data that is the same
// was not written. The source never says the same twice.
func undisturbed(t *testing.T, was, is map[string]znode) {
	t.Helper()
	for path, n := range was {
		if now, ok := is[path]; ok && now.content == n.content && now != n {
			t.Errorf("%s was written again: %+v, it was %+v", path, now, n)
		}
	}
}

// nodeSteps are the failpoints of a copy of nodes.
var nodeSteps = []string{"zookeeper/before-append", "zookeeper/after-append", "zookeeper/before-write", "zookeeper/after-write"}

// Guarantee 10 for a copy by hand, at each step: at its first time and at one in the
// middle.
func TestSyncKilledAtEachStep(t *testing.T) {
	r := newNodeRig(t)
	f := r.grow("/test", 20, 50)
	once := r.manifests("once", sampleOnce)
	for _, step := range nodeSteps {
		for _, hit := range []int{1, 2 + r.random.IntN(9)} {
			t.Logf("%s at its %d. time", step, hit)
			r.begin(once, fmt.Sprintf("AFTERIMAGE_FAILPOINTS=%s=kill@%d", step, hit)).killed()
			was := r.destination.read("/test")
			r.begin(once).complete()
			r.equal("/test")
			undisturbed(t, was, r.destination.read("/test"))
			f.change(50)
			f.fell()
			f.large(11) // behind what fells some: a transaction each
		}
	}
}

// A live copy, killed under a source that changes.
func TestLiveNodesKilled(t *testing.T) {
	r := newNodeRig(t)
	f := r.grow("/app/config", 20, 50)
	f.create("/app/config/locks", "left out")
	f.create("/app/config/locks/lock", "left out")
	f.send()
	f.must(f.conn.Create(f.chroot+"/app/config/ephemeral", nil, zk.FlagEphemeral, zk.WorldACL(zk.PermAll)))
	r.manifests("manifests", sampleLive)
	for range 10 {
		must(t, r.start())
		for end := time.Now().Add(200*time.Millisecond + time.Duration(r.random.Int64N(int64(1500*time.Millisecond)))); time.Now().Before(end); {
			f.change(5)
			time.Sleep(10 * time.Millisecond)
		}
		r.kill()
		f.fell()
	}
	must(t, r.start())
	f.change(100)
	r.caughtUp(time.Now())
	r.equal("/app/config", "/app/config/locks", "/app/config/ephemeral")
	r.ready()
	must(t, r.stop())
}

// caughtUp waits until the live copy says that the destination holds all that the
// source did then. What it says of itself is held against it: nothing may be missing
// from there on.
func (r *nodeRig) caughtUp(then time.Time) {
	r.t.Helper()
	must(r.t, eventually(settle, func() error {
		s, err := r.status()
		if err != nil {
			return err
		}
		if s.State != v1alpha1.StateReady || s.VerifiedAt == nil || s.VerifiedAt.Time.Before(then) {
			return fmt.Errorf("not Ready after %s: %+v", then, s)
		}
		return nil
	}))
}

// synchronization by hand of the tree that the live sample copies.
const ofLive = `apiVersion: automation.astronetes.io/v1alpha1
kind: Synchronization
metadata: {name: by-hand}
spec:
  plugin: zookeeper-to-zookeeper-nodes
  config: {sourceName: zookeeper-source, destinationName: zookeeper-destination, rootPath: /app/config}
`

// Copies by hand beside an afterimage that runs with the same data directory.
func TestSyncBesideRun(t *testing.T) {
	r := newNodeRig(t)
	watched, f := r.grow("/app/config", 5, 20), r.grow("/test", 20, 50)
	r.manifests("manifests", sampleLive)
	once, same := r.manifests("once", sampleOnce), r.manifests("same")
	must(t, os.WriteFile(filepath.Join(same, "by-hand.yaml"), []byte(ofLive), 0o600))
	must(t, r.start())
	r.ready()
	// That tree is the live copy's; this one waits until it is clear that it stays so.
	busy := r.begin(same)

	// Two of another tree take turns, and nothing is done twice.
	one, other := r.begin(once), r.begin(once)
	if n := one.complete().Result.Created + other.complete().Result.Created; n != f.size() {
		t.Errorf("%d were created, want %d", n, f.size())
	}
	r.equal("/test")
	// One that is killed keeps its place for a session, and the next waits for that.
	f.change(100)
	r.begin(once, "AFTERIMAGE_FAILPOINTS=zookeeper/after-write=kill@1").killed()
	r.begin(once).complete()
	r.equal("/test")

	watched.change(50)
	r.caughtUp(time.Now())
	r.equal("/app/config")
	got := busy.refused("TreeBusy")
	p, err := r.process()
	must(t, err)
	for _, want := range []string{"rootPath /app/config", "another process, " + p.InstanceID} {
		if message := got.Conditions[0].Message; !strings.Contains(message, want) {
			t.Errorf("%q, want it to say %q", message, want)
		}
	}
	watched.change(50)
	r.caughtUp(time.Now())
	r.equal("/app/config")
	must(t, r.stop())
	r.begin(same).complete()
	r.alone(once, f)
}

// alone has one copy by hand hold the data directory, which it does not share.
func (r *nodeRig) alone(once string, f *forest) {
	r.t.Helper()
	f.change(50)
	holder := r.begin(once, "AFTERIMAGE_FAILPOINTS=zookeeper/before-append=stop@1")
	must(r.t, eventually(patience, func() error { return stoppedProcess(holder.cmd) }))
	if got := r.begin(once).wait(); got.exit != 1 || !strings.Contains(got.said, "another command such as sync") {
		r.t.Errorf("exit status %d: %s", got.exit, got.said)
	}
	must(r.t, holder.cmd.Process.Signal(syscall.SIGCONT))
	holder.complete()
	r.equal("/test")
}

// The same with a real Kafka in place of the embedded log: killed, two at a time from
// two machines, and by a plan.
func TestKafkaSyncAndRun(t *testing.T) {
	k := kafka(t)
	r := newNodeRig(t)
	r.brokers = []string{"--brokers", k.Addr()}
	r.args = append(r.brokers, "--session-timeout", session.String())
	forgetTopics(t)
	f := r.grow("/test", 20, 50)
	f.large(20)
	once := r.manifests("once", sampleOnce)
	r.begin(once, "AFTERIMAGE_FAILPOINTS=zookeeper/after-write=kill@2").killed()
	was := r.destination.read("/test")
	if len(was) == 0 || int64(len(was)) == f.size() {
		t.Errorf("%d nodes were copied when it was killed, want some of %d", len(was), f.size())
	}
	one := r.begin(once)
	r.member = "-other"
	other := r.begin(once)
	r.member = ""
	if n := one.complete().Result.Created + other.complete().Result.Created; n != f.size()-int64(len(was)) {
		t.Errorf("%d were created, want %d", n, f.size()-int64(len(was)))
	}
	r.equal("/test")
	undisturbed(t, was, r.destination.read("/test"))
	r.planned(f)
}

// forgetTopics removes those that the samples use from the shared Kafka.
func forgetTopics(t *testing.T) {
	t.Helper()
	adm := admin(t)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		tree := topology.NodeTopics("default", "zookeeper-source", "zookeeper-destination", "/test")
		if _, err := adm.DeleteTopics(ctx, tree.Changes, tree.Outcomes, topology.RunsTopic("default")); err != nil {
			t.Error(err)
		}
	})
}
