package eventslistener

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

// answer is an API server's answer, made up.
func answer(r *http.Request, code int, body string) *http.Response {
	return &http.Response{
		StatusCode: code, Status: http.StatusText(code), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

func status(r *http.Request, code int, reason string) *http.Response {
	return answer(r, code, fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"message":"made up","code":%d}`, reason, code))
}

// notFound is an API server's word that there is no object of the name asked for.
func notFound(r *http.Request) *http.Response {
	name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	return answer(r, 404, fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","message":"made up","details":{"name":%q},"code":404}`, name))
}

func isWatch(r *http.Request, resource string) bool {
	return strings.HasSuffix(r.URL.Path, "/"+resource) && r.URL.Query().Get("watch") == "true"
}

func isList(r *http.Request, resource string) bool {
	return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/"+resource) && r.URL.Query().Get("watch") == ""
}

// crd makes a resource of the test's own, so that breakers count only its objects.
func (w *world) crd() v1alpha1.Resource {
	w.t.Helper()
	group := w.namespace + ".example.com"
	body := fmt.Sprintf(`{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"things.%[1]s"},
		"spec":{"group":%[1]q,"scope":"Namespaced","names":{"plural":"things","singular":"thing","kind":"Thing"},
		"versions":[{"name":"v1","served":true,"storage":true,"subresources":{"status":{}},
		"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}`, group)
	crds, err := w.kube.Resolve(w.t.Context(), "apiextensions.k8s.io", "v1", "customresourcedefinitions")
	if err != nil {
		w.t.Fatal(err)
	}
	w.create(crds, "", []byte(body))
	e := v1alpha1.Resource{Group: group, Version: "v1", Resource: "things"}
	w.eventually("custom resource served", func() bool {
		r, err := w.kube.Resolve(w.t.Context(), e.Group, e.Version, e.Resource)
		if err != nil {
			return false
		}
		_, err = w.kube.ListPage(w.t.Context(), r, kube.ListOptions{Limit: 1})
		return err == nil
	})
	return e
}

func (w *world) thing(e v1alpha1.Resource, name string) {
	w.t.Helper()
	w.create(w.resource(e), w.namespace, fmt.Appendf(nil, `{"apiVersion":"%s/v1","kind":"Thing","metadata":{"name":%q},"spec":{"a":1}}`, e.Group, name))
}

func (w *world) thingKey(e v1alpha1.Resource, name string) topology.Key {
	return topology.Key{Group: e.Group, Version: "v1", Resource: "things", Namespace: w.namespace, Name: name}
}

func (w *world) things(e v1alpha1.Resource) map[string]string {
	logged := map[string]string{}
	for _, r := range w.ofKind(topology.Object) {
		if k, err := topology.ParseKey(r.Key); err == nil && k.Group == e.Group {
			logged[k.Name] = strings.TrimSpace(logged[k.Name] + " " + string(r.Op))
		}
	}
	return logged
}

func allAre(m map[string]string, n int, ops string) bool {
	for _, v := range m {
		if v != ops {
			return false
		}
	}
	return len(m) == n
}

