package eventslistener

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// otherCluster answers as another cluster would whose resourceVersions are far
// ahead, and which has an object of the same name.
func (w *world) otherCluster(list bool) func(*http.Request, http.RoundTripper) (*http.Response, error) {
	event := fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":%q,"uid":"other","resourceVersion":"900000001"},"data":{"a":"elsewhere"}}`, w.namespace)
	return func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/namespaces/kube-system"):
			return answer(r, 200, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"kube-system","uid":"other-cluster","resourceVersion":"1"}}`), nil
		case isWatch(r, "configmaps"):
			body, closed := io.Pipe()
			go func() {
				if !list {
					_, _ = fmt.Fprintf(closed, `{"type":"MODIFIED","object":%s}`+"\n", event)
				}
				<-r.Context().Done()
				_ = closed.Close()
			}()
			resp := answer(r, 200, "")
			resp.Body, resp.ContentLength = body, -1
			return resp, nil
		case isList(r, "configmaps") && r.URL.Query().Get("limit") == "1":
			return answer(r, 200, `{"apiVersion":"v1","kind":"ConfigMapList","metadata":{"resourceVersion":"900000000"},"items":[]}`), nil
		case isList(r, "configmaps"):
			return answer(r, 200, `{"apiVersion":"v1","kind":"ConfigMapList","metadata":{"resourceVersion":"900000002"},"items":[`+event+`]}`), nil
		}
		return next.RoundTrip(r)
	}
}

// The kubeconfig may lead to another cluster at any time. Nothing of that one
// may get into the log, not even until the next heartbeat looks.
func TestNothingOfAnotherClusterIsLogged(t *testing.T) {
	for name, c := range map[string]struct {
		list bool
		turn func(*life)
	}{
		"listing": {true, func(lf *life) { lf.relist() }},
		"watch": {false, func(lf *life) {
			lf.mu.Lock()
			defer lf.mu.Unlock()
			lf.cut(errors.New("connection lost"))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, source(t), configMaps)
			w.configMap("a", map[string]string{"a": "1"})
			r := w.start(func(o *Options) { o.Heartbeat = time.Hour })
			w.becomes("configmaps", "a", "create")
			w.eventually("watching", func() bool {
				lf := r.current().everyLife()[0]
				lf.mu.Lock()
				defer lf.mu.Unlock()
				return lf.cut != nil && !lf.listed.IsZero()
			})
			w.transport.set(w.otherCluster(c.list))
			c.turn(r.current().everyLife()[0])
			w.eventually("halted", func() bool {
				return r.condition(ConditionSourceChanged) != "" || len(w.of("configmaps", "a")) > 1
			})
			for _, rec := range w.of("configmaps", "a") {
				if bytes.Contains(rec.Body, []byte("elsewhere")) {
					t.Fatalf("logged of another cluster: %s", rec.Body)
				}
			}
			w.transport.set(nil)
			w.patch(configMaps, w.key("configmaps", "a"), `[{"op":"replace","path":"/data/a","value":"2"}]`)
			w.becomes("configmaps", "a", "create update")
			var o struct{ Data map[string]string }
			rs := w.of("configmaps", "a")
			if err := json.Unmarshal(rs[1].Body, &o); err != nil || o.Data["a"] != "2" {
				t.Errorf("logged when the source was back: %s, %v", rs[1].Body, err)
			}
		})
	}
}
