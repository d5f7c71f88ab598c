package synchronizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"pgregory.net/rapid"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/owned"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

func version(rv string, more ...int64) topology.Version {
	v := topology.Version{Epoch: 1, RV: rv, NamespaceRV: "1", Generation: 1}
	if len(more) > 0 {
		v.Generation = more[0]
	}
	return v
}

func TestPlan(t *testing.T) {
	live := func(rv, hash string) want {
		return want{op: topology.Update, version: version(rv), hash: hash, offset: 9}
	}
	applied := state.Entry{Version: version("5"), Hash: "h5", DestinationUID: "u", DestinationRV: "1", Offset: 5}
	with := func(change func(*state.Entry)) *state.Entry { e := applied; change(&e); return &e }
	for name, c := range map[string]struct {
		reason string
		job    job
		entry  *state.Entry
		q      *state.Quarantine
		want   step
	}{
		"new":          {"nothing is remembered", job{want: live("6", "h6")}, nil, nil, stepCreate},
		"newer":        {"the content differs", job{want: live("6", "h6")}, &applied, nil, stepUpdate},
		"older":        {"stale", job{want: live("4", "h4")}, &applied, nil, stepDrop},
		"equal":        {"nothing to write", job{want: live("5", "h5")}, &applied, nil, stepRemember},
		"equalVersion": {"equal is not stale: the content decides", job{want: live("5", "other")}, &applied, nil, stepUpdate},
		"marks":        {"a zombie may hold what lay between", job{want: live("6", "h5")}, &applied, nil, stepUpdate},
		"generation": {"a re-run of the same state", job{want: want{op: topology.Update, version: version("5", 2), hash: "h5"}},
			&applied, nil, stepRemember},
		"requested":    {"somebody doubts it", job{want: want{op: topology.Update, version: version("5"), hash: "h5", verify: true}}, &applied, nil, stepLook},
		"unverified":   {"rebuilt: the object is looked at once", job{want: live("5", "h5")}, with(func(e *state.Entry) { e.Mark = "u" }), nil, stepLook},
		"foreign":      {"no optimistic write over what is not ours", job{want: live("6", "h6")}, with(func(e *state.Entry) { e.Mark = "f" }), nil, stepLook},
		"foreignMarks": {"no marks on what is not ours", job{want: live("6", "h5")}, with(func(e *state.Entry) { e.Mark = "f" }), nil, stepRemember},
		"again":        {"deleted before", job{want: live("6", "h6")}, with(func(e *state.Entry) { e.Deleted = true }), nil, stepCreate},
		"delete":       {"a delete looks first", job{want: want{op: topology.Delete, version: version("6")}}, &applied, nil, stepLook},
		"deleteAgain": {"known to be gone", job{want: want{op: topology.Delete, version: version("6")}},
			with(func(e *state.Entry) { e.Deleted = true }), nil, stepRemember},
		"redelete": {"found alive", job{want: want{op: topology.Delete, version: version("5")}, redelete: true},
			with(func(e *state.Entry) { e.Deleted = true }), nil, stepLook},
		"hold":     {"what it should be is not known", job{want: want{op: topology.Hold, version: version("6")}}, &applied, nil, stepHold},
		"oldHold":  {"stale", job{want: want{op: topology.Hold, version: version("4")}}, &applied, nil, stepDrop},
		"replayed": {"its retry has the floor", job{want: live("6", "h6"), tracked: true}, &applied, &state.Quarantine{Offset: 9, Version: version("6")}, stepDrop},
		"behindQuarantine": {"older than what waits", job{want: live("6", "h6"), tracked: true}, &applied,
			&state.Quarantine{Offset: 20, Version: version("7")}, stepDrop},
		"retry":         {"as it waits", job{want: live("6", "h6"), retry: true}, &applied, &state.Quarantine{Offset: 9, Version: version("6")}, stepUpdate},
		"retryReplaced": {"a newer record replaced it", job{want: live("6", "h6"), retry: true}, &applied, &state.Quarantine{Offset: 10, Version: version("7")}, stepDrop},
		"retrySolved":   {"it is not in quarantine any more", job{want: live("6", "h6"), retry: true}, &applied, nil, stepDrop},
	} {
		e, known := state.Entry{}, c.entry != nil
		if known {
			e = *c.entry
		}
		if got := plan(&c.job, e, known, c.q); got != c.want {
			t.Errorf("%s (%s): got %d, want %d", name, c.reason, got, c.want)
		}
	}
}

