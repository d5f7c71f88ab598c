package archiver

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/state/bucket"
)

// status is what the archiver reports: its component, BucketReady, and all of it.
func (r *rig) status() (v1alpha1.ComponentStatus, metav1.Condition, v1alpha1.LiveSynchronizationStatus) {
	var st v1alpha1.LiveSynchronizationStatus
	r.a.Report(&st)
	return st.Components[0], *condition(&st, ConditionBucketReady), st
}

func condition(st *v1alpha1.LiveSynchronizationStatus, kind string) *metav1.Condition {
	for i := range st.Conditions {
		if st.Conditions[i].Type == kind {
			return &st.Conditions[i]
		}
	}
	return nil
}

func path(name string) string { return "dr/ls/core-v1-configmaps/ns." + name }

func TestFailingObjectDelaysNoOther(t *testing.T) {
	r := newRig(t)
	r.bucket.refuse = func(p string) bool { return p == path("bad") }
	r.configure(everything)
	r.start()
	r.put("bad", "1")
	for i := range 20 {
		r.put(fmt.Sprint("a", i), "1")
	}
	r.settle()
	if n := len(r.bucket.holds()); n != 20 {
		t.Fatalf("%d originals, want the 20 others", n)
	}
	c, ready, st := r.status()
	if len(st.Failing) != 1 || st.Failing[0].Object != key("bad") || !strings.HasPrefix(st.Failing[0].Reason, "Bucket") || st.Failing[0].NextTry == nil {
		t.Errorf("failing: %+v", st.Failing)
	}
	if !c.Ready || ready.Status != metav1.ConditionTrue {
		t.Errorf("one object's trouble is said to be the bucket's: %+v %+v", c, ready)
	}
	time.Sleep(300 * time.Millisecond)
	if n := len(r.lines.with(logging.ErrUploadingObject)); n != 1 {
		t.Errorf("%d error lines for one trouble", n)
	}
	r.kill()
	r.start() // it is remembered
	r.put("bad", "2")
	r.settle()
	r.bucket.change(func() { r.bucket.refuse = nil })
	r.eventually("it is stored when it can be", func() bool { return r.bucket.holds()["bad"] == "2" })
	r.eventually("and is failing no more", func() bool { _, _, st := r.status(); return len(st.Failing) == 0 })
}

func TestHangingObjectDelaysNoOther(t *testing.T) {
	r := newRig(t)
	hang := make(chan struct{})
	r.bucket.hang[path("slow")] = hang
	r.configure(everything)
	r.start()
	r.put("slow", "1")
	for i := range 20 {
		r.put(fmt.Sprint("a", i), "1")
		r.put("slow", fmt.Sprint("later", i))
	}
	r.eventually("the others are stored", func() bool { return len(r.bucket.holds()) == 20 })
	close(hang)
	r.settle()
	if got := r.bucket.holds()["slow"]; got != "later19" {
		t.Errorf("slow is %q", got)
	}
}

func TestFailingDeleteIsFollowed(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.put("bad", "1")
	r.start()
	r.settle()
	r.bucket.change(func() { r.bucket.refuse = func(p string) bool { return p == path("bad") } })
	r.remove("bad")
	r.settle()
	r.compared() // which must not take it for one to be stored again
	if _, _, st := r.status(); len(st.Failing) != 1 {
		t.Fatalf("failing: %+v", st.Failing)
	}
	if len(r.lines.with(logging.ErrDeletingFromBucket)) != 1 {
		t.Error("the failure is not logged, or more than once")
	}
	r.kill()
	r.start()
	r.settle()
	r.bucket.change(func() { r.bucket.refuse = nil })
	r.want("in the end it is deleted", m{})
}

func TestBucketDownQuarantinesNothing(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.put("a", "1")
	r.start()
	r.settle()
	r.bucket.change(func() { r.bucket.down = true })
	for i := range 30 {
		r.put(fmt.Sprint("b", i), "1")
	}
	r.remove("a")
	r.eventually("the bucket is said to fail", func() bool {
		c, ready, _ := r.status()
		return !c.Ready && ready.Status == metav1.ConditionFalse && ready.Reason != "" && ready.Message != ""
	})
	time.Sleep(500 * time.Millisecond)
	if _, _, st := r.status(); len(st.Failing) != 0 {
		t.Errorf("quarantined: %+v", st.Failing)
	}
	if n := len(r.lines.with("bucket cannot be used, it is tried again")); n != 1 {
		t.Errorf("said %d times", n)
	}
	r.bucket.change(func() { r.bucket.down = false })
	r.eventually("everything is caught up", func() bool { h := r.bucket.holds(); return len(h) == 30 && h["a"] == "" })
	r.eventually("and said once", func() bool { return len(r.lines.with("bucket can be used again")) == 1 })
	if _, ready, _ := r.status(); ready.Status != metav1.ConditionTrue {
		t.Errorf("%+v", ready)
	}
}

