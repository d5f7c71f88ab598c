package processor

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

const (
	everything = `{"resources":[{"version":"v1","resource":"configmaps"}]}`
	onlyA      = `{"resources":[{"version":"v1","resource":"configmaps","filters":{"nameSelector":{"regex":["a.*"]}}}]}`
	patched    = `{"resources":[{"version":"v1","resource":"configmaps","transformation":{"patch":[{"op":"add","path":"/data/p","value":"+"}]}}]}`
	// broken fails for every object: there is no such field.
	broken  = `{"resources":[{"version":"v1","resource":"configmaps","transformation":{"patch":[{"op":"remove","path":"/data/none"}]}}]}`
	another = `{"resources":[{"version":"v1","resource":"secrets"}]}`
)

type m = map[string]string

func TestFollows(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.put("a", "1")
	r.start()
	r.put("b", "1")
	r.put("a", "2")
	r.remove("b")
	r.put("c", "1")
	r.settle()
	r.want("creates, updates and deletes", m{"a": "2", "c": "1"})
	var last topology.Record
	for _, rec := range r.read(r.topics.Desired) {
		if rec.Key == key("c") {
			last = rec
		}
	}
	if last.Op != topology.Create || last.Version.Generation != 1 || last.Version.RV != fmt.Sprint(r.rv) || last.Hash == "" || last.UID != "uid-c" || last.ObservedAt.IsZero() || last.Writer != "processor-1" {
		t.Errorf("record of c: %+v", last)
	}
}

// What a patch makes larger than the log takes is held; it must not keep the rest
// of its partition waiting for an append that can never succeed.
func TestObjectPatchedBeyondTheLimitIsHeld(t *testing.T) {
	r := newRig(t)
	big := strings.Repeat("x", 1_700_000)
	r.configure(`{"resources":[{"version":"v1","resource":"configmaps","transformation":{"patch":[{"op":"add","path":"/data/big","value":"` + big + `"}]}}]}`)
	r.start()
	r.put("large", big)
	names := []string{"small"}
	for i := 0; len(names) < 10; i++ {
		names = append(names, fmt.Sprint("small-", i))
	}
	for _, name := range names {
		r.put(name, "1")
	}
	r.settle()
	held := false
	ops := map[string]topology.Op{}
	for _, rec := range r.read(r.topics.Desired) {
		ops[rec.Key] = rec.Op
		held = held || rec.Key == key("large") && rec.Op == topology.Hold && strings.Contains(rec.Reason, "larger than")
	}
	if !held {
		t.Errorf("large is not held: %v", ops[key("large")])
	}
	for _, name := range names {
		if ops[key(name)] != topology.Create {
			t.Errorf("%s: %q", name, ops[key(name)])
		}
	}
}

func TestWaitsForAConfiguration(t *testing.T) {
	r := newRig(t)
	r.put("a", "1")
	r.start()
	r.eventually("it says that it waits", func() bool {
		var s v1alpha1.LiveSynchronizationStatus
		r.p.Report(&s)
		return s.Components[0].Reason == "NoConfiguration" && !s.Components[0].Ready
	})
	if n := r.objects(r.topics.Desired); n != 0 {
		t.Errorf("%d objects without a configuration", n)
	}
	r.configure(everything)
	r.settle()
	r.want("what came before the configuration counts", m{"a": "1"})
}

func TestReplayedCreateDoesNotResurrect(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.put("a", "1")
	r.put("b", "1")
	r.remove("a")
	r.start()
	r.settle()
	for _, rec := range r.read(r.topics.Desired) {
		if rec.Key == key("a") {
			t.Errorf("a was appended: %+v", rec)
		}
	}
	r.want("only the last of each key counts", m{"b": "1"})
}

func TestConfigurationIsSaidOnce(t *testing.T) {
	var p Processor
	var said []int64
	for _, generation := range []int64{5, 5, 5, 6, 6} { // as partitions adopt them
		if p.newsLevel(generation) >= slog.LevelInfo {
			said = append(said, generation)
		}
	}
	if diff := cmp.Diff([]int64{5, 6}, said); diff != "" {
		t.Errorf("said at level info (-want +got):\n%s", diff)
	}
}