func TestJudge(t *testing.T) {
	key := topology.Key{Version: "v1", Resource: "configmaps", Namespace: "n", Name: "a"}
	owner := topology.Owner{LiveSynchronization: "dr/pre", SourceUID: "s"}
	ours := func(rv, hash string, more ...string) *owned.Object {
		m := kube.Meta{UID: "u", ResourceVersion: "9", Annotations: map[string]string{
			topology.LiveSynchronizationAnnotation: owner.LiveSynchronization, topology.SourceClusterAnnotation: owner.SourceUID,
			topology.KeyAnnotation: key.String(), topology.VersionAnnotation: version(rv).String(), topology.HashAnnotation: hash,
		}, ManagedFields: []kube.ManagedFields{{Manager: topology.FieldManager, Operation: "Apply", FieldsV1: json.RawMessage(`{"a":1}`)}}}
		for i := 0; i < len(more); i += 2 {
			m.Annotations[more[i]] = more[i+1]
		}
		return &owned.Object{Body: []byte(`{"data":{"x":"1"}}`), Meta: m}
	}
	dying := func(f *owned.Object) *owned.Object { now := time.Now(); f.Meta.DeletionTimestamp = &now; return f }
	theirs := &owned.Object{Body: []byte(`{"data":{"x":"2"}}`)}
	live := want{key: key, op: topology.Update, version: version("5"), hash: "h5", body: []byte(`{"data":{"x":"1"}}`)}
	del := want{key: key, op: topology.Delete, version: version("5")}
	known := state.Entry{Version: version("5"), Hash: "h5", FieldsHash: owned.FieldsHash(&ours("5", "h5").Meta)}
	for name, c := range map[string]struct {
		w      want
		live   *owned.Object
		entry  *state.Entry
		p      policy
		step   step
		reason string
	}{
		"absent":        {w: live, step: stepCreate},
		"as applied":    {w: live, live: ours("5", "h5"), entry: &known, step: stepRemember},
		"fields taken":  {w: live, live: ours("5", "h5"), entry: &state.Entry{FieldsHash: "other"}, step: stepUpdate},
		"rebuilt":       {w: live, live: ours("5", "h5"), step: stepRemember},
		"restored":      {w: live, live: ours("3", "h3"), entry: &known, step: stepUpdate},
		"newer there":   {w: live, live: ours("6", "h6"), step: stepAdoptNewer},
		"other owner":   {w: live, live: ours("5", "h5", topology.SourceClusterAnnotation, "x"), step: stepFail, reason: ReasonNotOwned},
		"other key":     {w: live, live: ours("5", "h5", topology.KeyAnnotation, "core/v1/configmaps/n/b"), step: stepFail, reason: ReasonNotOwned},
		"foreign":       {w: live, live: theirs, step: stepFail, reason: ReasonNotOwned},
		"foreign equal": {w: live, live: &owned.Object{Body: []byte(`{"data":{"x":"1","y":"2"}}`)}, step: stepForeign},
		"adopt":         {w: live, live: theirs, p: policy{adopt: true}, step: stepUpdate},
		"adopt not from another": {w: live, live: ours("5", "h5", topology.LiveSynchronizationAnnotation, "x/y"), p: policy{adopt: true},
			step: stepFail, reason: ReasonNotOwned},
		"dying":            {w: live, live: dying(ours("5", "h5")), step: stepFail, reason: ReasonTerminating},
		"delete absent":    {w: del, step: stepGone},
		"delete":           {w: del, live: ours("4", "h"), step: stepDelete},
		"delete foreign":   {w: del, live: theirs, step: stepKeep},
		"delete adopted":   {w: del, live: ours("4", "h", topology.AdoptedAnnotation, "true"), step: stepKeep},
		"delete other key": {w: del, live: ours("4", "h", topology.KeyAnnotation, "core/v2/configmaps/n/a"), step: stepKeep},
		"delete stale":     {w: del, live: ours("6", "h"), step: stepAdoptNewer},
		"delete orphan":    {w: del, live: ours("4", "h"), p: policy{deletion: "Orphan"}, step: stepOrphan},
		"delete dying":     {w: del, live: dying(ours("4", "h")), step: stepFail, reason: ReasonTerminating},
	} {
		e, isKnown := state.Entry{}, c.entry != nil
		if isKnown {
			e = *c.entry
		}
		got := judge(&job{want: c.w}, e, isKnown, c.live, owner, c.p)
		if got.step != c.step || got.reason != c.reason {
			t.Errorf("%s: got %d %s, want %d %s", name, got.step, got.reason, c.step, c.reason)
		}
	}
}

