package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/afterimage-dr/afterimage/topology"
)

var (
	configMaps = Resource{GroupVersionResource: schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, Kind: "ConfigMap", Namespaced: true}
	cmKey      = topology.Key{Version: "v1", Resource: "configmaps", Namespace: "ns", Name: "a"}
)

// serve returns a client of a server that answers every request with handle.
func serve(t *testing.T, handle http.HandlerFunc, opts ...Option) *Client {
	t.Helper()
	s := httptest.NewServer(handle)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	c, err := New(&rest.Config{Host: s.URL}, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// notServed: nothing may be concluded about the object.
func notServed(err error) bool { return errors.Is(err, ErrNotServed) && !apierrors.IsNotFound(err) }

func TestErrors(t *testing.T) {
	status := func(code int, reason, details string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"m","reason":%q,"code":%d,"details":{%s}}`, reason, code, details)
		}
	}
	plain := func(code int, body string, headers ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
			w.WriteHeader(code)
			io.WriteString(w, body)
		}
	}
	for name, tc := range map[string]struct {
		handle      http.HandlerFunc
		is          func(error) bool
		unavailable bool
		retryAfter  time.Duration
	}{
		"not found":          {handle: status(404, "NotFound", `"name":"a","kind":"configmaps"`), is: apierrors.IsNotFound},
		"not served":         {handle: status(404, "NotFound", ""), is: notServed},
		"of another object":  {handle: status(404, "NotFound", `"name":"b","kind":"configmaps"`), is: notServed},
		"conflict":           {handle: status(409, "Conflict", ""), is: apierrors.IsConflict},
		"already exists":     {handle: status(409, "AlreadyExists", ""), is: apierrors.IsAlreadyExists},
		"invalid":            {handle: status(422, "Invalid", ""), is: apierrors.IsInvalid},
		"forbidden":          {handle: status(403, "Forbidden", ""), is: apierrors.IsForbidden},
		"expired":            {handle: status(410, "Expired", ""), is: apierrors.IsResourceExpired},
		"unauthorized":       {handle: status(401, "Unauthorized", ""), is: apierrors.IsUnauthorized, unavailable: true},
		"unauthorized, text": {handle: plain(401, "Unauthorized"), is: apierrors.IsUnauthorized, unavailable: true},
		"webhook died":       {handle: status(500, "InternalError", ""), is: apierrors.IsInternalError},
		"API is down":        {handle: status(503, "ServiceUnavailable", ""), is: apierrors.IsServiceUnavailable},
		"too many requests": {handle: status(429, "TooManyRequests", `"retryAfterSeconds":3`), is: apierrors.IsTooManyRequests,
			retryAfter: 3 * time.Second},
		"too many requests, text": {handle: plain(429, "slow down", "Retry-After", "7"), is: apierrors.IsTooManyRequests,
			retryAfter: 7 * time.Second},
		"bad gateway":     {handle: plain(502, "<html>"), is: isAnswer, unavailable: true},
		"no servers":      {handle: plain(503, "<html>", "Retry-After", "2"), is: isAnswer, unavailable: true, retryAfter: 2 * time.Second},
		"redirect":        {handle: plain(302, "", "Location", "/elsewhere"), is: isAnswer},
		"text not found":  {handle: plain(404, "404 page not found"), is: notServed},
		"connection cut":  {handle: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, is: Unavailable, unavailable: true},
		"cut in the body": {handle: plain(200, "{", "Content-Length", "100"), is: Unavailable, unavailable: true},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := serve(t, tc.handle).Get(t.Context(), configMaps, cmKey)
			if err == nil || !tc.is(err) {
				t.Fatalf("got error %#v of another class", err)
			}
			if got := Unavailable(err); got != tc.unavailable {
				t.Errorf("Unavailable(%v) = %v, want %v", err, got, tc.unavailable)
			}
			if got, _ := RetryAfter(err); got != tc.retryAfter {
				t.Errorf("RetryAfter(%v) = %v, want %v", err, got, tc.retryAfter)
			}
		})
	}
}

func TestConnectionRefusedIsUnavailable(t *testing.T) {
	c, err := New(&rest.Config{Host: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), configMaps, cmKey); !Unavailable(err) {
		t.Errorf("Unavailable(%v) = false", err)
	}
}

func TestTimeout(t *testing.T) {
	for name, handle := range map[string]http.HandlerFunc{
		"before the answer": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"within the answer": func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, `{"kind":`)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := serve(t, handle, WithTimeout(50*time.Millisecond))
			if _, err := c.Get(t.Context(), configMaps, cmKey); !Unavailable(err) || !errors.Is(err, errTimeout) {
				t.Errorf("got %v, want a timeout that is Unavailable", err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			// The caller's own deadline says nothing about the server.
			if _, err := c.WithTimeout(time.Minute).Get(ctx, configMaps, cmKey); Unavailable(err) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want the context's error, not Unavailable", err)
			}
		})
	}
}

func TestListPageRefusesWhatIsNoList(t *testing.T) {
	for name, body := range map[string]string{
		"html":                 `<html></html>`,
		"an object":            `{"kind":"ConfigMap","metadata":{"resourceVersion":"1"}}`,
		"status success":       `{"kind":"Status","status":"Success","metadata":{}}`,
		"no resourceVersion":   `{"kind":"ConfigMapList","metadata":{},"items":[]}`,
		"cut":                  `{"kind":"ConfigMapList","metadata":{"resourceVersion":"1"},"items":[{"a":1}`,
		"an item is no object": `{"kind":"ConfigMapList","metadata":{"resourceVersion":"1"},"items":[1]}`,
	} {
		t.Run(name, func(t *testing.T) {
			c := serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) })
			if page, err := c.ListPage(t.Context(), configMaps, ListOptions{}); err == nil {
				t.Errorf("took it for %+v", page)
			}
		})
	}
}

func TestListItemsGetTheirType(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"9","continue":"c","remainingItemCount":4},`+
			`"items":[{"metadata":{"name":"a"}},{"apiVersion":"x/v1","kind":"Y","metadata":{}}]}`)
	})
	page, err := c.ListPage(t.Context(), configMaps, ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(page.Items[0]), `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := string(page.Items[1]), `{"apiVersion":"x/v1","kind":"Y","metadata":{}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if page.ResourceVersion != "9" || page.Continue != "c" || page.Remaining != 4 {
		t.Errorf("got page %+v", page)
	}
}

// stream serves a watch that writes the parts and then does as end says.
func stream(t *testing.T, end func(*http.Request), parts ...string) *Watch {
	t.Helper()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for _, p := range parts {
			io.WriteString(w, p)
			w.(http.Flusher).Flush()
			time.Sleep(2 * time.Millisecond)
		}
		if len(parts) == 0 {
			w.(http.Flusher).Flush()
		}
		end(r)
	})
	w, err := c.Watch(t.Context(), configMaps, "", "1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

const added = `{"type":"ADDED","object":{"kind":"ConfigMap","metadata":{"name":"a"}}}`

func TestWatchFrames(t *testing.T) {
	finish := func(*http.Request) {}
	abort := func(*http.Request) { panic(http.ErrAbortHandler) }
	big := `{"type":"MODIFIED","object":{"data":"` + strings.Repeat("x", 200_000) + `"}}`
	for name, tc := range map[string]struct {
		end    func(*http.Request)
		parts  []string
		events int
		check  func(error) bool
	}{
		"closed normally":   {finish, []string{added + "\n", added + "\n"}, 2, func(err error) bool { return err == io.EOF }},
		"nothing at all":    {finish, nil, 0, func(err error) bool { return err == io.EOF }},
		"in pieces":         {finish, []string{added[:10], added[10:], "\n\n", added + "\n" + added[:5], added[5:] + "\n"}, 3, func(err error) bool { return err == io.EOF }},
		"over lines":        {finish, []string{strings.ReplaceAll(added, ",", ",\n") + "\n"}, 1, func(err error) bool { return err == io.EOF }},
		"larger than a buf": {finish, []string{big + "\n", added + "\n"}, 2, func(err error) bool { return err == io.EOF }},
		"cut in an event":   {abort, []string{added + "\n", added[:30]}, 1, Unavailable},
		"cut after one":     {abort, []string{added + "\n"}, 1, Unavailable},
		// A proxy that ends its answer properly in the middle of an event.
		"ended in an event":      {finish, []string{added + "\n", added[:30]}, 1, Unavailable},
		"ended before a newline": {finish, []string{added}, 0, Unavailable},
		"html":                   {finish, []string{"<html>\n"}, 0, Unavailable},
		"two in a frame":         {finish, []string{added + added + "\n"}, 0, Unavailable},
		"unknown type":           {finish, []string{`{"type":"SURPRISE","object":{}}` + "\n"}, 0, Unavailable},
		"no object":              {finish, []string{`{"type":"ADDED"}` + "\n"}, 0, Unavailable},
		"error without a status": {finish, []string{`{"type":"ERROR","object":{}}` + "\n"}, 0, Unavailable},
		"expired": {finish, []string{added + "\n", `{"type":"ERROR","object":{"kind":"Status","status":"Failure","reason":"Expired","code":410}}` + "\n"}, 1,
			apierrors.IsResourceExpired},
		"gone": {finish, []string{`{"type":"ERROR","object":{"kind":"Status","status":"Failure","reason":"Gone","code":410}}` + "\n"}, 0, apierrors.IsGone},
	} {
		t.Run(name, func(t *testing.T) {
			w := stream(t, tc.end, tc.parts...)
			for i := range tc.events {
				if ev, err := w.Next(); err != nil || len(ev.Object) == 0 {
					t.Fatalf("event %d: %v, %v", i, ev, err)
				}
			}
			if ev, err := w.Next(); err == nil || !tc.check(err) {
				t.Errorf("after %d events got %s, error %v", tc.events, ev.Object, err)
			}
		})
	}
}

func TestWatchHangs(t *testing.T) {
	hang := func(r *http.Request) { <-r.Context().Done() }
	t.Run("Close wakes Next", func(t *testing.T) {
		w := stream(t, hang, added+"\n", added[:20])
		if _, err := w.Next(); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(60*time.Millisecond, func() {
			if w.Idle() < 50*time.Millisecond {
				t.Errorf("a silent watch says it was idle for %v", w.Idle())
			}
			w.Close()
		})
		if _, err := w.Next(); !errors.Is(err, context.Canceled) || Unavailable(err) {
			t.Errorf("got %v, want context.Canceled", err)
		}
	})
	t.Run("the context wakes Next", func(t *testing.T) {
		c := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			hang(r)
		})
		ctx, cancel := context.WithCancelCause(t.Context())
		w, err := c.Watch(ctx, configMaps, "", "1")
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		cause := errors.New("no progress")
		time.AfterFunc(20*time.Millisecond, func() { cancel(cause) })
		if _, err := w.Next(); err != cause {
			t.Errorf("got %v, want the cause of the context", err)
		}
	})
	t.Run("before it is accepted", func(t *testing.T) {
		c := serve(t, func(_ http.ResponseWriter, r *http.Request) { hang(r) }, WithTimeout(30*time.Millisecond))
		if _, err := c.Watch(t.Context(), configMaps, "", "1"); !Unavailable(err) || !errors.Is(err, errTimeout) {
			t.Errorf("got %v, want a timeout", err)
		}
	})
	t.Run("the timeout ends with acceptance", func(t *testing.T) {
		c := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			time.Sleep(150 * time.Millisecond)
			io.WriteString(w, added+"\n")
		}, WithTimeout(50*time.Millisecond))
		w, err := c.Watch(t.Context(), configMaps, "", "1")
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		if _, err := w.Next(); err != nil {
			t.Errorf("the watch was ended by the timeout of requests: %v", err)
		}
	})
}

