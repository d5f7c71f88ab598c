package reconciler

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/live"
	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/internal/testenv"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

func TestMain(m *testing.M) { testenv.Main(m) }

var configMaps = kube.Resource{GroupVersionResource: schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, Kind: "ConfigMap", Namespaced: true}

// rig is a reconciler between two real clusters.
type rig struct {
	t                   *testing.T
	source, destination *kube.Client
	log                 *stream.Client
	topics              topology.Topics
	settings            *settings.Live
	owner               topology.Owner
	namespace           string
	options             Options
	// fault, if set, answers a request to the source instead of it; nil: let it pass.
	fault atomic.Pointer[func(*http.Request) *http.Response]
	// requests to the source.
	requests atomic.Int64
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func newRig(t *testing.T) *rig {
	t.Helper()
	src, dst := testenv.Pair(t)
	r := &rig{t: t, topics: topology.TopicsFor("default", "ls")}
	var err error
	r.source, err = kube.New(src.RESTConfig(), kube.WithTransport(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			r.requests.Add(1)
			if f := r.fault.Load(); f != nil {
				if resp := (*f)(req); resp != nil {
					resp.Request = req
					return resp, nil
				}
			}
			return next.RoundTrip(req)
		})
	}))
	r.must(err)
	r.destination, err = kube.New(dst.RESTConfig())
	r.must(err)
	uid, err := r.source.ClusterUID(t.Context())
	r.must(err)
	// The clusters are shared: an owner for each test.
	name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	r.owner = topology.Owner{LiveSynchronization: "default/" + name, SourceUID: uid}
	r.namespace = fmt.Sprintf("reconciler-%d", time.Now().UnixNano())
	for _, c := range []*kube.Client{r.source, r.destination} {
		_, err := c.Create(t.Context(), kube.Namespaces, "", fmt.Appendf(nil, `{"metadata":{"name":%q}}`, r.namespace), "test")
		r.must(err)
	}
	r.startLog()
	r.settings = live.New(settings.Settings{
		ResyncPeriod: time.Hour,
		Config: topology.Config{Namespace: "default", Name: name, Replication: v1alpha1.Replication{
			Resources: []v1alpha1.Resource{{Version: "v1", Resource: "ConfigMap"}, {Group: "no.such", Version: "v1", Resource: "things"}},
		}},
	})
	r.options = Options{
		Settings: r.settings, Log: r.log, Topics: r.topics, InstanceID: "i", Incarnation: "test-1", Source: r.source, Destination: r.destination,
		StartDelay: time.Millisecond, Settle: 50 * time.Millisecond, TopicPoll: 50 * time.Millisecond, Retry: 50 * time.Millisecond, RetryMax: 200 * time.Millisecond, PageSize: 3,
	}
	return r
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) startLog() {
	r.t.Helper()
	broker, err := stream.StartEmbedded(r.t.TempDir())
	r.must(err)
	r.t.Cleanup(func() { _ = broker.Close() })
	r.log, err = stream.NewClient(broker.Dial(), "test")
	r.must(err)
	r.t.Cleanup(r.log.Close)
	for topic, n := range map[string]int32{r.topics.Changes: 3, r.topics.Requests: 1} {
		_, err := r.log.Ensure(r.t.Context(), topic, stream.TopicSettings{Partitions: n, Replication: -1, Configs: map[string]string{"cleanup.policy": "compact"}})
		r.must(err)
	}
}

// put creates a ConfigMap; of the destination, with the marks of an owner unless
// they are changed.
func (r *rig) put(c *kube.Client, name string, change func(annotations map[string]string)) {
	r.t.Helper()
	meta := map[string]any{"name": name, "namespace": r.namespace}
	if c == r.destination {
		a := map[string]string{
			topology.LiveSynchronizationAnnotation: r.owner.LiveSynchronization,
			topology.SourceClusterAnnotation:       r.owner.SourceUID,
			topology.KeyAnnotation:                 r.key(name),
		}
		if change != nil {
			change(a)
		}
		meta["annotations"] = a
		owner, _ := topology.OwnerIn(a)
		meta["labels"] = map[string]string{topology.OwnerLabel: owner.Hash()}
		if a["unlabelled"] != "" {
			delete(meta, "labels")
		}
	}
	_, err := c.Create(r.t.Context(), configMaps, r.namespace, mustJSON(map[string]any{"metadata": meta}), "test")
	r.must(err)
}

func (r *rig) key(name string) string { return "core/v1/configmaps/" + r.namespace + "/" + name }

// run starts the reconciler and returns it; it ends with the test.
func (r *rig) run() *Reconciler {
	r.t.Helper()
	rec := New(r.options)
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan error, 1)
	go func() { done <- rec.Run(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("Run: %v", err)
		}
	})
	return rec
}

// eventually waits for a condition.
func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("not in 30 s: %s", what)
		}
	}
}

// requested are the names asked for so far, in order.
func (r *rig) requested() []string {
	r.t.Helper()
	p, err := r.log.Bounds(r.t.Context(), r.topics.Requests, 0)
	r.must(err)
	var names []string
	r.must(r.log.Read(r.t.Context(), r.topics.Requests, 0, p.Start, p.End, func(k *kgo.Record) error {
		rec, err := topology.Decode(k)
		r.must(err)
		name, ok := strings.CutPrefix(rec.Key, r.key(""))
		if !ok || rec.Kind != topology.Object || rec.Op != topology.Update || rec.Reason != Reason || rec.Writer != "test-1" || rec.Body != nil {
			r.t.Errorf("a request of another shape: %+v", rec)
		}
		names = append(names, name)
		return nil
	}))
	return names
}

func (r *rig) wantRequested(want ...string) {
	r.t.Helper()
	if diff := cmp.Diff(want, r.requested()); diff != "" {
		r.t.Errorf("requested (-want +got):\n%s", diff)
	}
}

func comparisons(rec *Reconciler, n int) func() bool {
	return func() bool { return rec.Counters().Comparisons >= n }
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