func TestConfigurationChanges(t *testing.T) {
	r := newRig(t)
	r.start()
	r.configure(everything)
	r.put("a1", "1")
	r.put("b1", "1")
	r.settle()
	r.want("everything", m{"a1": "1", "b1": "1"})
	r.configure(onlyA)
	r.settle()
	r.want("narrowed: a tombstone", m{"a1": "1"})
	r.configure(everything)
	r.settle()
	r.want("widened: it comes back, with no source", m{"a1": "1", "b1": "1"})
	r.configure(patched)
	r.settle()
	r.want("patched", m{"a1": "1+", "b1": "1+"})
	before := r.objects(r.topics.Desired)
	r.configure(patched)
	r.settle()
	if after := r.objects(r.topics.Desired); after != before {
		t.Errorf("%d records for a configuration that computes the same", after-before)
	}
	r.configure(another)
	r.settle()
	r.want("the resource is not named any more", m{})
	for _, rec := range r.read(r.topics.Desired) {
		if rec.Kind == topology.Object && rec.Version.Generation == 0 {
			t.Errorf("%s has no generation", rec.Key)
		}
	}
}

// Whoever deletes must know that the object may well exist in the source.
func TestTombstoneSaysThatNoEntryNamesTheResource(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.start()
	r.put("a", "1")
	r.put("b", "1")
	r.remove("b")
	r.settle()
	r.configure(another)
	r.settle()
	reasons := m{}
	for _, rec := range r.read(r.topics.Desired) {
		if rec.Op == topology.Delete {
			reasons[rec.Key] = rec.Reason
		}
	}
	if reasons[key("a")] != topology.ReasonUncovered || reasons[key("b")] != "" {
		t.Errorf("reasons: %v", reasons)
	}
}

func TestConfigurationChangedWhileStopped(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.put("a1", "1")
	r.put("b1", "1")
	r.start()
	r.settle()
	r.kill()
	r.put("b2", "1")
	r.configure(onlyA)
	r.put("a2", "1")
	r.start()
	r.settle()
	r.want("everything is computed with the newest configuration", m{"a1": "1", "a2": "1"})
	for _, rec := range r.read(r.topics.Desired) {
		if rec.Key == key("b2") {
			t.Errorf("computed with the old configuration: %+v", rec)
		}
	}
}

func TestConfigurationIsForwardedOnceAndFirst(t *testing.T) {
	r := newRig(t)
	r.put("a", "1")
	r.configure(everything)
	r.put("b", "1")
	r.start()
	r.settle()
	r.configure(patched)
	r.settle()
	var order []string
	for _, rec := range r.read(r.topics.Desired) {
		switch rec.Kind {
		case topology.Configured:
			order = append(order, "configured")
		case topology.Object:
			k, _ := topology.ParseKey(rec.Key)
			order = append(order, k.Name)
		}
	}
	if got := fmt.Sprint(order); got != "[configured a b configured a b]" {
		t.Errorf("order %v", got)
	}
}

func TestConfigurationThatDoesNotCompile(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.put("a", "1")
	r.start()
	r.settle()
	r.configure(`{"resources":[]}`)
	r.put("b", "1")
	r.settle()
	r.want("the old configuration stays", m{"a": "1", "b": "1"})
	var s v1alpha1.LiveSynchronizationStatus
	r.p.Report(&s)
	if len(s.Conditions) != 1 || s.Conditions[0].Type != ConditionConfigurationRejected {
		t.Errorf("conditions %+v", s.Conditions)
	}
	r.configure(onlyA)
	r.settle()
	r.want("a better one is taken", m{"a": "1"})
}

func TestEqualOutputAppendsNothing(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.put("a", "1")
	r.start()
	r.settle()
	r.put("a", "1")
	again := r.object("a", "1")
	again.Version.RV = fmt.Sprint(r.rv) // the same version again: equal is not stale
	r.append(r.topics.Changes, again)
	r.settle()
	if n := r.objects(r.topics.Desired); n != 1 {
		t.Errorf("%d records, want 1", n)
	}
	if c := r.p.Counts(); c.Unchanged != 2 || c.Stale != 0 {
		t.Errorf("%+v", c)
	}
}

func TestStaleIsDropped(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	old := r.object("a", "old")
	gone := r.tombstone("a")
	r.put("a", "new")
	r.start()
	r.settle()
	r.append(r.topics.Changes, old, gone)
	r.settle()
	r.want("an older record changes nothing", m{"a": "new"})
	if c := r.p.Counts(); c.Stale != 2 {
		t.Errorf("%+v", c)
	}
}