func TestWatchFaults(t *testing.T) {
	// Each breaks the first connections in its way; afterwards everything is in
	// the log, once.
	for name, fault := range map[string]func(r *http.Request, next http.RoundTripper, n int64) (*http.Response, error){
		"closed at once": func(r *http.Request, _ http.RoundTripper, _ int64) (*http.Response, error) {
			return answer(r, 200, ""), nil
		},
		"cut mid-event": func(r *http.Request, next http.RoundTripper, _ int64) (*http.Response, error) {
			resp, err := next.RoundTrip(r)
			if err == nil {
				resp.Body = readCloser{io.MultiReader(io.LimitReader(resp.Body, 300), broken{}), resp.Body}
			}
			return resp, err
		},
		"hung": func(r *http.Request, _ http.RoundTripper, _ int64) (*http.Response, error) {
			pr, pw := io.Pipe()
			context := r.Context()
			go func() { <-context.Done(); pw.CloseWithError(context.Err()) }()
			resp := answer(r, 200, "")
			resp.Body, resp.ContentLength = pr, -1
			return resp, nil
		},
		"gone": func(r *http.Request, _ http.RoundTripper, _ int64) (*http.Response, error) {
			return status(r, 410, "Expired"), nil
		},
		"gone as an event": func(r *http.Request, _ http.RoundTripper, _ int64) (*http.Response, error) {
			return answer(r, 200, `{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410}}`+"\n"), nil
		},
		"unavailable": func(r *http.Request, _ http.RoundTripper, _ int64) (*http.Response, error) {
			return status(r, 503, "ServiceUnavailable"), nil
		},
		"every event twice and the first again": func(r *http.Request, next http.RoundTripper, _ int64) (*http.Response, error) {
			resp, err := next.RoundTrip(r)
			if err == nil {
				resp.Body = readCloser{repeated(resp.Body), resp.Body}
			}
			return resp, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, source(t))
			e := w.crd()
			w.setResources(e)
			var n atomic.Int64
			w.transport.set(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
				if isWatch(r, "things") {
					if k := n.Add(1); k <= 2 || strings.HasPrefix(name, "every") {
						return fault(r, next, k)
					}
				}
				return next.RoundTrip(r)
			})
			w.thing(e, "listed")
			r := w.start(func(o *Options) { o.WatchTimeout = 500 * time.Millisecond; o.WatchSilence = 700 * time.Millisecond })
			w.eventually("listed", func() bool { return allAre(w.things(e), 1, "create") })
			w.eventually("watching", func() bool { return n.Load() > 0 })
			for i := range 5 {
				w.thing(e, fmt.Sprintf("live-%d", i))
			}
			if _, err := w.kube.JSONPatch(t.Context(), w.resource(e), w.thingKey(e, "live-1"), []byte(`[{"op":"add","path":"/spec/a","value":2}]`), "test"); err != nil {
				t.Fatal(err)
			}
			if err := w.kube.Delete(t.Context(), w.resource(e), w.thingKey(e, "live-2"), kube.Preconditions{}); err != nil {
				t.Fatal(err)
			}
			last := func(name string) topology.Op {
				rs := w.ofKey(w.thingKey(e, name))
				if len(rs) == 0 {
					return ""
				}
				return rs[len(rs)-1].Op
			}
			w.eventually("everything logged", func() bool {
				for _, n := range []string{"listed", "live-0", "live-3", "live-4"} {
					if last(n) != topology.Create {
						return false
					}
				}
				rs := w.ofKey(w.thingKey(e, "live-1"))
				return len(rs) > 0 && strings.Contains(string(rs[len(rs)-1].Body), `"a":2`) && (last("live-2") == topology.Delete || last("live-2") == "" && n.Load() > 2)
			})
			if name == "hung" && r.Counters().Hung == 0 {
				t.Error("a hung watch was not counted")
			}
			if strings.HasPrefix(name, "gone") && r.Counters().Expired == 0 {
				t.Error("an expired watch was not counted")
			}
			w.ordered(e)
			w.eventually("healthy", func() bool { return r.status().Components[0].Ready })
		})
	}
}

// ordered fails the test where a key's versions in the log do not rise, or a
// state is there twice.
func (w *world) ordered(e v1alpha1.Resource) {
	w.t.Helper()
	last := map[string]topology.Record{}
	for _, r := range w.ofKind(topology.Object) {
		if before, ok := last[r.Key]; ok {
			if r.Version.Older(before.Version) || r.Hash == before.Hash && r.Op != topology.Delete && !r.Requested && !r.Repair {
				w.t.Errorf("%s: %s %s after %s %s", r.Key, r.Op, r.Version, before.Op, before.Version)
			}
		}
		last[r.Key] = r
	}
}

type readCloser struct {
	io.Reader
	io.Closer
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("connection reset by a test") }

