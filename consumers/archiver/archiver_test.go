package archiver

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/state/bucket"
	"github.com/afterimage-dr/afterimage/topology"
)

func TestFollows(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.put("a", "1")
	r.start()
	r.want("what was there", m{"a": "1"})
	r.put("b", "1")
	r.want("created", m{"a": "1", "b": "1"})
	r.put("b", "2")
	r.want("updated", m{"a": "1", "b": "2"})
	r.remove("a")
	r.want("deleted", m{"b": "2"})
	r.settle()
	writes := r.bucket.count()
	rec := r.object("b", "2")
	rec.Version.RV = fmt.Sprint(r.rv - 2) // an older one of a process that had lost the lead
	r.append(rec)
	r.kill()
	r.start()
	r.settle()
	r.compared()
	r.want("an older record changes nothing", m{"b": "2"})
	if n := r.bucket.count(); n != writes {
		t.Errorf("%d writes where nothing had changed", n-writes)
	}
}

func TestStoresTheOriginalOfWhatCannotBePatched(t *testing.T) {
	r := newRig(t)
	r.configure(broken)
	r.put("a", "1")
	r.start()
	r.want("an object whose patch fails is in scope", m{"a": "1"})
}

func TestCreateCostsOneRequest(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	for i := range 50 {
		r.put(fmt.Sprint("a", i), "1")
	}
	r.start()
	r.settle()
	r.put("b", "1")
	r.settle()
	r.bucket.mu.Lock()
	defer r.bucket.mu.Unlock()
	if r.bucket.heads != 0 || r.bucket.writes != 51 {
		t.Errorf("%d looks and %d writes for 51 new objects in an empty bucket", r.bucket.heads, r.bucket.writes)
	}
}

func TestLostStateWritesNothing(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	for i := range 20 {
		r.put(fmt.Sprint("a", i), "1")
	}
	r.put("gone", "1")
	r.listed()
	r.start()
	r.settle()
	r.kill()
	writes := r.bucket.count()
	r.remove("gone")
	r.wipe()
	r.start()
	r.settle()
	r.eventually("the tombstone is found by the comparison", func() bool { return len(r.bucket.holds()) == 20 })
	r.bucket.mu.Lock()
	defer r.bucket.mu.Unlock()
	if r.bucket.writes != writes+1 || r.bucket.heads != 0 {
		t.Errorf("%d writes and %d looks, want the one delete", r.bucket.writes-writes, r.bucket.heads)
	}
}

func TestReplayedCreateDoesNotResurrect(t *testing.T) {
	r := newRig(t)
	r.partitions = 1
	r.recreate()
	r.configure(everything)
	r.put("a", "1")
	for i := range 2 * maxUnfinished { // so that it is long done when the delete is read
		rec := r.object(fmt.Sprint("b", i), "1")
		r.writer.Append(r.ctx, rec.Encode(r.topics.Changes, 0), func(*kgo.Record, error) {})
	}
	r.remove("a")
	r.start()
	r.settle()
	r.bucket.mu.Lock()
	defer r.bucket.mu.Unlock()
	if v, ok := r.bucket.newest[path("a")]; ok {
		t.Errorf("%s was stored, which is long deleted", v)
	}
}

// A record that a process appended which had lost the lead, behind a newer one.
func TestOlderBehindATombstone(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	older := r.object("a", "old")
	r.put("a", "1")
	r.start()
	r.settle()
	r.remove("a")
	r.settle()
	r.append(older)
	r.settle()
	r.want("what is deleted stays so", m{})
	gone := r.tombstone("b")
	r.put("b", "1")
	r.settle()
	r.append(gone)
	r.settle()
	r.want("an older delete removes nothing", m{"b": "1"})
	if c := r.a.Counts(); c.Stale < 2 { // a comparison may have looked again meanwhile
		t.Errorf("%+v, want the two stale records", c)
	}
}

func TestConfigurations(t *testing.T) {
	r := newRig(t)
	r.put("a", "1")
	r.put("b", "1")
	r.listed()
	r.start()
	time.Sleep(50 * time.Millisecond)
	r.want("nothing without a configuration", m{})
	r.configure(everything)
	r.want("then everything", m{"a": "1", "b": "1"})
	r.settle()
	writes := r.bucket.count()
	r.configure(invalid)
	r.put("c", "1")
	r.want("one that does not compile changes nothing", m{"a": "1", "b": "1", "c": "1"})
	r.configure(onlyA)
	r.want("few may go", m{"a": "1"})
	r.put("b", "2")
	r.put("a", "2")
	r.want("what is left out stays out", m{"a": "2"})
	r.configure(everything)
	r.want("and comes back from the log alone", m{"a": "2", "b": "2", "c": "1"})
	r.settle()
	if n := r.bucket.count() - writes; n != 1+2+1+2 {
		t.Errorf("%d writes, want 6: a new one, two deletes, an update, two that came back", n)
	}
}

// What is left out but not removed yet may change, and come back.
func TestLeftOutKeptAndTakenAgain(t *testing.T) {
	r := newRig(t)
	r.limit.Few, r.limit.Whole = 0, 1 // nothing passes
	r.configure(everything)
	r.put("a", "1")
	r.put("b", "1")
	r.listed()
	r.start()
	r.want("all", m{"a": "1", "b": "1"})
	r.configure(onlyA)
	r.put("b", "2")
	r.settle()
	r.want("left out, and kept until somebody confirms", m{"a": "1", "b": "1"})
	r.configure(everything)
	r.want("as it is now, and not as it was", m{"a": "1", "b": "2"})
}