func TestOpaqueVersionsFollowTheLog(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.start()
	for _, rv := range []string{"zz.1", "aa", "zz.1"} {
		rec := r.object("a", rv)
		rec.Version.RV = rv
		r.append(r.topics.Changes, rec)
		r.settle()
		r.want("the order of the log decides", m{"a": rv})
	}
	if c := r.p.Counts(); c.Incomparable != 2 {
		t.Errorf("%+v", c)
	}
}

func TestStateWiped(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.start()
	r.put("a", "1")
	r.put("b", "1")
	r.put("a", "2")
	r.remove("b")
	r.listed()
	r.settle()
	r.kill()
	before := r.objects(r.topics.Desired)
	r.wipe()
	r.start()
	r.settle()
	r.want("the same", m{"a": "2"})
	if after := r.objects(r.topics.Desired); after != before {
		t.Errorf("%d more records", after-before)
	}
	if n := r.objects(r.topics.Requests); n != 0 {
		t.Errorf("%d requests for nothing", n)
	}
}

func TestStateWipedAndFilterNarrowed(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.start()
	r.put("a1", "1")
	r.put("b1", "1")
	r.settle()
	r.kill()
	r.wipe()
	r.configure(onlyA)
	r.start()
	r.settle()
	r.want("what left the selection is deleted", m{"a1": "1"})
}

func TestDesiredRecreated(t *testing.T) {
	for name, running := range map[string]bool{"while running": true, "while stopped": false} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.configure(everything)
			r.put("a", "1")
			r.put("b", "1")
			r.remove("b")
			r.start()
			r.settle()
			if !running {
				r.kill()
			}
			r.recreate(r.topics.Desired)
			if !running {
				r.start()
			}
			r.eventually("everything is there again", func() bool { return r.desired()["a"] == "1" })
			r.settle()
			r.want("everything is there again", m{"a": "1"})
		})
	}
}

func TestChangesRecreated(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	for i := range 5 {
		r.put(fmt.Sprint("k", i), "1")
	}
	r.start()
	r.settle()
	r.recreate(r.topics.Changes)
	// What the eventslistener does then: the configuration, everything there is,
	// and the marker. k0 was deleted meanwhile, k1 changed.
	r.configure(everything)
	r.put("k1", "2")
	for i := 2; i < 5; i++ {
		r.put(fmt.Sprint("k", i), "1")
	}
	if n := r.objects(r.topics.Requests); n != 0 {
		t.Errorf("asked for %d keys before the listing was complete", n)
	}
	r.listed()
	r.settle()
	r.want("a delete is not concluded from absence", m{"k0": "1", "k1": "2", "k2": "1", "k3": "1", "k4": "1"})
	asked := r.read(r.topics.Requests)
	if len(asked) != 1 || asked[0].Key != key("k0") || asked[0].Reason == "" {
		t.Fatalf("requests: %+v", asked)
	}
	answer := r.tombstone("k0")
	answer.Inferred, answer.Requested = true, true
	r.append(r.topics.Changes, answer)
	r.settle()
	r.want("the answer is forwarded", m{"k1": "2", "k2": "1", "k3": "1", "k4": "1"})
}

func TestOldPositionIsNotTrusted(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.put("a", "1")
	r.listed()
	r.start()
	r.settle()
	r.kill()
	before := r.objects(r.topics.Desired)
	// Its tombstone has expired from changes while nobody read it.
	ghost := r.object("ghost", "1")
	ghost.Writer, ghost.Version.Generation = "zombie", r.generation
	r.append(r.topics.Desired, ghost)
	r.start()
	r.settle()
	if n := r.objects(r.topics.Requests); n != 0 {
		t.Fatalf("%d requests with a position that is trusted", n)
	}
	r.kill()
	r.maxAge = time.Nanosecond
	r.start()
	r.settle()
	if asked := r.read(r.topics.Requests); len(asked) != 1 || asked[0].Key != key("ghost") {
		t.Errorf("the whole input must be compared with the whole output: asked for %+v", asked)
	}
	if after := r.objects(r.topics.Desired); after != before+1 {
		t.Errorf("%d more records", after-before-1)
	}
}

func TestRequestedIsForwarded(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.start()
	r.put("a", "1")
	r.settle()
	again := r.object("a", "1")
	again.Requested = true
	unknown := r.tombstone("never-seen")
	unknown.Requested, unknown.Inferred, unknown.Reason = true, true, "absent twice"
	r.append(r.topics.Changes, again, unknown)
	r.settle()
	var got []topology.Record
	for _, rec := range r.read(r.topics.Desired) {
		if rec.Requested {
			got = append(got, rec)
		}
	}
	if len(got) != 2 || got[0].Key != key("a") || got[0].Body == nil || got[1].Key != key("never-seen") || got[1].Op != topology.Delete || !got[1].Inferred || got[1].Reason != "absent twice" {
		t.Fatalf("%+v", got)
	}
	before := r.objects(r.topics.Desired)
	r.configure(everything) // everything is read again
	r.settle()
	if after := r.objects(r.topics.Desired); after != before {
		t.Errorf("a request was answered again: %d more records", after-before)
	}
}