// repeated gives every line of a watch twice, and the first one behind each.
func repeated(r io.Reader) io.Reader {
	pr, pw := io.Pipe()
	go func() {
		in := bufio.NewReader(r)
		var first []byte
		for {
			line, err := in.ReadBytes('\n')
			if err != nil {
				pw.CloseWithError(err)
				return
			}
			if first == nil {
				first = bytes.Clone(line)
			}
			for _, l := range [][]byte{line, line, first} {
				if _, err := pw.Write(l); err != nil {
					return
				}
			}
		}
	}()
	return pr
}

func (w *world) setResources(rs ...v1alpha1.Resource) {
	s := w.settings.Load()
	s.Config.Replication.Resources = rs
	w.settings.Set(s)
}

func TestExpiredContinue(t *testing.T) {
	w := newWorld(t, source(t))
	e := w.crd()
	w.setResources(e)
	for i := range 7 {
		w.thing(e, fmt.Sprintf("t-%d", i))
	}
	var n atomic.Int64
	w.transport.set(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if isList(r, "things") && r.URL.Query().Get("continue") != "" && n.Add(1) == 2 {
			return status(r, 410, "Expired"), nil
		}
		return next.RoundTrip(r)
	})
	r := w.start(func(o *Options) { o.PageSize = 2 })
	w.listed("" + e.Group + "/v1/things")
	if got := w.things(e); !allAre(got, 7, "create") {
		t.Errorf("logged %v", got)
	}
	if r.Counters().Expired != 1 {
		t.Errorf("%d expired, want 1", r.Counters().Expired)
	}
}

func TestEmptyListIsHeldBack(t *testing.T) {
	w := newWorld(t, source(t))
	e := w.crd()
	w.setResources(e)
	for i := range 12 {
		w.thing(e, fmt.Sprintf("t-%d", i))
	}
	r := w.start()
	w.eventually("logged", func() bool { return allAre(w.things(e), 12, "create") })
	r.stop()
	// Lists show nothing, and so do GETs: a wrong server, or a source that is lost.
	w.transport.set(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		switch {
		case isList(r, "things"):
			return answer(r, 200, `{"kind":"ThingList","apiVersion":"`+e.Group+`/v1","metadata":{"resourceVersion":"99999999"},"items":[]}`), nil
		case r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/things/"):
			return notFound(r), nil
		}
		return next.RoundTrip(r)
	})
	r = w.start()
	w.eventually("held back", func() bool { return r.condition(ConditionPruneBlocked) != "" })
	if got := w.things(e); !allAre(got, 12, "create") {
		t.Fatalf("deleted although held back: %v", got)
	}
	if m := r.condition(ConditionPruneBlocked); !strings.Contains(m, "12 of 12") || !strings.Contains(m, "confirm-prune") {
		t.Errorf("condition: %s", m)
	}
}

func TestPartialListIsLookedAtAgain(t *testing.T) {
	w := newWorld(t, source(t))
	e := w.crd()
	w.setResources(e)
	for i := range 8 {
		w.thing(e, fmt.Sprintf("t-%d", i))
	}
	r := w.start()
	w.eventually("logged", func() bool { return allAre(w.things(e), 8, "create") })
	r.stop()
	var n atomic.Int64
	w.transport.set(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if isList(r, "things") && r.URL.Query().Get("limit") != "1" && n.Add(1) == 1 {
			resp, err := next.RoundTrip(r)
			if err != nil {
				return nil, err
			}
			defer resp.Body.Close()
			return answer(r, 200, `{"kind":"ThingList","apiVersion":"`+e.Group+`/v1","metadata":{"resourceVersion":"`+listRV(resp.Body)+`"},"items":[]}`), nil
		}
		return next.RoundTrip(r)
	})
	r = w.start()
	w.listed(e.Group + "/v1/things")
	if got := w.things(e); !allAre(got, 8, "create") {
		t.Errorf("deleted what a GET shows: %v", got)
	}
	if m := r.condition(ConditionPruneBlocked); m != "" {
		t.Errorf("held back although the second look found everything: %s", m)
	}
}

