package reconciler

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

func TestAsksForOrphansOnly(t *testing.T) {
	r := newRig(t)
	for i := range 8 {
		name := fmt.Sprintf("both-%d", i)
		r.put(r.source, name, nil)
		r.put(r.destination, name, nil)
	}
	r.put(r.source, "only-source", nil)
	r.put(r.destination, "a-orphan", nil)
	r.put(r.destination, "z-orphan", nil)
	for name, change := range map[string]func(map[string]string){
		"adopted":     func(a map[string]string) { a[topology.AdoptedAnnotation] = "true" },
		"forced":      func(a map[string]string) { a[forcedNamespace] = "true" },
		"another-key": func(a map[string]string) { a[topology.KeyAnnotation] = r.key("both-1") },
		"another-version": func(a map[string]string) {
			a[topology.KeyAnnotation] = "core/v2/configmaps/" + r.namespace + "/another-version"
		},
		"garbled-key":    func(a map[string]string) { a[topology.KeyAnnotation] = "x" },
		"another-sync":   func(a map[string]string) { a[topology.LiveSynchronizationAnnotation] = "default/other" },
		"another-source": func(a map[string]string) { a[topology.SourceClusterAnnotation] = "other" },
		"unlabelled":     func(a map[string]string) { a["unlabelled"] = "true" },
	} {
		r.put(r.destination, name, change)
	}
	// A foreigner that copied the label.
	_, err := r.destination.Create(t.Context(), configMaps, r.namespace,
		mustJSON(map[string]any{"metadata": map[string]any{"name": "foreign", "labels": map[string]string{topology.OwnerLabel: r.owner.Hash()}}}), "test")
	r.must(err)
	rec := r.run()
	r.eventually("a comparison", comparisons(rec, 1))
	r.wantRequested("a-orphan", "z-orphan")
	want := Counters{Owned: 10, LeftAlone: 6, Orphans: 2, Requested: 2, Comparisons: 1}
	if got := rec.Counters(); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
	var st v1alpha1.LiveSynchronizationStatus
	rec.Report(&st)
	if len(st.Components) != 1 || !st.Components[0].Ready || st.LastResyncTime == nil || len(st.Conditions) != 0 {
		t.Errorf("status %+v", st)
	}
	// A change of the period reschedules at once; what was asked for is not asked for again.
	s := r.settings.Load()
	s.ResyncPeriod = 10 * time.Millisecond
	r.settings.Set(s)
	r.eventually("two more comparisons", comparisons(rec, 3))
	r.wantRequested("a-orphan", "z-orphan")
}