func TestHoldAndHeal(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.start()
	r.put("a", "1")
	r.settle()
	r.configure(broken)
	r.put("b", "1")
	r.settle()
	r.want("held", m{"a": "held", "b": "held"})
	before := r.objects(r.topics.Desired)
	r.put("a", "2")
	r.settle()
	if after := r.objects(r.topics.Desired); after != before {
		t.Errorf("the same hold was appended again")
	}
	var s v1alpha1.LiveSynchronizationStatus
	r.p.Report(&s)
	if c := s.Components[0]; !c.Ready || c.Reason != "ObjectsHeld" {
		t.Errorf("%+v", c)
	}
	r.kill()
	r.start()
	r.remove("b")
	r.settle()
	r.want("a held object can be deleted", m{"a": "held"})
	r.configure(everything)
	r.settle()
	r.want("healed", m{"a": "2"})
	if held := r.p.statuses()[0].held; held != 0 {
		t.Errorf("%d still held", held)
	}
}

func TestHoldKeepsARecord(t *testing.T) {
	r := newRig(t)
	r.configure(broken)
	r.put("a", "1")
	r.start()
	r.settle()
	for _, rec := range r.read(r.topics.Desired) {
		if rec.Key == key("a") && (rec.Op != topology.Hold || rec.Body == nil || rec.Reason == "") {
			t.Errorf("%+v: compaction would forget it", rec)
		}
	}
}

func TestZombieRecordsAreRepaired(t *testing.T) {
	zombie := func(r *rig, rec *topology.Record) *topology.Record {
		rec.Writer = "zombie"
		rec.Version.Generation = r.generation
		rec.Hash = "zombie"
		return rec
	}
	for name, how := range map[string]struct{ running, wiped bool }{
		"while running": {running: true}, "while stopped": {}, "while stopped, and the state is lost": {wiped: true},
	} {
		running := how.running
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.configure(everything)
			oldA, oldB, oldC := zombie(r, r.object("a", "old")), zombie(r, r.object("b", "old")), zombie(r, r.tombstone("c"))
			r.put("a", "1")
			r.put("b", "1")
			r.put("c", "1")
			r.put("d", "1")
			r.remove("b")
			r.start()
			r.settle()
			if !running {
				r.kill()
			}
			r.append(r.topics.Desired, oldA, oldB, oldC)
			if how.wiped {
				r.wipe()
			}
			if !running {
				r.start()
			}
			r.eventually("ours is the last again", func() bool {
				d := r.desired()
				_, b := d["b"]
				return d["a"] == "1" && !b && d["c"] == "1"
			})
			r.settle()
			r.want("repaired", m{"a": "1", "c": "1", "d": "1"})
			repairs := 0
			for _, rec := range r.read(r.topics.Desired) {
				if rec.Repair {
					repairs++
				}
			}
			// Without the state nothing is known of b, which desired never held; its
			// delete is in changes and is computed again.
			want := int64(3)
			if how.wiped {
				want = 2
			}
			if c := r.p.Counts(); int64(repairs) != want || c.Repaired != want {
				t.Errorf("%d repairs, counted %d; want %d", repairs, c.Repaired, want)
			}
		})
	}
}

func TestZombieBetweenOurRecords(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	old := r.object("a", "old")
	old.Version.Generation, old.Writer, old.Hash = r.generation, "zombie", "zombie"
	r.put("a", "1")
	r.start()
	r.settle()
	r.kill()
	// It lands after our look behind and before our next append.
	landed := false
	r.fault = func(step string) error {
		if step == "before-produce" && !landed {
			landed = true
			r.append(r.topics.Desired, old)
		}
		return nil
	}
	r.start()
	r.put("b", "1")
	r.settle()
	r.wantSoon("repaired", m{"a": "1", "b": "1"})
	if !landed {
		t.Error("the zombie never wrote")
	}
}