func listRV(body io.Reader) string {
	b, _ := io.ReadAll(body)
	_, rest, _ := bytes.Cut(b, []byte(`"resourceVersion":"`))
	rv, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(rv)
}

func TestPruneAfterConfirmation(t *testing.T) {
	w := newWorld(t, source(t))
	e := w.crd()
	w.setResources(e)
	for i := range 12 {
		w.thing(e, fmt.Sprintf("t-%d", i))
	}
	r := w.start()
	w.eventually("logged", func() bool { return allAre(w.things(e), 12, "create") })
	r.stop()
	for i := range 12 {
		if err := w.kube.Delete(t.Context(), w.resource(e), w.thingKey(e, fmt.Sprintf("t-%d", i)), kube.Preconditions{}); err != nil {
			t.Fatal(err)
		}
	}
	r = w.start()
	w.eventually("held back", func() bool { return r.condition(ConditionPruneBlocked) != "" })
	s := w.settings.Load()
	s.ConfirmPrune = "1-00000000"
	w.settings.Set(s)
	time.Sleep(500 * time.Millisecond)
	if got := w.things(e); !allAre(got, 12, "create") {
		t.Fatalf("another token let deletes pass: %v", got)
	}
	_, rest, _ := strings.Cut(r.condition(ConditionPruneBlocked), `confirm-prune: "`)
	s.ConfirmPrune, _, _ = strings.Cut(rest, `"`)
	w.settings.Set(s)
	w.eventually("deleted as confirmed", func() bool { return allAre(w.things(e), 12, "create delete") })
	w.eventually("nothing held back", func() bool { return r.condition(ConditionPruneBlocked) == "" })
}

func TestForbiddenResourceStopsNothingElse(t *testing.T) {
	w := newWorld(t, source(t))
	e := w.crd()
	w.setResources(e, configMaps)
	w.thing(e, "a")
	w.configMap("cm", map[string]string{"a": "1"})
	r := w.start()
	w.eventually("logged", func() bool { return allAre(w.things(e), 1, "create") })
	w.becomes("configmaps", "cm", "create")
	r.stop()
	w.transport.set(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if strings.HasSuffix(r.URL.Path, "/things") {
			return status(r, 403, "Forbidden"), nil
		}
		return next.RoundTrip(r)
	})
	r = w.start()
	w.configMap("cm2", map[string]string{"a": "1"})
	w.becomes("configmaps", "cm2", "create")
	w.eventually("named in status", func() bool {
		for _, res := range r.status().Resources {
			if strings.HasSuffix(res.Resource, "/things") && !res.Ready && res.Reason == "Forbidden" {
				return true
			}
		}
		return false
	})
	if r.status().Components[0].Ready {
		t.Error("ready although a resource cannot be read")
	}
	at := w.lastVerified()
	w.transport.set(nil)
	w.eventually("verified again", func() bool { return w.lastVerified().After(at) })
	if got := w.things(e); !allAre(got, 1, "create") {
		t.Errorf("a 403 deleted: %v", got)
	}
}

// lastVerified is the moment of the last heartbeat of partition 0.
func (w *world) lastVerified() (at time.Time) {
	for _, r := range w.ofKind(topology.Heartbeat) {
		if r.Partition == 0 {
			at = r.VerifiedAt
		}
	}
	return at
}

func TestResourceServedLater(t *testing.T) {
	w := newWorld(t, source(t))
	late := v1alpha1.Resource{Group: w.namespace + ".example.com", Version: "v1", Resource: "Thing"}
	w.setResources(late, configMaps)
	r := w.start()
	w.configMap("cm", map[string]string{"a": "1"})
	w.becomes("configmaps", "cm", "create")
	w.eventually("waited for", func() bool {
		for _, res := range r.status().Resources {
			if res.Reason == "NotServed" && strings.Contains(res.Resource, "Thing") {
				return r.status().Components[0].Ready
			}
		}
		return false
	})
	e := w.crd()
	w.thing(e, "a")
	w.eventually("logged", func() bool { return allAre(w.things(e), 1, "create") })
	if !w.lastConfigHas("things") {
		t.Error("the configuration in the log does not name the plural")
	}
}