func answer(code int, body string) *http.Response {
	return &http.Response{StatusCode: code, Status: http.StatusText(code), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
}

// A source list that fails on any page, or is cut, concludes nothing.
func TestFailedSourceConcludesNothing(t *testing.T) {
	status := func(code int, reason string) func() *http.Response {
		return func() *http.Response {
			return answer(code, fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"code":%d}`, reason, code))
		}
	}
	for name, tc := range map[string]struct {
		answer func() *http.Response
		later  bool // only the second page
		reason string
	}{
		"401":             {status(401, "Unauthorized"), false, "SourceUnavailable"},
		"403":             {status(403, "Forbidden"), false, "SourceForbidden"},
		"403 on page 2":   {status(403, "Forbidden"), true, "SourceForbidden"},
		"410 on page 2":   {status(410, "Expired"), true, "SourceExpired"},
		"500":             {status(500, "InternalError"), false, "SourceInternalError"},
		"404":             {status(404, "NotFound"), false, "SourceNotFound"},
		"a proxy's page":  {func() *http.Response { return answer(200, "<html></html>") }, false, "SourceUnavailable"},
		"an empty object": {func() *http.Response { return answer(200, "{}") }, false, "SourceUnavailable"},
		"cut": {func() *http.Response {
			return answer(200, `{"kind":"ConfigMapList","metadata":{"resourceVersion":"9"},"items":[`)
		}, false, "SourceUnavailable"},
		"no resourceVersion": {func() *http.Response { return answer(200, `{"kind":"ConfigMapList","metadata":{},"items":[]}`) }, true, "SourceUnavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			for i := range 5 {
				r.put(r.source, fmt.Sprintf("both-%d", i), nil)
			}
			for _, name := range []string{"a-orphan", "both-0", "both-4", "c-orphan"} {
				r.put(r.destination, name, nil)
			}
			fault := func(req *http.Request) *http.Response {
				if req.Method != http.MethodGet || !strings.HasSuffix(req.URL.Path, "/configmaps") || tc.later && req.URL.Query().Get("continue") == "" {
					return nil
				}
				return tc.answer()
			}
			r.fault.Store(&fault)
			rec := r.run()
			r.eventually("two attempts", func() bool { return rec.Counters().Failures >= 2 })
			r.wantRequested()
			var st v1alpha1.LiveSynchronizationStatus
			rec.Report(&st)
			if c := st.Components[0]; c.Ready || c.Reason != tc.reason || st.LastResyncTime != nil {
				t.Errorf("component %+v, want not ready for %s", c, tc.reason)
			}
			r.fault.Store(nil)
			r.eventually("recovery", comparisons(rec, 1))
			r.wantRequested("a-orphan", "c-orphan")
		})
	}
}

// One resource that cannot be read keeps no other from being compared.
func TestFailureOfOneResource(t *testing.T) {
	r := newRig(t)
	s := r.settings.Load()
	s.Config.Replication.Resources = append(s.Config.Replication.Resources, v1alpha1.Resource{Version: "v1", Resource: "secrets"}, v1alpha1.Resource{Version: "v1", Resource: "configmaps"})
	r.settings.Set(s)
	r.put(r.destination, "orphan", nil)
	fault := func(req *http.Request) *http.Response {
		if strings.HasSuffix(req.URL.Path, "/secrets") {
			return answer(403, `{"kind":"Status","status":"Failure","reason":"Forbidden","code":403}`)
		}
		return nil
	}
	r.fault.Store(&fault)
	secrets := configMaps
	secrets.Resource, secrets.Kind = "secrets", "Secret"
	_, err := r.destination.Create(t.Context(), secrets, r.namespace, mustJSON(map[string]any{"metadata": map[string]any{
		"name": "orphan", "labels": map[string]string{topology.OwnerLabel: r.owner.Hash()}}}), "test")
	r.must(err)
	rec := r.run()
	r.eventually("a failure", func() bool { return rec.Counters().Failures >= 1 })
	r.wantRequested("orphan")
	r.fault.Store(nil)
	r.eventually("recovery", comparisons(rec, 1))
	r.wantRequested("orphan")
}

func TestAnotherSourceHalts(t *testing.T) {
	for name, tc := range map[string]struct {
		// known: the configuration names the source.
		known bool
	}{"by the configuration": {true}, "by the destination's objects": {false}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			uid := r.owner.SourceUID
			r.owner.SourceUID = "11111111-2222-3333-4444-555555555555"
			r.put(r.destination, "orphan", nil)
			if tc.known {
				s := r.settings.Load()
				s.Config.SourceUID = r.owner.SourceUID
				r.settings.Set(s)
			}
			rec := r.run()
			r.eventually("two attempts", func() bool { return rec.Counters().Failures >= 2 })
			r.wantRequested()
			var st v1alpha1.LiveSynchronizationStatus
			rec.Report(&st)
			if len(st.Conditions) != 1 || st.Conditions[0].Type != ConditionSourceChanged || !strings.Contains(st.Conditions[0].Message, uid) ||
				!strings.Contains(st.Conditions[0].Message, r.owner.SourceUID) || st.Components[0].Ready {
				t.Errorf("status %+v", st)
			}
			// Confirmed: goes on, but what came from the other source is not ours to doubt.
			r.owner.SourceUID = uid
			r.put(r.destination, "new-orphan", nil)
			s := r.settings.Load()
			s.ConfirmSource = uid
			r.settings.Set(s)
			r.eventually("a comparison", comparisons(rec, 1))
			r.wantRequested("new-orphan")
			rec.Report(&st)
		})
	}
}

// What is being deleted anyway is not asked for, nor what is created meanwhile.
func TestSecondLook(t *testing.T) {
	r := newRig(t)
	r.options.Settle = 2 * time.Second
	for _, name := range []string{"deleted-meanwhile", "created-meanwhile", "orphan", "recreated"} {
		r.put(r.destination, name, nil)
	}
	listed := make(chan struct{}, 1)
	fault := func(req *http.Request) *http.Response {
		if strings.HasSuffix(req.URL.Path, "/configmaps") {
			select {
			case listed <- struct{}{}:
			default:
			}
		}
		return nil
	}
	r.fault.Store(&fault)
	rec := r.run()
	<-listed
	r.eventually("both listings", func() bool { n := r.requests.Load(); time.Sleep(100 * time.Millisecond); return n == r.requests.Load() })
	key := func(name string) topology.Key {
		return topology.Key{Version: "v1", Resource: "configmaps", Namespace: r.namespace, Name: name}
	}
	r.fault.Store(nil)
	r.must(r.destination.Delete(t.Context(), configMaps, key("deleted-meanwhile"), kube.Preconditions{}))
	r.put(r.source, "created-meanwhile", nil)
	r.must(r.destination.Delete(t.Context(), configMaps, key("recreated"), kube.Preconditions{}))
	r.put(r.destination, "recreated", nil)
	r.eventually("a comparison", comparisons(rec, 1))
	r.wantRequested("orphan")
}

func TestRecreatedTopicIsComparedAtOnce(t *testing.T) {
	r := newRig(t)
	store, err := state.Open(t.TempDir())
	r.must(err)
	defer func() { r.must(store.Close()) }()
	r.options.State = store.Stage("reconciler")
	s := r.settings.Load()
	s.ResyncPeriod = 0 // off, but for what is lost with a log
	r.settings.Set(s)
	rec := r.run()
	r.eventually("the first comparison", comparisons(rec, 1))
	r.put(r.destination, "orphan", nil)
	time.Sleep(150 * time.Millisecond)
	r.wantRequested()
	r.must(r.log.Delete(t.Context(), r.topics.Changes))
	_, err = r.log.Ensure(t.Context(), r.topics.Changes, stream.TopicSettings{Partitions: 3, Replication: -1})
	r.must(err)
	r.eventually("a comparison", comparisons(rec, 2))
	r.wantRequested("orphan")
}

func TestStartRemembersWhatWasCompared(t *testing.T) {
	r := newRig(t)
	store, err := state.Open(t.TempDir())
	r.must(err)
	defer func() { r.must(store.Close()) }()
	r.options.State = store.Stage("reconciler")
	s := r.settings.Load()
	s.ResyncPeriod = 0
	r.settings.Set(s)
	t.Run("first start", func(t *testing.T) {
		r.t = t
		rec := r.run()
		r.eventually("a comparison", comparisons(rec, 1))
	})
	t.Run("second start", func(t *testing.T) {
		r.t = t
		before := r.requests.Load()
		rec := r.run()
		r.eventually("election", func() bool {
			var st v1alpha1.LiveSynchronizationStatus
			rec.Report(&st)
			return st.Components[0].Reason == "NotDue"
		})
		time.Sleep(100 * time.Millisecond)
		if n := r.requests.Load() - before; n != 0 || rec.Counters().Comparisons != 0 {
			t.Errorf("%d requests to the source though nothing is due", n)
		}
	})
}

func TestSuspendedComparesNothing(t *testing.T) {
	r := newRig(t)
	s := r.settings.Load()
	s.Suspend = true
	r.settings.Set(s)
	r.put(r.destination, "orphan", nil)
	rec := r.run()
	time.Sleep(300 * time.Millisecond)
	if n := rec.Counters().Comparisons; n != 0 {
		t.Errorf("%d comparisons while suspended", n)
	}
	s.Suspend = false
	r.settings.Set(s)
	r.eventually("a comparison", comparisons(rec, 1))
	r.wantRequested("orphan")
}

// A comparison asks for a bounded number, and another for the rest.
func TestManyOrphansComeInSlices(t *testing.T) {
	r := newRig(t)
	r.options.MaxRequests = 4
	for i := range 12 {
		name := fmt.Sprintf("both-%02d", i)
		r.put(r.source, name, nil)
		r.put(r.destination, name, nil)
	}
	var want []string
	for i := range 9 {
		want = append(want, fmt.Sprintf("orphan-%d", i))
		r.put(r.destination, want[i], nil)
	}
	rec := r.run()
	r.eventually("a complete comparison", comparisons(rec, 1))
	r.wantRequested(want...)
}

func TestMostOfEverythingIsBlocked(t *testing.T) {
	r := newRig(t)
	r.options.MaxRequests = 4
	for i := range 9 {
		r.put(r.destination, fmt.Sprintf("orphan-%d", i), nil)
	}
	rec := r.run()
	r.eventually("a comparison", comparisons(rec, 1))
	r.wantRequested()
	var st v1alpha1.LiveSynchronizationStatus
	rec.Report(&st)
	i := slices.IndexFunc(st.Conditions, func(c metav1.Condition) bool { return c.Type == ConditionPruneBlocked })
	if i < 0 || !strings.Contains(st.Conditions[i].Message, `"objects=9"`) {
		t.Fatalf("conditions %+v", st.Conditions)
	}
	s := r.settings.Load()
	s.ConfirmPrune = "objects=9" // acted upon at once, not at the next period
	r.settings.Set(s)
	r.eventually("requests", func() bool { return len(r.requested()) == 9 })
}

// What waits for a person still shows after a restart, also without a period.
func TestBlockedIsFoundAgain(t *testing.T) {
	r := newRig(t)
	store, err := state.Open(t.TempDir())
	r.must(err)
	defer func() { r.must(store.Close()) }()
	r.options.State = store.Stage("reconciler")
	r.options.MaxRequests = 4
	s := r.settings.Load()
	s.ResyncPeriod = 0
	r.settings.Set(s)
	for i := range 9 {
		r.put(r.destination, fmt.Sprintf("orphan-%d", i), nil)
	}
	for _, start := range []string{"first start", "second start"} {
		t.Run(start, func(t *testing.T) {
			r.t = t
			rec := r.run()
			r.eventually("deletes that wait for a person", func() bool {
				var st v1alpha1.LiveSynchronizationStatus
				rec.Report(&st)
				return slices.ContainsFunc(st.Conditions, func(c metav1.Condition) bool { return c.Type == ConditionPruneBlocked })
			})
			time.Sleep(100 * time.Millisecond)
			if n := rec.Counters().Comparisons; n != 1 {
				t.Errorf("%d comparisons while nobody answers, want 1", n)
			}
		})
	}
}

func TestLogLines(t *testing.T) {
	r := newRig(t)
	var out bytes.Buffer
	r.options.Logger = logging.New(logging.Shared(&out), slog.LevelDebug, Component, "consumer-1")
	s := r.settings.Load()
	s.Source, s.Destination = settings.Asset{Name: "pre"}, settings.Asset{Name: "post"}
	s.LastUpdateUsername = "someone"
	r.settings.Set(s)
	r.put(r.destination, "orphan", nil)
	t.Run("run", func(t *testing.T) {
		r.t = t
		r.eventually("a comparison", comparisons(r.run(), 1))
	})
	seen := map[string]bool{}
	for d := json.NewDecoder(&out); d.More(); {
		var line struct {
			Msg                string
			Process            struct{ ID string }
			SourceCluster      struct{ Name string }
			DestinationCluster struct{ Name string }
			DestinationObject  struct{ Name, Resource string }
			Event              struct{ Type string }
			LastUpdate         struct{ Username string }
		}
		r.must(d.Decode(&line))
		if line.Process.ID != Component {
			t.Errorf("process id %q", line.Process.ID)
		}
		seen[line.Msg] = true
		switch line.Msg {
		case logging.ListingObjects, logging.ListedObjects, "object exists only in the destination cluster: asking for its delete":
			if line.SourceCluster.Name != "pre" || line.DestinationCluster.Name != "post" || line.LastUpdate.Username != "someone" {
				t.Errorf("%s without its clusters: %+v", line.Msg, line)
			}
		}
		if strings.HasPrefix(line.Msg, "object exists only") && (line.DestinationObject.Name != "orphan" || line.DestinationObject.Resource != "configmaps" || line.Event.Type != "delete") {
			t.Errorf("%+v", line)
		}
	}
	if !seen[logging.ListingObjects] || !seen[logging.ListedObjects] || len(seen) < 3 {
		t.Errorf("lines %v", seen)
	}
}