func TestRestartWhileBucketDown(t *testing.T) {
	r := newRig(t)
	r.bucket.down = true
	r.configure(everything)
	r.start()
	r.put("a", "1")
	r.eventually("it is said", func() bool { c, _, _ := r.status(); return !c.Ready })
	r.kill()
	r.put("a", "2")
	r.start()
	// A configuration is taken up while the bucket is away.
	r.configure(labelled)
	r.put("b", "1")
	time.Sleep(100 * time.Millisecond)
	r.bucket.change(func() { r.bucket.down = false })
	r.want("nothing was passed", m{"a": "2", "b": "1"})
}

// A key that may list and not write passes every probe.
func TestKeyThatMayNotWrite(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.bucket.deny = true
	r.start()
	for i := range 100 {
		r.put(fmt.Sprint("a", i), "1")
	}
	r.eventually("the bucket is said to refuse", func() bool { _, ready, _ := r.status(); return ready.Status == metav1.ConditionFalse })
	time.Sleep(time.Second)
	_, ready, st := r.status()
	if ready.Status != metav1.ConditionFalse || len(st.Failing) >= maxSuspects*2 {
		t.Errorf("%d in quarantine, %+v", len(st.Failing), ready)
	}
	if n := len(r.lines.with("bucket cannot be used, it is tried again")); n != 1 {
		t.Errorf("said %d times", n)
	}
	r.bucket.change(func() { r.bucket.deny = false })
	r.eventually("everything is stored", func() bool { return len(r.bucket.holds()) == 100 })
	r.eventually("and nothing fails", func() bool {
		_, ready, st := r.status()
		return ready.Status == metav1.ConditionTrue && len(st.Failing) == 0
	})
}

func TestLostAnswers(t *testing.T) {
	r := newRig(t)
	lost := map[string]bool{}
	r.bucket.lose = func(p string) bool { defer func() { lost[p] = true }(); return !lost[p] }
	r.configure(everything)
	r.start()
	for i := range 5 {
		r.put(fmt.Sprint("a", i), "1")
	}
	r.settle()
	r.eventually("unknown outcomes are looked into", func() bool {
		_, _, st := r.status()
		return len(r.bucket.holds()) == 5 && len(st.Failing) == 0
	})
}

func TestCredentialsTakeEffectWithoutARestart(t *testing.T) {
	r := newRig(t)
	old := newFake()
	old.down = true
	r.open = func(o bucket.Options) (store, error) {
		switch o.AccessKeyID {
		case "good":
			return r.bucket, nil
		case "unusable":
			return nil, errors.New("no key at all")
		}
		return old, nil
	}
	r.configure(everything)
	r.put("a", "1")
	r.start()
	r.eventually("it fails", func() bool { _, ready, _ := r.status(); return ready.Status == metav1.ConditionFalse })
	r.options.Set(bucket.Options{Endpoint: "s3", Name: "b", AccessKeyID: "unusable"})
	r.eventually("it is told why", func() bool { _, ready, _ := r.status(); return ready.Reason == reasonInvalid })
	r.options.Set(bucket.Options{Endpoint: "s3", Name: "b", AccessKeyID: "good"})
	r.want("new credentials", m{"a": "1"})
}

func TestMessages(t *testing.T) {
	r := newRig(t)
	r.set(func(s *settings.Settings) {
		s.LastUpdateTime, s.LastUpdateUsername = "2026-11-25T13:12:29Z", "kubernetes-admin"
	})
	r.configure(everything)
	r.start()
	r.put("a", "1")
	r.settle()
	r.put("a", "2")
	r.settle()
	r.remove("a")
	r.settle()
	r.compared()
	for msg, events := range map[string][]string{
		logging.UploadingObject: {"create", "update"}, logging.ObjectUploaded: {"create", "update"},
		logging.DeletingFromBucket: {"delete"}, logging.DeletedFromBucket: {"delete"},
	} {
		lines := r.lines.with(msg)
		if len(lines) != len(events) {
			t.Errorf("%s: %d lines, want %d", msg, len(lines), len(events))
			continue
		}
		for i, line := range lines {
			if got := fmt.Sprint(line["event"]); got != fmt.Sprintf("map[type:%s]", events[i]) {
				t.Errorf("%s: event %s, want %s", msg, got, events[i])
			}
			if got := fmt.Sprint(line["bucketObject"]); got != "map[path:"+path("a")+"]" {
				t.Errorf("%s: %s", msg, got)
			}
			if got := fmt.Sprint(line["bucket"]); got != "map[name:originals namespace:dr resourceVersion:7 uid:bucket-uid]" {
				t.Errorf("%s: %s", msg, got)
			}
			source, _ := line["sourceObject"].(map[string]any)
			if source["name"] != "a" || source["uid"] != "uid-a" || source["resource"] != "configmaps" || source["resourceVersion"] == "" {
				t.Errorf("%s: %v", msg, source)
			}
			if _, old := line["oldSourceObject"]; old != (events[i] == "update") {
				t.Errorf("%s: oldSourceObject %v for %s", msg, old, events[i])
			}
			for _, field := range []string{"sourceCluster", "destinationCluster", "destinationObject"} {
				if _, ok := line[field]; ok {
					t.Errorf("%s has %s", msg, field)
				}
			}
			if line["lastUpdate"] == nil {
				t.Errorf("%s: no lastUpdate", msg)
			}
		}
	}
	if len(r.lines.with(logging.ListingBucket)) == 0 {
		t.Error("the listing is not logged")
	}
}