func (w *world) lastConfigHas(resource string) bool {
	rs := w.ofKind(topology.Configured)
	return len(rs) > 0 && strings.Contains(string(rs[len(rs)-1].Body), `"resource":"`+resource+`"`)
}

// A version that the source stops to serve has objects that go on changing
// unseen: that is not the same as a resource that is not there yet.
func TestResourceServedNoLonger(t *testing.T) {
	w := newWorld(t, source(t))
	e := w.crd()
	w.setResources(e)
	w.thing(e, "a")
	r := w.start()
	w.eventually("logged and ready", func() bool { return allAre(w.things(e), 1, "create") && r.status().Components[0].Ready })
	crd := topology.Key{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions", Name: "things." + e.Group}
	crds := v1alpha1.Resource{Group: crd.Group, Version: crd.Version, Resource: crd.Resource}
	w.patch(crds, crd, `[{"op":"replace","path":"/spec/versions/0/served","value":false}]`)
	w.eventually("said in status", func() bool {
		s := r.status()
		return len(s.Resources) == 1 && s.Resources[0].Reason == "NoLongerServed" && !s.Components[0].Ready
	})
	if names := r.current().resolver.failing(); len(names) != 1 {
		t.Errorf("counts as verified: failing are %v", names)
	}
	w.patch(crds, crd, `[{"op":"replace","path":"/spec/versions/0/served","value":true}]`)
	w.eventually("ready again", func() bool { return r.status().Components[0].Ready })
	if got := w.things(e); !allAre(got, 1, "create") {
		t.Errorf("logged: %v", got)
	}
	// A kind that is deleted takes its objects along, which is seen, if they are
	// watched already: after the listing that made it ready they may not be.
	for i := range 2 {
		w.patch(e, w.thingKey(e, "a"), fmt.Sprintf(`[{"op":"replace","path":"/spec/a","value":%d}]`, 2+i))
		w.eventually("watched", func() bool { return allAre(w.things(e), 1, "create"+strings.Repeat(" update", i+1)) })
	}
	if err := w.kube.Delete(t.Context(), w.resource(crds), crd, kube.Preconditions{}); err != nil {
		t.Fatal(err)
	}
	w.eventually("waited for", func() bool {
		s := r.status()
		return len(s.Resources) == 1 && s.Resources[0].Reason == "NotServed" && s.Components[0].Ready
	})
	if got := w.things(e); !allAre(got, 1, "create update update delete") {
		t.Errorf("logged: %v", got)
	}
}

// A kind is looked up at each start. On a disk that does not know its plural, and
// while the source cannot tell, it must not be taken for a resource of that name:
// the configuration would put all of its objects out of scope.
func TestNameIsKnownOnANewDisk(t *testing.T) {
	for name, code := range map[string]int{"not served": 404, "unavailable": 503} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, source(t))
			e := w.crd()
			kind := e
			kind.Resource = "Thing"
			w.setResources(kind, configMaps)
			w.thing(e, "a")
			r := w.start()
			w.eventually("logged", func() bool { return allAre(w.things(e), 1, "create") && w.lastConfigHas("things") })
			r.stop()
			w.wipe()
			before := len(w.ofKind(topology.Configured))
			w.transport.set(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
				if strings.Contains(r.URL.Path, e.Group) {
					return status(r, code, "made up"), nil
				}
				return next.RoundTrip(r)
			})
			w.start()
			w.configMap("after", map[string]string{"a": "1"})
			w.becomes("configmaps", "after", "create")
			if now := len(w.ofKind(topology.Configured)); now != before || !w.lastConfigHas("things") {
				t.Errorf("%d configuration records more; the plural is named: %v", now-before, w.lastConfigHas("things"))
			}
		})
	}
}