func TestContains(t *testing.T) {
	for name, c := range map[string]struct {
		live, desired string
		want          bool
	}{
		"equal":          {`{"spec":{"a":1}}`, `{"spec":{"a":1}}`, true},
		"more is fine":   {`{"spec":{"a":1,"b":2},"status":{}}`, `{"spec":{"a":1}}`, true},
		"less is not":    {`{"spec":{}}`, `{"spec":{"a":1}}`, false},
		"other value":    {`{"spec":{"a":2}}`, `{"spec":{"a":1}}`, false},
		"empty":          {`{}`, `{"spec":{"a":[],"b":{},"c":"","d":false}}`, true},
		"quantity":       {`{"spec":{"limits":{"cpu":"500m"}}}`, `{"spec":{"limits":{"cpu":0.5}}}`, true},
		"no quantity":    {`{"spec":{"value":"1"}}`, `{"spec":{"value":"1.0"}}`, false},
		"data is exact":  {`{"data":{"a":"1"}}`, `{"data":{"a":"1.0"}}`, false},
		"data has empty": {`{"data":{}}`, `{"data":{"a":""}}`, false},
		"list length":    {`{"spec":{"a":[1,2]}}`, `{"spec":{"a":[1]}}`, false},
		"list":           {`{"spec":{"a":[{"x":1,"y":2}]}}`, `{"spec":{"a":[{"x":1}]}}`, true},
		"label":          {`{"metadata":{"labels":{"a":"1"}}}`, `{"metadata":{"labels":{"a":"2"}}}`, false},
		"marks":          {`{"metadata":{}}`, `{"metadata":{"annotations":{"afterimage.io/version":"1"}}}`, true},
		"big integers":   {`{"spec":{"a":9007199254740993}}`, `{"spec":{"a":9007199254740992}}`, false},
		"garbage":        {`{`, `{}`, false},
		"kinds of value": {`{"spec":{"a":{"b":1}}}`, `{"spec":{"a":"x"}}`, false},
	} {
		if got := owned.Contains([]byte(c.live), []byte(c.desired)); got != c.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestMarked(t *testing.T) {
	key := topology.Key{Group: "apps", Version: "v1", Resource: "deployments", Namespace: "n", Name: "a"}
	w := want{key: key, keyText: key.String(), version: version("5"), hash: "h", uid: "u",
		body: []byte(`{"metadata":{"labels":{"l":"ü\"<"},"annotations":null,"uid":"x"},"spec":{"a":[1, 2]}}`)}
	body, err := w.marked(topology.Owner{LiveSynchronization: "dr/pre", SourceUID: "s"}, kube.Resource{Kind: "Deployment"}, true, &owned.Precondition{UID: "uid", ResourceVersion: "7"})
	must(t, err)
	var got map[string]any
	must(t, json.Unmarshal(body, &got))
	want := map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment", "spec": map[string]any{"a": []any{1.0, 2.0}},
		"metadata": map[string]any{
			"name": "a", "namespace": "n", "uid": "uid", "resourceVersion": "7",
			"labels": map[string]any{"l": "ü\"<", topology.OwnerLabel: topology.Owner{LiveSynchronization: "dr/pre", SourceUID: "s"}.Hash()},
			"annotations": map[string]any{
				topology.LiveSynchronizationAnnotation: "dr/pre", topology.SourceClusterAnnotation: "s", topology.KeyAnnotation: key.String(),
				topology.VersionAnnotation: version("5").String(), topology.HashAnnotation: "h", topology.SourceUIDAnnotation: "u", topology.AdoptedAnnotation: "true",
			},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for _, bad := range []string{`{"metadata":{"name":"b"}}`, `{"metadata":{"namespace":"other"}}`, `{"metadata":{"name":1}}`, `[]`, `null`, `{"metadata":{"labels":[]}}`} {
		w.body = []byte(bad)
		if _, err := w.marked(topology.Owner{}, kube.Resource{}, false, nil); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

func FuzzMarked(f *testing.F) {
	f.Add([]byte(`{"metadata":{"labels":{"a":"b"}},"data":{"x":"1"}}`))
	f.Add([]byte(`{"metadata":null}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, body []byte) {
		key := topology.Key{Version: "v1", Resource: "configmaps", Namespace: "n", Name: "a"}
		w := want{key: key, keyText: key.String(), body: body}
		out, err := w.marked(topology.Owner{LiveSynchronization: "a/b", SourceUID: "s"}, kube.Resource{Kind: "ConfigMap"}, false, nil)
		if err != nil {
			return
		}
		m, err := kube.MetaOf(out)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, out)
		}
		if m.Name != "a" || m.Namespace != "n" || m.Annotations[topology.KeyAnnotation] != key.String() {
			t.Fatalf("the object moved or lost its marks: %s", out)
		}
		if !json.Valid(out) {
			t.Fatalf("not JSON: %s", out)
		}
	})
}

func TestImmutableFields(t *testing.T) {
	invalid := func(field, message string) error {
		return &apierrors.StatusError{ErrStatus: metav1.Status{Code: 422, Reason: metav1.StatusReasonInvalid, Message: message,
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Field: field, Message: message}}}}}
	}
	for message, want := range map[string]bool{
		"Invalid value: \"b\": field is immutable":                                              true,
		"Forbidden: pod updates may not change fields other than `spec.containers[*]`":          true,
		"Forbidden: updates to statefulset spec for fields other than 'replicas' are forbidden": true,
		"Invalid value: \"\": may not be changed once set":                                      true,
		"Forbidden: spec is immutable after creation except resources.requests":                 true,
		"Required value":                     false,
		"must be no more than 63 characters": false,
	} {
		fields, ok := owned.Immutable(invalid("spec.x", message))
		if ok != want || ok && fields != "spec.x" {
			t.Errorf("%s: %v %q", message, ok, fields)
		}
	}
	if _, ok := owned.Immutable(errors.New("field is immutable")); ok {
		t.Error("an error that is no answer")
	}
}

func TestClassify(t *testing.T) {
	gr := schema.GroupResource{Resource: "configmaps"}
	for want, err := range map[string]error{
		ReasonNamespaceMissing: apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, "n"),
		ReasonNotServed:        apierrors.NewNotFound(gr, "a"),
		ReasonForbidden:        apierrors.NewForbidden(gr, "a", errors.New("exceeded quota")),
		ReasonInvalid:          apierrors.NewBadRequest("no"),
		ReasonServerError:      apierrors.NewInternalError(errors.New("webhook")),
		ReasonTimeout:          apierrors.NewTimeoutError("slow", 1),
	} {
		wrapped := &opError{"m", fmt.Errorf("posting: %w", err)}
		if owned.NamespaceMissing(err) {
			wrapped = &opError{"m", err} // errors.As looks through, apierrors.IsNotFound as well
		}
		if got, _ := owned.Classify(wrapped, "n"); got != want {
			t.Errorf("%v: got %s, want %s", err, got, want)
		}
	}
}

func TestRepairCount(t *testing.T) {
	now := time.Now()
	e := state.Entry{Mark: "am"}
	for i := range 3 {
		e.Mark = repaired(e.Mark, e, now, time.Hour)
		if n, _ := repairs(e); n != i+1 {
			t.Fatalf("repair %d counts %d (%s)", i+1, n, e.Mark)
		}
	}
	if !has(e, markAdopted) || !has(e, markApplied) || has(e, markForeign) {
		t.Errorf("marks: %s", e.Mark)
	}
	e.Mark = repaired(e.Mark, e, now.Add(2*time.Hour), time.Hour)
	if n, _ := repairs(e); n != 1 {
		t.Errorf("after the window: %d", n)
	}
}

// The watermark is the lowest offset that is not done.
func TestTrackerModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tr tracker
		next := rapid.Int64Range(0, 1000).Draw(t, "from")
		tr.next = next
		from := next
		done, open := map[int64]bool{}, []int64{}
		passed := 0
		skipped := 0
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "op") {
			case 0:
				next += rapid.Int64Range(0, 3).Draw(t, "gap")
				tr.add(next, time.Now(), nil)
				open = append(open, next)
				next++
			case 1:
				tr.skip(next, func() { passed++ })
				skipped++
				done[next] = true
				next++
			case 2:
				if len(open) > 0 {
					i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
					tr.done(open[i])
					done[open[i]] = true
					open = append(open[:i], open[i+1:]...)
				}
			case 3:
				got, calls := tr.advance()
				for _, c := range calls {
					c()
				}
				want := next
				if len(done) == 0 && len(open) == 0 {
					want = from
				}
				for _, o := range open {
					want = min(want, o)
				}
				if got != want {
					t.Fatalf("watermark %d, want %d", got, want)
				}
			}
			if (len(open) == 0) != tr.oldest().IsZero() {
				t.Fatalf("%d open, oldest %v", len(open), tr.oldest())
			}
		}
		for _, o := range open {
			tr.done(o)
		}
		_, calls := tr.advance()
		if passed+len(calls) != skipped {
			t.Fatalf("%d of %d passed", passed+len(calls), skipped)
		}
	})
}

func TestPoolLimit(t *testing.T) {
	p := newPool(2)
	var running, most atomic.Int64
	var wg sync.WaitGroup
	submit := func(n int) {
		for range n {
			wg.Add(1)
			p.submit(func() {
				defer wg.Done()
				now := running.Add(1)
				for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
				}
				time.Sleep(2 * time.Millisecond)
				running.Add(-1)
			})
		}
	}
	submit(50)
	wg.Wait()
	if most.Load() != 2 {
		t.Errorf("%d at a time, want 2", most.Load())
	}
	submit(50)
	p.setLimit(8)
	submit(50)
	wg.Wait()
	if n := most.Load(); n < 3 || n > 8 {
		t.Errorf("%d at a time after the limit rose to 8", n)
	}
	p.setLimit(1)
	most.Store(0)
	submit(20)
	wg.Wait()
	if most.Load() != 1 {
		t.Errorf("%d at a time after the limit fell to 1", most.Load())
	}
}
