package archiver

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/state/bucket"
	"github.com/afterimage-dr/afterimage/topology"
)

// stray puts an original into the bucket that no record of the log stands for.
func (r *rig) stray(name string) {
	r.Helper()
	rec := r.object(name, "stray")
	rec.Version = topology.Version{Epoch: 1, RV: "1"}
	o, err := bucket.FromRecord(topology.Owner{LiveSynchronization: "dr/ls", SourceUID: "src"}, rec)
	if err != nil {
		r.Fatalf("%v", err)
	}
	content, err := o.Content()
	if err != nil {
		r.Fatalf("%v", err)
	}
	r.bucket.change(func() { r.bucket.objects[o.Path] = stored{original: o, content: string(content)} })
}

func TestEmptiedBucketFillsAgain(t *testing.T) {
	r := newRig(t)
	r.set(func(s *settings.Settings) { s.ResyncPeriod = time.Hour })
	r.configure(everything)
	want := m{}
	for i := range 20 {
		name := fmt.Sprint("a", i)
		want[name] = "1"
		r.put(name, "1")
	}
	r.start()
	r.want("filled", want)
	r.settle()
	r.bucket.change(func() { clear(r.bucket.objects) })
	// A change of the period reschedules, without a restart.
	r.set(func(s *settings.Settings) { s.ResyncPeriod = 50 * time.Millisecond })
	r.want("filled again", want)
}

func TestComparisonRepairs(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.put("changed", "1")
	r.put("older", "1")
	r.start()
	r.settle()
	older := r.bucket.objects[path("older")]
	r.put("older", "2")
	r.put("missing", "1")
	r.listed()
	r.settle()
	r.bucket.change(func() {
		delete(r.bucket.objects, path("missing"))
		r.bucket.objects[path("older")] = older
		r.bucket.objects[path("changed")] = stored{foreign: true, content: "somebody else's"}
		r.bucket.objects["dr/ls/notes.txt"] = stored{foreign: true, content: "notes"}
		r.bucket.objects["dr/ls/core-v1-configmaps/ns.foreign"] = stored{foreign: true, content: "notes"}
		r.bucket.objects["dr/another/core-v1-configmaps/ns.a"] = stored{foreign: true, content: "out of our folder"}
	})
	r.compared()
	r.want("what is ours is as the log wants it, what is foreign is left alone", m{
		"changed": "1", "older": "2", "missing": "1",
		"dr/ls/notes.txt": "foreign", "dr/ls/core-v1-configmaps/ns.foreign": "foreign", "dr/another/core-v1-configmaps/ns.a": "foreign",
	})
	if c := r.a.Counts(); c.Foreign != 2 {
		t.Errorf("%d foreign objects counted, want 2", c.Foreign)
	}
	writes := r.bucket.count()
	r.compared()
	if n := r.bucket.count(); n != writes {
		t.Errorf("%d writes where nothing differs", n-writes)
	}
}

func TestResurrectedIsDeletedAgain(t *testing.T) {
	r := newRig(t)
	r.limit.Few, r.limit.Whole = 0, 1 // a tombstone passes whatever the limit
	r.configure(everything)
	r.put("a", "1")
	r.start()
	r.settle()
	zombie := r.bucket.objects[path("a")]
	r.remove("a")
	r.settle()
	r.bucket.change(func() { r.bucket.objects[path("a")] = zombie }) // an upload that came late
	r.compared()
	r.want("the tombstone counts", m{})
}

func TestStrayNeedsACompleteListing(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.stray("stray")
	r.put("a", "1")
	r.start()
	r.settle()
	r.compared()
	r.want("absence is no evidence before a listing", m{"a": "1", "stray": "stray"})
	r.listed()
	r.settle()
	r.compared()
	r.want("it is behind one", m{"a": "1"})
}

func TestMuchStrayIsKept(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	for i := range 20 {
		r.stray(fmt.Sprint("stray", i))
	}
	r.put("a", "1")
	r.listed()
	r.start()
	r.settle()
	r.compared()
	if n := len(r.bucket.holds()); n != 21 {
		t.Fatalf("%d originals are left of 21", n)
	}
	_, _, st := r.status()
	blocked := condition(&st, ConditionPruneBlocked)
	if blocked == nil || !strings.Contains(blocked.Message, "20 of 21") {
		t.Fatalf("conditions: %+v", st.Conditions)
	}
	_, rest, _ := strings.Cut(blocked.Message, `confirm-prune: "`)
	token := strings.TrimSuffix(rest, `"`)
	r.set(func(s *settings.Settings) { s.ConfirmPrune = "bucket-0000000000000001" })
	r.compared()
	if n := len(r.bucket.holds()); n != 21 {
		t.Fatalf("another token removed %d", 21-n)
	}
	r.set(func(s *settings.Settings) { s.ConfirmPrune = "other, " + token })
	r.want("a person confirmed", m{"a": "1"})
	r.eventually("nothing waits any more", func() bool { _, _, st := r.status(); return condition(&st, ConditionPruneBlocked) == nil })
}

func TestConfigurationThatLeavesMuchOut(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	for i := range 20 {
		r.put(fmt.Sprint("b", i), "1")
	}
	r.put("a", "1")
	r.start()
	r.settle()
	config := r.configure(onlyA)
	r.eventually("it is held back", r.a.resync.isBlocked)
	r.put("a", "2")
	r.remove("b0")
	r.settle()
	want := m{"a": "2"}
	for i := range 19 {
		want[fmt.Sprint("b", i+1)] = "1"
	}
	r.want("all else goes on", want)
	r.kill()
	r.start()
	r.settle()
	r.eventually("it is held back after a restart", r.a.resync.isBlocked)
	r.want("and kept", want)
	writes := r.bucket.count()
	r.configure(everything)
	r.settle()
	r.eventually("the old configuration drops it", func() bool { return !r.a.resync.isBlocked() })
	if n := r.bucket.count(); n != writes {
		t.Errorf("%d writes for what never left", n-writes)
	}
	config = r.configure(onlyA)
	r.eventually("it is held back again", r.a.resync.isBlocked)
	r.set(func(s *settings.Settings) { s.ConfirmPrune = config.PruneToken() })
	r.want("one token for the destination and the bucket", m{"a": "2"})
}

func TestUncoveredResource(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.put("a", "1")
	r.start()
	r.settle()
	r.kill()
	r.wipe()
	r.recreate() // the log knows nothing of it
	r.configure(another)
	r.start()
	r.want("no entry names the resource: no listing can say more", m{})
}

// Two resources may share a folder of the bucket only if paths did; each is
// compared with its own.
func TestManyResources(t *testing.T) {
	r := newRig(t)
	r.configure(`{"resources":[{"version":"v1","resource":"configmaps"},{"group":"a","version":"v1","resource":"v1-x"},{"group":"a-v1","version":"v1","resource":"x"}]}`)
	other := func(k, name string) *topology.Record {
		rec := r.object(name, "1")
		rec.Key = k + "/ns/" + name
		return rec
	}
	r.append(other("a/v1/v1-x", "one"))
	r.append(other("a-v1/v1/x", "two"))
	r.put("three", "1")
	r.start()
	r.want("all", m{"one": "1", "two": "1", "three": "1"})
	r.settle()
	r.bucket.change(func() { clear(r.bucket.objects) })
	r.compared()
	r.want("all again", m{"one": "1", "two": "1", "three": "1"})
}