func TestConfigurationChangedWhileStopped(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.put("a", "1")
	r.put("b", "1")
	r.start()
	r.want("all", m{"a": "1", "b": "1"})
	r.settle()
	r.kill()
	r.configure(onlyA)
	r.start()
	r.want("the new one is in force", m{"a": "1"})
}

func TestLabelsOfNamespaceAreTheUsersAct(t *testing.T) {
	r := newRig(t)
	r.limit.Few, r.limit.Whole = 0, 1 // nothing passes
	r.configure(labelled)
	r.put("a", "1")
	r.start()
	r.want("in", m{"a": "1"})
	off := r.object("a", "1")
	off.NamespaceLabels = m{"dr": "off"}
	r.append(off)
	r.want("out at once", m{})
	r.append(r.object("a", "1"))
	r.want("in again", m{"a": "1"})
}

func TestTopicRecreated(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.put("a", "1")
	r.put("b", "1")
	r.start()
	r.want("both", m{"a": "1", "b": "1"})
	r.settle()
	r.recreate()
	r.configure(everything)
	r.put("a", "2")
	r.settle()
	r.want("absence is no evidence yet", m{"a": "2", "b": "1"})
	r.listed()
	r.settle()
	r.compared()
	r.want("behind a complete listing it is", m{"a": "2"})
}

func TestOldPositionIsNotTrusted(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.put("a", "1")
	r.put("b", "1")
	r.listed()
	r.start()
	r.want("both", m{"a": "1", "b": "1"})
	r.settle()
	r.kill()
	r.remove("b")
	r.maxAge = time.Nanosecond
	r.start()
	r.want("begun anew", m{"a": "1"})
	if len(r.lines.with("what is remembered of the bucket is dropped")) == 0 {
		t.Error("the state was trusted")
	}
}

func TestAnotherBucketIsFilled(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.put("a", "1")
	r.start()
	r.want("one", m{"a": "1"})
	r.settle()
	r.kill()
	r.bucket = newFake()
	r.options.Set(bucket.Options{Endpoint: "s3", Name: "another"})
	r.start()
	r.want("the other", m{"a": "1"})
}

func TestRequestedIsLookedAt(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.put("a", "1")
	r.start()
	r.settle()
	r.bucket.change(func() { clear(r.bucket.objects) })
	rec := r.object("a", "1")
	rec.Requested = true
	r.append(rec)
	r.want("looked at, whatever memory says", m{"a": "1"})
}

func TestUnreadableRecordsArePassedOver(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.put("a", "1")
	alien := r.object("a", "2").Encode(r.topics.Changes, r.partitionOf(key("a")))
	alien.Headers = nil
	if err := r.writer.AppendSync(r.ctx, alien); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.want("the last readable one counts", m{"a": "1"})
	if c := r.a.Counts(); c.Undecodable != 1 {
		t.Errorf("%+v", c)
	}
}

func TestCrashAtEveryStep(t *testing.T) {
	for _, step := range []string{"before-put", "after-put", "before-delete", "after-delete", "before-commit", "after-commit"} {
		t.Run(step, func(t *testing.T) {
			r := newRig(t)
			n := 0
			r.fault = func(s string) error {
				if s == step {
					r.bucket.mu.Lock()
					defer r.bucket.mu.Unlock()
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
				r.settle()
				r.remove(fmt.Sprint("b", i))
				if i == 5 {
					r.configure(broken)
				}
			}
			r.settle()
			r.want("nothing is lost", m{"a": "9"})
			if n == 0 {
				t.Errorf("the step was never reached")
			}
		})
	}
}

func TestSuspended(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.put("a", "1")
	r.start()
	r.want("before", m{"a": "1"})
	r.settle()
	r.put("slow", "1")
	hang := make(chan struct{})
	r.bucket.change(func() { r.bucket.hang["dr/ls/core-v1-configmaps/ns.slow"] = hang })
	r.put("slow", "2")
	r.set(func(s *settings.Settings) { s.Suspend = true })
	r.remove("a")
	r.put("b", "1")
	time.Sleep(suspendGrace + time.Second)
	close(hang) // what had begun was given up by now
	writes := r.bucket.count()
	time.Sleep(200 * time.Millisecond)
	if n := r.bucket.count(); n != writes {
		t.Errorf("%d writes while suspended", n-writes)
	}
	if _, ok := r.bucket.holds()["a"]; !ok {
		t.Error("a delete took effect while suspended")
	}
	r.set(func(s *settings.Settings) { s.Suspend = false })
	r.want("everything is caught up", m{"b": "1", "slow": "2"})
}

func TestKeyOfWhatIsStored(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	rec := r.object("a", "1")
	r.append(rec)
	r.start()
	r.want("stored", m{"a": "1"})
	o := r.bucket.objects["dr/ls/core-v1-configmaps/ns.a"].original
	if o.Key.String() != rec.Key || o.Version != rec.Version || o.UID != rec.UID || o.NamespaceLabels["dr"] != "on" || string(o.Body) != string(rec.Body) ||
		o.LiveSynchronization != "dr/ls" || o.SyncedAt.IsZero() || o.Version.Generation != 0 {
		t.Errorf("%+v", o)
	}
	if topology.IsControl(o.Key.String()) {
		t.Error("a control record was stored")
	}
}
