package faultproxy_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/rest"

	"github.com/afterimage-dr/afterimage/internal/faultproxy"
)

const (
	configMaps = "/api/v1/namespaces/default/configmaps"
	list       = `{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"7","continue":"more","remainingItemCount":3},"items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b"}}]}`
)

// api is a small API server: lists, writes that are counted, and watches fed
// from a channel.
type api struct {
	server *httptest.Server
	writes atomic.Int32
	events chan string
}

func startAPI(t *testing.T) *api {
	t.Helper()
	a := &api{events: make(chan string)}
	a.server = httptest.NewServer(a)
	t.Cleanup(a.server.Close)
	t.Cleanup(a.server.CloseClientConnections)
	return a
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.Method != http.MethodGet:
		a.writes.Add(1)
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write(body)
	case r.URL.Query().Get("watch") == "true":
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		for {
			select {
			case e, ok := <-a.events:
				if !ok {
					return
				}
				_, _ = io.WriteString(w, e)
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	default:
		w.Header().Set("Seen-Authorization", r.Header.Get("Authorization"))
		w.Header().Set("Seen-Accept", r.Header.Get("Accept"))
		_, _ = io.WriteString(w, list)
	}
}

func start(t *testing.T, options ...faultproxy.HTTPOption) (*faultproxy.HTTP, *api) {
	t.Helper()
	a := startAPI(t)
	return faultproxy.StartHTTP(t, &rest.Config{Host: a.server.URL, BearerToken: "secret"}, options...), a
}

// do sends a request as a client configured by RESTConfig would.
func do(ctx context.Context, p *faultproxy.HTTP, method, path, body string) (*http.Response, error) {
	config := p.RESTConfig()
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, method, config.Host+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/vnd.kubernetes.protobuf,application/json")
	return client.Do(r)
}

// read is status and body, or the error met on the way.
func read(response *http.Response, err error) (int, string, error) {
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

func get(t *testing.T, p *faultproxy.HTTP, path string) (int, string, error) {
	t.Helper()
	return read(do(t.Context(), p, http.MethodGet, path, ""))
}

func TestHTTPChangesNothingWithoutRules(t *testing.T) {
	for name, options := range map[string][]faultproxy.HTTPOption{"plain": nil, "tls": {faultproxy.WithTLS()}} {
		t.Run(name, func(t *testing.T) {
			p, a := start(t, options...)
			response, err := do(t.Context(), p, http.MethodGet, configMaps, "")
			must(t, err)
			if got := response.Header.Get("Seen-Authorization"); got != "Bearer secret" {
				t.Errorf("the API server saw the authorization %q, want the client's", got)
			}
			if got := response.Header.Get("Seen-Accept"); got != "application/json" {
				t.Errorf("the API server was asked for %q, want JSON only", got)
			}
			if code, body, err := read(response, nil); code != http.StatusOK || body != list || err != nil {
				t.Errorf("got %d %q %v, want the list as it is", code, body, err)
			}
			code, body, err := read(do(t.Context(), p, http.MethodPost, configMaps, `{"a":1}`))
			if code != http.StatusCreated || body != `{"a":1}` || err != nil || a.writes.Load() != 1 {
				t.Errorf("creating: %d %q %v and %d writes", code, body, err, a.writes.Load())
			}
		})
	}
}

func TestHTTPRequestFaults(t *testing.T) {
	type result struct {
		Code   int
		Reason string
		Broken bool
		Writes int32
	}
	tests := map[string]struct {
		reason string
		fault  faultproxy.Fault
		method string
		want   result
	}{
		"unavailable": {"an API server that sheds load", faultproxy.Status(503, "down"), "POST", result{Code: 503, Reason: "ServiceUnavailable"}},
		"forbidden":   {"RBAC loss", faultproxy.Forbid(), "GET", result{Code: 403, Reason: "Forbidden"}},
		"gone":        {"a compacted version", faultproxy.Gone(), "GET", result{Code: 410, Reason: "Expired"}},
		"too many":    {"fairness", faultproxy.TooManyRequests(2 * time.Second), "GET", result{Code: 429, Reason: "TooManyRequests"}},
		"abort":       {"the request never arrives", faultproxy.Abort(), "POST", result{Broken: true}},
		"abort body":  {"a body that breaks off is no short body", faultproxy.AbortBody(10), "GET", result{Code: 200, Broken: true}},
		"lose":        {"the write happened, the client cannot know", faultproxy.LoseResponse(), "POST", result{Broken: true, Writes: 1}},
		"lose as 504": {"the same by a gateway", faultproxy.LoseResponseAs(504), "POST", result{Code: 504, Reason: "Timeout", Writes: 1}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p, a := start(t)
			p.Add(faultproxy.Rule{Fault: tt.fault})
			response, err := do(t.Context(), p, tt.method, configMaps, `{}`)
			if err == nil && tt.want.Code == 429 && response.Header.Get("Retry-After") != "2" {
				t.Errorf("Retry-After is %q, want 2", response.Header.Get("Retry-After"))
			}
			code, body, err := read(response, err)
			got := result{Code: code, Broken: err != nil, Writes: a.writes.Load()}
			var status struct {
				Reason string `json:"reason"`
			}
			if json.Unmarshal([]byte(body), &status) == nil {
				got.Reason = status.Reason
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s: %s", tt.reason, diff)
			}
		})
	}
}

func TestHTTPLists(t *testing.T) {
	p, _ := start(t)
	rule := p.Add(faultproxy.Rule{Fault: faultproxy.EmptyList(), Match: faultproxy.Match{Verbs: []string{"list"}}})
	_, body, err := get(t, p, configMaps)
	must(t, err)
	if want := `{"apiVersion":"v1","items":[],"kind":"ConfigMapList","metadata":{"resourceVersion":"7"}}`; body != want {
		t.Errorf("got %s, want %s", body, want)
	}
	rule.Remove()
	p.Add(faultproxy.Rule{Fault: faultproxy.PartialList(1)})
	_, body, err = get(t, p, configMaps)
	must(t, err)
	if !strings.Contains(body, `"a"`) || strings.Contains(body, `"b"`) || strings.Contains(body, "more") {
		t.Errorf("got %s, want the first item only and no continue token", body)
	}
}

func TestHTTPHangAndDelay(t *testing.T) {
	p, a := start(t)
	p.Add(faultproxy.Rule{Match: faultproxy.Writes(), Fault: faultproxy.Hang()})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, _, err := read(do(ctx, p, http.MethodPost, configMaps, "{}")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a hanging request ended with %v", err)
	}
	if a.writes.Load() != 0 {
		t.Error("a hanging request reached the API server")
	}
	p.Reset()
	p.Add(faultproxy.Rule{Fault: faultproxy.Delay(150 * time.Millisecond)})
	started := time.Now()
	_, _, err := get(t, p, configMaps)
	must(t, err)
	if took := time.Since(started); took < 150*time.Millisecond {
		t.Errorf("the delayed request took %s", took)
	}
}

func TestRuleCounts(t *testing.T) {
	p, _ := start(t)
	rule := p.Add(faultproxy.Rule{Fault: faultproxy.Status(503, ""), Skip: 1, Every: 3, Times: 2})
	var failed []int
	for i := 1; i <= 12; i++ {
		code, _, err := get(t, p, configMaps)
		must(t, err)
		if code == 503 {
			failed = append(failed, i)
		}
	}
	if want := []int{4, 7}; !slices.Equal(failed, want) || rule.Hits() != 2 {
		t.Errorf("requests %v failed with %d hits, want %v", failed, rule.Hits(), want)
	}
}

func TestMatchAndCount(t *testing.T) {
	p, _ := start(t)
	requests := []struct{ method, path, verb, resource, namespace, name, subresource string }{
		{"GET", "/api/v1/configmaps?limit=5", "list", "configmaps", "", "", ""},
		{"GET", configMaps + "/x", "get", "configmaps", "default", "x", ""},
		{"GET", "/api/v1/namespaces/prod", "get", "namespaces", "", "prod", ""},
		{"PUT", "/api/v1/namespaces/prod/finalize", "update", "namespaces", "", "prod", "finalize"},
		{"POST", configMaps, "create", "configmaps", "default", "", ""},
		{"PATCH", "/apis/apps/v1/namespaces/prod/deployments/web/scale", "patch", "deployments", "prod", "web", "scale"},
		{"DELETE", "/apis/apps/v1/namespaces/prod/deployments", "deletecollection", "deployments", "prod", "", ""},
		{"DELETE", "/apis/apps/v1/namespaces/prod/deployments/web", "delete", "deployments", "prod", "web", ""},
		{"GET", "/apis/apps/v1", "get", "", "", "", ""},
	}
	for _, r := range requests {
		_, _, err := read(do(t.Context(), p, r.method, r.path, ""))
		must(t, err)
	}
	for i, got := range p.Requests(faultproxy.Match{}) {
		want := requests[i]
		if got.Verb != want.verb || got.Resource != want.resource || got.Namespace != want.namespace || got.Name != want.name || got.Subresource != want.subresource {
			t.Errorf("%s %s was understood as %+v", want.method, want.path, got)
		}
		if got.Status == 0 {
			t.Errorf("%s %s has no status", want.method, want.path)
		}
	}
	for want, m := range map[int]faultproxy.Match{
		5: faultproxy.Writes(), // create, update, patch and two deletes
		3: {Resource: "deployments.apps"},
		0: {Resource: "deployments.batch"},
		1: {Query: map[string]string{"limit": "*"}},
		4: {Path: "/apis/*"},
		2: {Namespace: "prod", Name: "web"},
	} {
		if got := p.Count(m); got != want {
			t.Errorf("%d requests match %+v, want %d", got, m, want)
		}
	}
	p.Forget()
	if got := p.Count(faultproxy.Match{}); got != 0 {
		t.Errorf("%d requests are remembered after Forget", got)
	}
}

// watch opens a watch; next gives one frame's type/name at a time, or how it
// ended. It waits long for anything but an expected silence.
func watch(t *testing.T, p *faultproxy.HTTP) (next func(want string) string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	response, err := do(ctx, p, http.MethodGet, configMaps+"?watch=true", "")
	must(t, err)
	t.Cleanup(func() { _ = response.Body.Close() })
	decoder := json.NewDecoder(response.Body)
	frames := make(chan string, 100)
	go func() {
		for {
			var e struct {
				Type   string
				Object struct {
					Code     int
					Metadata struct{ Name string }
				}
			}
			switch err := decoder.Decode(&e); {
			case errors.Is(err, io.EOF):
				frames <- "end"
				return
			case err != nil:
				frames <- "broken"
				return
			case e.Type == "ERROR":
				frames <- fmt.Sprintf("ERROR/%d", e.Object.Code)
			default:
				frames <- e.Type + "/" + e.Object.Metadata.Name
			}
		}
	}()
	return func(want string) string {
		patience := 10 * time.Second
		if want == "silence" {
			patience = 200 * time.Millisecond
		}
		select {
		case f := <-frames:
			return f
		case <-time.After(patience):
			return "silence"
		}
	}
}

func frame(kind, name string) string {
	return fmt.Sprintf(`{"type":%q,"object":{"metadata":{"name":%q,"namespace":"default"}}}`+"\n", kind, name)
}

func TestWatchFaults(t *testing.T) {
	all := []string{"ADDED/1", "ADDED/2", "BOOKMARK/", "MODIFIED/3", "DELETED/4"}
	bookmarks := faultproxy.Match{Events: []string{"BOOKMARK"}}
	tests := map[string]struct {
		rule faultproxy.Rule
		want []string
	}{
		"none":            {faultproxy.Rule{Fault: faultproxy.DropEvent(), Match: faultproxy.Match{Resource: "pods"}}, append(slices.Clone(all), "silence")},
		"drop by second":  {faultproxy.Rule{Fault: faultproxy.DropEvent(), Every: 2}, []string{"ADDED/1", "BOOKMARK/", "MODIFIED/3", "silence"}},
		"drop by type":    {faultproxy.Rule{Fault: faultproxy.DropEvent(), Match: faultproxy.Match{Events: []string{"DELETED"}}}, append(slices.Clone(all[:4]), "silence")},
		"drop by name":    {faultproxy.Rule{Fault: faultproxy.DropEvent(), Match: faultproxy.Match{Name: "1", Namespace: "default"}}, append(slices.Clone(all[1:]), "silence")},
		"no bookmarks":    {faultproxy.Rule{Fault: faultproxy.DropEvent(), Match: bookmarks}, []string{"ADDED/1", "ADDED/2", "MODIFIED/3", "DELETED/4", "silence"}},
		"duplicate":       {faultproxy.Rule{Fault: faultproxy.DuplicateEvent(), Times: 1}, append([]string{"ADDED/1"}, append(slices.Clone(all), "silence")...)},
		"replay":          {faultproxy.Rule{Fault: faultproxy.ReplayEvent(1), Skip: 1, Times: 1}, []string{"ADDED/1", "ADDED/2", "ADDED/1", "BOOKMARK/", "MODIFIED/3", "DELETED/4", "silence"}},
		"nothing before":  {faultproxy.Rule{Fault: faultproxy.ReplayEvent(5), Times: 1}, append(slices.Clone(all), "silence")},
		"delay":           {faultproxy.Rule{Fault: faultproxy.DelayEvent(1500 * time.Millisecond), Skip: 3, Times: 1}, append(slices.Clone(all[:4]), "silence", "DELETED/4")},
		"cut mid-event":   {faultproxy.Rule{Fault: faultproxy.CutEvent(), Skip: 1}, []string{"ADDED/1", "broken"}},
		"hang":            {faultproxy.Rule{Fault: faultproxy.HangWatch(), Skip: 1}, []string{"ADDED/1", "silence"}},
		"end":             {faultproxy.Rule{Fault: faultproxy.EndWatch(), Skip: 1}, []string{"ADDED/1", "end"}},
		"gone":            {faultproxy.Rule{Fault: faultproxy.ErrorEvent(410, "too old"), Skip: 1}, []string{"ADDED/1", "ERROR/410", "end"}},
		"request refused": {faultproxy.Rule{Fault: faultproxy.AbortBody(0), Match: faultproxy.Match{Verbs: []string{"watch"}}}, []string{"broken"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p, a := start(t)
			p.Add(tt.rule)
			next := watch(t, p)
			go func() {
				for _, e := range all {
					kind, object, _ := strings.Cut(e, "/")
					select {
					case a.events <- frame(kind, object):
					case <-t.Context().Done():
						return
					}
				}
			}()
			var got []string
			for _, want := range tt.want {
				got = append(got, next(want))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWatchesEndAtOnce(t *testing.T) {
	p, _ := start(t)
	next := watch(t, p)
	if got := p.Watches(faultproxy.Match{Resource: "configmaps"}); got != 1 {
		t.Errorf("%d open watches, want 1", got)
	}
	if got := p.EndWatches(faultproxy.Match{Resource: "pods"}); got != 0 {
		t.Errorf("%d watches of pods were ended, there is none", got)
	}
	if got := p.EndWatches(faultproxy.Match{Resource: "configmaps"}); got != 1 {
		t.Errorf("%d watches were ended, want 1", got)
	}
	if got := next("end"); got != "end" {
		t.Errorf("the watch met %s, want its end", got)
	}
	next = watch(t, p)
	p.Cut()
	if got := next("broken"); got != "broken" {
		t.Errorf("the watch met %s, want it broken", got)
	}
	if code, _, err := get(t, p, configMaps); code != 200 || err != nil {
		t.Errorf("after the cut: %d %v", code, err)
	}
}

func TestBrokenUpstreamIsBroken(t *testing.T) {
	p, a := start(t)
	next := watch(t, p)
	a.server.CloseClientConnections()
	if got := next("broken"); got != "broken" {
		t.Errorf("the watch met %s, want it broken", got)
	}
	a.server.Close()
	if _, _, err := get(t, p, configMaps); err == nil {
		t.Error("a request to an API server that is down was answered")
	}
}

func TestStaleReplica(t *testing.T) {
	var body atomic.Value
	body.Store("old")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, body.Load().(string))
	}))
	defer server.Close()
	p := faultproxy.StartHTTP(t, &rest.Config{Host: server.URL})
	stale, err := p.StaleReplica(t.Context(), configMaps)
	must(t, err)
	body.Store("new")
	for query, want := range map[string]string{
		"":                   "new",
		"?resourceVersion=0": "old",
		"?resourceVersion=0&resourceVersionMatch=NotOlderThan": "old",
		"?resourceVersion=5": "new",
		"?limit=500":         "new",
	} {
		if _, got, err := get(t, p, configMaps+query); got != want || err != nil {
			t.Errorf("%s: got %q (%v), want %q", query, got, err, want)
		}
	}
	if stale.Hits() != 2 {
		t.Errorf("%d old answers, want 2", stale.Hits())
	}
	stale.Remove()
	if _, got, err := get(t, p, configMaps+"?resourceVersion=0"); got != "new" || err != nil {
		t.Errorf("after the replica caught up: %q (%v)", got, err)
	}
}

func TestSetTargetLeadsElsewhere(t *testing.T) {
	p, first := start(t)
	second := startAPI(t)
	must(t, p.SetTarget(&rest.Config{Host: second.server.URL}))
	_, _, err := read(do(t.Context(), p, http.MethodPost, configMaps, "{}"))
	must(t, err)
	if first.writes.Load() != 0 || second.writes.Load() != 1 {
		t.Errorf("writes: %d at the first target, %d at the second, want 0 and 1", first.writes.Load(), second.writes.Load())
	}
	if err := p.SetTarget(&rest.Config{Host: "nonsense"}); err == nil {
		t.Error("an address without a host was taken")
	}
}