// What was appended and not committed is known from desired alone. A zombie's
// record behind it must not stay the last of the key: the record of changes it
// was computed from is still to be read, and the one before it is older.
func TestZombieBehindWhatWasNotCommitted(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.put("a", "1")
	zombie := r.object("a", "zombie")
	zombie.Writer, zombie.Hash, zombie.Version.Generation = "zombie", "zombie", r.generation
	r.start()
	r.settle()
	r.kill()
	died := make(chan struct{})
	r.fault = func(step string) error {
		if step != "before-commit" {
			return nil
		}
		if n := r.objects(r.topics.Desired); n < 2 {
			return nil
		}
		select {
		case <-died:
		default:
			close(died)
		}
		return errors.New("injected")
	}
	r.put("a", "2")
	r.start()
	<-died
	r.kill()
	r.append(r.topics.Desired, zombie)
	r.fault = nil
	r.start()
	r.settle()
	r.want("ours is the last", m{"a": "2"})
}

// A record of ours that lands before what we know of desired shows that its end
// was lost: nothing that is remembered of it holds.
func TestDesiredCutBack(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.put("a", "1")
	r.start()
	r.settle()
	var cut bool
	r.p.mu.Lock()
	w := r.p.partitions[0]
	r.p.mu.Unlock()
	canary := func() bool { _, ok, err := w.State.Meta(w.id, "canary"); return ok && err == nil }
	change := w.State.Change(w.id)
	change.SetMeta("canary", []byte{1})
	if err := change.Commit(nil); err != nil || !canary() {
		t.Fatal(err)
	}
	r.kill()
	r.fault = func(step string) error {
		if step == "before-produce" && !cut {
			cut = true
			r.p.mu.Lock()
			r.p.partitions[0].known++ // as if one more record had been there
			r.p.mu.Unlock()
		}
		return nil
	}
	r.start()
	r.put("b", "1")
	r.settle()
	r.want("all of it", m{"a": "1", "b": "1"})
	if !cut || canary() {
		t.Errorf("the memory of a log that was cut back is still there (cut: %t)", cut)
	}
}

func TestHeartbeatsKeepTheirPlace(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	// Before the start: a is changed behind a heartbeat. Only its last record is
	// processed, so the heartbeat must not say that a is there before it is.
	r.put("a", "1")
	r.append(r.topics.Changes, &topology.Record{Key: topology.ControlKey(topology.Heartbeat, ""), Kind: topology.Heartbeat, VerifiedAt: time.Unix(5, 0)})
	r.listed()
	r.put("a", "2")
	r.put("b", "1")
	r.start()
	r.settle()
	var order []string
	for _, rec := range r.read(r.topics.Desired) {
		order = append(order, rec.Key)
	}
	at := func(key string) int {
		for i, k := range order {
			if k == key {
				return i
			}
		}
		return -1
	}
	listed := at(topology.ControlKey(topology.Listed, "core/v1/configmaps"))
	if a := at(key("a")); a < 0 || listed < a || at(topology.ControlKey(topology.Heartbeat, "")) < a {
		t.Errorf("order %v", order)
	}
	// Live: in their place.
	r.put("c", "1")
	r.settle()
	order = order[:0]
	for _, rec := range r.read(r.topics.Desired) {
		order = append(order, rec.Key)
	}
	if n := len(order); n < 2 || order[n-2] != key("c") || order[n-1] != topology.ControlKey(topology.Heartbeat, "") {
		t.Errorf("order %v", order)
	}
}

// A heartbeat that was asked for arrives although nothing more is verified, and
// takes nothing back.
func TestRequestedHeartbeatArrives(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.start()
	r.settle()
	heartbeat := topology.ControlKey(topology.Heartbeat, "")
	verified := time.Unix(r.beat, 0).UTC()
	asked := time.Unix(100, 0).UTC()
	r.append(r.topics.Changes,
		&topology.Record{Key: heartbeat, Kind: topology.Heartbeat, VerifiedAt: verified, ObservedAt: asked.Add(-time.Second)},
		&topology.Record{Key: heartbeat, Kind: topology.Heartbeat, ObservedAt: asked, Requested: true})
	r.settle()
	var got []time.Time
	for _, rec := range r.read(r.topics.Desired) {
		if rec.Key == heartbeat && !rec.ObservedAt.IsZero() {
			got = append(got, rec.ObservedAt, rec.VerifiedAt)
		}
	}
	if len(got) != 2 || !got[0].Equal(asked) || !got[1].Equal(verified) {
		t.Errorf("heartbeats observed and verified at %v; want the requested one alone, with what was verified before, %v", got, verified)
	}
}

