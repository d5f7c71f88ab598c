package eventslistener

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/live"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/internal/testcluster"
	"github.com/afterimage-dr/afterimage/internal/testenv"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// shared is the cluster of all tests that do no harm to it.
var shared struct {
	sync.Once
	cluster *testcluster.Cluster
	err     error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.cluster != nil {
		if err := shared.cluster.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stopping the source:", err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// source is the shared cluster.
func source(t testing.TB) *testcluster.Cluster {
	t.Helper()
	testenv.Assets(t) // skips in short mode
	shared.Do(func() {
		shared.cluster, shared.err = testcluster.Start(context.Background(), testcluster.Config{Name: "source"})
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.cluster
}

var (
	configMaps = v1alpha1.Resource{Version: "v1", Resource: "configmaps"}
	secrets    = v1alpha1.Resource{Version: "v1", Resource: "secrets"}
)

const testPartitions = 3

// world is a log, a memory and a way to the source.
type world struct {
	t         testing.TB
	dir       string
	cluster   *testcluster.Cluster
	broker    *stream.Embedded
	log       *stream.Client
	store     *state.Store
	topics    topology.Topics
	settings  *settings.Live
	transport *faults
	kube      *kube.Client // for the test's own writes, without faults
	logs      *lockedBuffer
	namespace string
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// faults stands between the listener and the API server.
type faults struct {
	next http.RoundTripper
	mu   sync.Mutex
	act  func(*http.Request, http.RoundTripper) (*http.Response, error)
	seen []string
}

func (f *faults) RoundTrip(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	act := f.act
	f.seen = append(f.seen, r.Method+" "+r.URL.RequestURI())
	f.mu.Unlock()
	if act != nil {
		return act(r, f.next)
	}
	return f.next.RoundTrip(r)
}

func (f *faults) set(act func(*http.Request, http.RoundTripper) (*http.Response, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.act = act
}

func newWorld(t testing.TB, cluster *testcluster.Cluster, resources ...v1alpha1.Resource) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), cluster: cluster, transport: &faults{}, logs: &lockedBuffer{}}
	name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	w.namespace = name + "-" + fmt.Sprint(time.Now().UnixNano()%1e6)
	w.topics = topology.TopicsFor("dr", name)
	s := settings.Settings{Source: settings.Asset{Name: "source", Namespace: "dr"}}
	s.Config.Namespace, s.Config.Name = "dr", name
	s.Config.Replication.Resources = resources
	w.settings = live.New(s)
	var err error
	if w.broker, err = stream.StartEmbedded(w.dir + "/log"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.broker.Close() })
	if w.log, err = stream.NewClient(w.broker.Dial(), "test"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.log.Close)
	w.ensure()
	w.openState()
	if w.kube, err = kube.New(cluster.RESTConfig()); err != nil {
		t.Fatal(err)
	}
	w.create(kube.Namespaces, "", object1(w.namespace, nil))
	t.Cleanup(func() {
		if t.Failed() {
			path := "/tmp/eventslistener-" + name + ".log"
			_ = os.WriteFile(path, []byte(w.logs.String()), 0o600)
			t.Logf("log lines are in %s", path)
		}
	})
	return w
}

func (w *world) ensure() {
	w.t.Helper()
	for _, topic := range w.topics.All() {
		n := int32(testPartitions)
		if topic == w.topics.Requests {
			n = 1
		}
		s := stream.TopicSettings{Partitions: n, Replication: -1, Configs: map[string]string{"cleanup.policy": "compact"}}
		if _, err := w.log.Ensure(w.t.Context(), topic, s); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) openState() {
	w.t.Helper()
	var err error
	if w.store, err = state.Open(w.dir + "/state"); err != nil {
		w.t.Fatal(err)
	}
	store := w.store
	w.t.Cleanup(func() { _ = store.Close() })
}

// wipe loses the disk.
func (w *world) wipe() {
	w.t.Helper()
	if err := w.store.Close(); err != nil {
		w.t.Fatal(err)
	}
	if err := os.RemoveAll(w.dir + "/state"); err != nil {
		w.t.Fatal(err)
	}
	w.openState()
}

// running is a listener that runs.
type running struct {
	*Listener
	w    *world
	stop func()
}

// start runs a listener until stop or the end of the test.
func (w *world) start(change ...func(*Options)) *running {
	w.t.Helper()
	source, err := kube.New(w.cluster.RESTConfig(), kube.WithTransport(func(next http.RoundTripper) http.RoundTripper {
		w.transport.mu.Lock()
		w.transport.next = next
		w.transport.mu.Unlock()
		return w.transport
	}))
	if err != nil {
		w.t.Fatal(err)
	}
	o := Options{
		Settings: w.settings, Log: w.log, Topics: w.topics, State: w.store.Stage(Component), Source: source,
		Logger: logging.New(w.logs, slog.LevelInfo, Component, ""), InstanceID: "a", Incarnation: fmt.Sprintf("a-%d", time.Now().UnixNano()),
		Session: 3 * time.Second, Heartbeat: 300 * time.Millisecond, SecondLook: 200 * time.Millisecond, Retry: 300 * time.Millisecond,
		MaxUnapplied: -1, CommitInterval: 20 * time.Millisecond,
	}
	for _, c := range change {
		c(&o)
	}
	r := &running{Listener: New(o), w: w}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.Run(ctx); err != nil {
			w.t.Errorf("Run: %v", err)
		}
	}()
	var once sync.Once
	r.stop = func() { once.Do(func() { cancel(); <-done }) }
	w.t.Cleanup(r.stop)
	return r
}

// records are all records of changes, by partition and offset.
func (w *world) records() []topology.Record {
	w.t.Helper()
	var all []topology.Record
	ps, err := w.log.Partitions(w.t.Context(), w.topics.Changes)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range ps {
		err := w.log.Read(w.t.Context(), p.Topic, p.Number, p.Start, p.End, func(k *kgo.Record) error {
			r, err := topology.Decode(k)
			if err != nil {
				return err
			}
			all = append(all, r)
			return nil
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
	return all
}

// of are the object records of a name in the test's namespace, in order.
func (w *world) of(resource, name string) []topology.Record {
	w.t.Helper()
	return w.ofKey(topology.Key{Version: "v1", Resource: resource, Namespace: w.namespace, Name: name})
}

func (w *world) ofKey(key topology.Key) []topology.Record {
	w.t.Helper()
	return slices.DeleteFunc(w.records(), func(r topology.Record) bool { return r.Key != key.String() })
}

func (w *world) ofKind(kind topology.Kind) []topology.Record {
	w.t.Helper()
	return slices.DeleteFunc(w.records(), func(r topology.Record) bool { return r.Kind != kind })
}

func ops(rs []topology.Record) string {
	var s []string
	for _, r := range rs {
		s = append(s, string(r.Op))
	}
	return strings.Join(s, " ")
}

// eventually waits for a condition.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("never: %s", what)
		}
	}
}

// becomes waits for the operations logged of an object.
func (w *world) becomes(resource, name, want string) {
	w.t.Helper()
	var got string
	for deadline := time.Now().Add(30 * time.Second); got != want; time.Sleep(20 * time.Millisecond) {
		if got = ops(w.of(resource, name)); got != want && time.Now().After(deadline) {
			w.t.Fatalf("%s %s: logged %q, want %q", resource, name, got, want)
		}
	}
}

// listed waits until every covered resource was listed n times in all partitions.
func (w *world) listed(resources ...string) {
	w.t.Helper()
	before := map[string]int{}
	for _, r := range w.ofKind(topology.Listed) {
		before[r.Key]++
	}
	w.eventually("listed again", func() bool {
		now := map[string]int{}
		for _, r := range w.ofKind(topology.Listed) {
			now[r.Key]++
		}
		for _, r := range resources {
			k := topology.ControlKey(topology.Listed, r)
			if now[k] < before[k]+testPartitions {
				return false
			}
		}
		return true
	})
}

func (w *world) resource(e v1alpha1.Resource) kube.Resource {
	w.t.Helper()
	r, err := w.kube.Resolve(w.t.Context(), e.Group, e.Version, e.Resource)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) create(r kube.Resource, namespace string, body []byte) []byte {
	w.t.Helper()
	b, err := w.kube.Create(w.t.Context(), r, namespace, body, "test")
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

func (w *world) configMap(name string, data map[string]string) {
	w.t.Helper()
	w.create(w.resource(configMaps), w.namespace, object1(name, data))
}

func (w *world) key(resource, name string) topology.Key {
	return topology.Key{Version: "v1", Resource: resource, Namespace: w.namespace, Name: name}
}

func (w *world) patch(e v1alpha1.Resource, key topology.Key, patch string) {
	w.t.Helper()
	if _, err := w.kube.JSONPatch(w.t.Context(), w.resource(e), key, []byte(patch), "test"); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) delete(e v1alpha1.Resource, name string) {
	w.t.Helper()
	if err := w.kube.Delete(w.t.Context(), w.resource(e), w.key(e.Resource, name), kube.Preconditions{}); err != nil {
		w.t.Fatal(err)
	}
}

// object1 is an object with data.
func object1(name string, data map[string]string) []byte {
	b, _ := json.Marshal(map[string]any{"metadata": map[string]any{"name": name}, "data": data})
	if data == nil {
		b, _ = json.Marshal(map[string]any{"metadata": map[string]any{"name": name}})
	}
	return b
}

func (r *running) status() v1alpha1.LiveSynchronizationStatus {
	var s v1alpha1.LiveSynchronizationStatus
	r.Report(&s)
	return s
}

func (r *running) condition(name string) string {
	for _, c := range r.status().Conditions {
		if c.Type == name && c.Status == "True" {
			return c.Message
		}
	}
	return ""
}