func TestRequestLines(t *testing.T) {
	var got string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = strings.TrimSpace(r.Method + " " + r.URL.RequestURI() + " " + r.Header.Get("Content-Type") + " " + string(body))
		io.WriteString(w, `{}`)
	})
	deployments := Resource{GroupVersionResource: schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}}
	key := topology.Key{Group: "apps", Version: "v1", Resource: "deployments", Namespace: "ns", Name: "a:b"}
	for want, call := range map[string]func() error{
		"GET /apis/apps/v1/namespaces/ns/deployments/a:b": func() error { _, err := c.Get(t.Context(), deployments, key); return err },
		"GET /api/v1/namespaces/x": func() error {
			_, err := c.Get(t.Context(), Namespaces, topology.Key{Version: "v1", Resource: "namespaces", Name: "x"})
			return err
		},
		"POST /api/v1/namespaces/ns/configmaps?fieldManager=m application/json B": func() error {
			_, err := c.Create(t.Context(), configMaps, "ns", []byte("B"), "m")
			return err
		},
		"PATCH /apis/apps/v1/namespaces/ns/deployments/a:b?fieldManager=m&force=true application/apply-patch+yaml B": func() error {
			_, err := c.Apply(t.Context(), deployments, key, []byte("B"), "m")
			return err
		},
		"PATCH /apis/apps/v1/namespaces/ns/deployments/a:b?fieldManager=m application/json-patch+json B": func() error {
			_, err := c.JSONPatch(t.Context(), deployments, key, []byte("B"), "m")
			return err
		},
		`DELETE /apis/apps/v1/namespaces/ns/deployments/a:b application/json {"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Background","preconditions":{"uid":"u","resourceVersion":"3"}}`: func() error {
			return c.Delete(t.Context(), deployments, key, Preconditions{UID: "u", ResourceVersion: "3"})
		},
	} {
		if err := call(); err != nil || got != want {
			t.Errorf("sent %s (%v)\nwant %s", got, err, want)
		}
	}
}