func TestDeferredSurvivesACrash(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.listed()
	for i := range 3 * chunk { // several commits
		r.put(fmt.Sprintf("k%04d", i), "1")
	}
	commits := 0
	r.fault = func(step string) error {
		if step == "before-commit" {
			if commits++; commits == 4 {
				return errors.New("injected")
			}
		}
		return nil
	}
	r.start()
	r.settle()
	listed := 0
	for _, rec := range r.read(r.topics.Desired) {
		if rec.Kind == topology.Listed {
			listed++
		}
	}
	if listed != 1 {
		t.Errorf("%d listing markers, want 1", listed)
	}
	if n := r.objects(r.topics.Desired); n != 3*chunk {
		t.Errorf("%d objects, want %d", n, 3*chunk)
	}
}

func TestCrashAtEveryStep(t *testing.T) {
	for _, step := range []string{"before-produce", "after-produce", "before-commit", "after-commit"} {
		t.Run(step, func(t *testing.T) {
			r := newRig(t)
			n := 0
			r.fault = func(s string) error {
				if s == step {
					if n++; n%5 == 1 {
						return errors.New("injected")
					}
				}
				return nil
			}
			r.configure(everything)
			r.start()
			for i := range 10 {
				r.put("a", fmt.Sprint(i))
				r.put(fmt.Sprint("b", i), "1")
				r.remove(fmt.Sprint("b", i))
				if i == 5 {
					r.configure(patched)
				}
			}
			r.settle()
			r.want("nothing is lost", m{"a": "9+"})
			assertMonotonic(t, r.read(r.topics.Desired))
		})
	}
}

// assertMonotonic checks guarantee 3 over what processors appended.
func assertMonotonic(t fataler, recs []topology.Record) {
	t.Helper()
	last := map[string]topology.Version{}
	for _, rec := range recs {
		if rec.Kind != topology.Object || rec.Writer == "zombie" {
			continue
		}
		if v, ok := last[rec.Key]; ok && rec.Version.Older(v) {
			t.Fatalf("%s went back from %s to %s at offset %d", rec.Key, v, rec.Version, rec.Offset)
		}
		last[rec.Key] = rec.Version
	}
}

func TestUnreadableRecordsArePassedOver(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.start()
	r.put("a", "1")
	alien := (&topology.Record{Key: key("a"), Kind: topology.Object, Body: []byte("{}")}).Encode(r.topics.Changes, 0)
	alien.Headers = nil
	if err := r.writer.AppendSync(r.ctx, alien); err != nil {
		t.Fatal(err)
	}
	r.put("b", "1")
	r.settle()
	r.want("the others are processed", m{"a": "1", "b": "1"})
	if c := r.p.Counts(); c.Undecodable != 1 {
		t.Errorf("%+v", c)
	}
	var st v1alpha1.LiveSynchronizationStatus
	if r.p.Report(&st); st.Components[0].Ready {
		t.Error("a change was passed over, and all is said to be well")
	}
}

func TestConflictIsReported(t *testing.T) {
	r := newRig(t)
	r.configure(`{"resources":[{"version":"v1","resource":"configmaps"},{"version":"v1","resource":"configmaps"}]}`)
	r.put("a", "1")
	r.start()
	r.settle()
	r.kill()
	r.start()
	r.settle()
	var s v1alpha1.LiveSynchronizationStatus
	r.p.Report(&s)
	if len(s.Conditions) != 1 || s.Conditions[0].Type != ConditionConflict {
		t.Errorf("after a restart: %+v", s.Conditions)
	}
	r.configure(everything)
	r.settle()
	s = v1alpha1.LiveSynchronizationStatus{}
	r.p.Report(&s)
	if len(s.Conditions) != 0 {
		t.Errorf("%+v", s.Conditions)
	}
}

func TestNamespaceStampIsForwardedWhereNeeded(t *testing.T) {
	r := newRig(t)
	r.configure(`{"forceNamespaceCreation":true,"resources":[{"version":"v1","resource":"configmaps"}]}`)
	r.put("a", "1")
	r.start()
	r.settle()
	stamped := r.object("a", "1")
	stamped.NamespaceLabels = map[string]string{"dr": "off"}
	r.append(r.topics.Changes, stamped)
	r.settle()
	var got []string
	for _, rec := range r.read(r.topics.Desired) {
		if rec.Key == key("a") {
			got = append(got, rec.NamespaceLabels["dr"])
		}
	}
	if fmt.Sprint(got) != "[on off]" {
		t.Errorf("%v", got)
	}
}
