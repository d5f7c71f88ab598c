package synchronizer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

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

const testPartitions = 3

var sharedCluster struct {
	sync.Mutex
	c *testcluster.Cluster
}

func TestMain(m *testing.M) {
	code := m.Run()
	if c := sharedCluster.c; c != nil {
		if err := c.Stop(); err != nil {
			println("stopping the cluster: " + err.Error())
		}
	}
	os.Exit(code)
}

// destination is a cluster shared by the tests; each works under names of its own.
func destination(tb testing.TB) *testcluster.Cluster {
	tb.Helper()
	testenv.Assets(tb)
	sharedCluster.Lock()
	defer sharedCluster.Unlock()
	if sharedCluster.c == nil {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		c, err := testcluster.Start(ctx, testcluster.Config{Name: "destination"})
		if err != nil {
			tb.Fatal(err)
		}
		sharedCluster.c = c
	}
	return sharedCluster.c
}

// traffic counts and disturbs the requests to the destination.
type traffic struct {
	next    http.RoundTripper
	writes  atomic.Int64 // but of the fence: Leases, and new namespaces
	disturb atomic.Pointer[func(*http.Request) (*http.Response, error)]
	after   atomic.Pointer[func(*http.Request)]
}

func (t *traffic) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet && !strings.Contains(r.URL.Path, "/leases") && r.URL.Path != "/api/v1/namespaces" {
		t.writes.Add(1)
	}
	if f := t.disturb.Load(); f != nil {
		if resp, err := (*f)(r); resp != nil || err != nil {
			return resp, err
		}
	}
	resp, err := t.next.RoundTrip(r)
	if f := t.after.Load(); f != nil {
		(*f)(r)
	}
	return resp, err
}

// env is a log, a state and a destination, and synchronizers upon them.
type env struct {
	tb      testing.TB
	dir     string
	name    string // of the LiveSynchronization and of its namespace
	source  string // confirmed to come after testSource; empty: that itself
	topics  topology.Topics
	log     *stream.Client
	writer  *stream.Writer
	store   *state.Store
	live    *settings.Live
	kube    *kube.Client // undisturbed, uncounted
	traffic *traffic
	counted *kube.Client
	rv      atomic.Int64
	opts    func(*Options)
	logs    *logLines

	sync *Synchronizer
	stop func()
}

const testSource = "11111111-2222-3333-4444-555555555555"

var names atomic.Int64

func newEnv(tb testing.TB, cluster *testcluster.Cluster) *env {
	tb.Helper()
	e := &env{tb: tb, dir: tb.TempDir(), name: fmt.Sprintf("t%d-%d", os.Getpid(), names.Add(1)), logs: &logLines{tb: tb}}
	e.topics = topology.TopicsFor("dr", e.name)
	broker, err := stream.StartEmbedded(filepath.Join(e.dir, "log"))
	must(tb, err)
	e.log, err = stream.NewClient(broker.Dial(), "test")
	must(tb, err)
	tb.Cleanup(func() { e.log.Close(); must(tb, broker.Close()) })
	for _, topic := range e.topics.All() {
		n := int32(testPartitions)
		if topic == e.topics.Requests {
			n = 1
		}
		_, err := e.log.Ensure(tb.Context(), topic, func() stream.TopicSettings { s := topicSettings(); s.Partitions = n; return s }())
		must(tb, err)
	}
	e.writer, err = e.log.Writer()
	must(tb, err)
	e.openState()
	tb.Cleanup(func() { must(tb, e.store.Close()) })
	e.live = live.New(settings.Settings{Config: topology.Config{Namespace: "dr", Name: e.name, Replication: v1alpha1.Replication{
		Resources: []v1alpha1.Resource{{Version: "v1", Resource: "configmaps"}},
	}}})
	e.kube, err = kube.New(cluster.RESTConfig())
	must(tb, err)
	e.counted, err = kube.New(cluster.RESTConfig(), kube.WithTransport(func(next http.RoundTripper) http.RoundTripper {
		e.traffic = &traffic{next: next}
		return e.traffic
	}))
	must(tb, err)
	e.rv.Store(1000)
	e.configure()
	return e
}

// configure appends the configuration, as the processor does.
func (e *env) configure() { e.tb.Helper(); e.configureAs(1) }

func (e *env) configureAs(generation int64) {
	e.tb.Helper()
	c := e.live.Load().Config
	c.SourceUID, c.Generation = testSource, generation
	if e.source != "" {
		c.SourceUID, c.FormerSourceUIDs = e.source, []string{testSource}
	}
	body, err := json.Marshal(c)
	must(e.tb, err)
	for p := range int32(testPartitions) {
		r := topology.Record{Key: topology.ControlKey(topology.Configured, ""), Kind: topology.Configured, Body: body, Writer: "test"}
		must(e.tb, e.writer.AppendSync(e.tb.Context(), r.Encode(e.topics.Desired, p)))
	}
}

func (e *env) openState() {
	var err error
	e.store, err = state.Open(filepath.Join(e.dir, "state"))
	must(e.tb, err)
}

// wipe loses the state.
func (e *env) wipe() {
	must(e.tb, e.store.Close())
	must(e.tb, os.RemoveAll(filepath.Join(e.dir, "state")))
	e.openState()
}

func (e *env) set(change func(*settings.Settings)) {
	v := e.live.Load()
	change(&v)
	e.live.Set(v)
}

// start runs a synchronizer until stop or the end of the test.
func (e *env) start() {
	e.tb.Helper()
	o := Options{
		Settings: e.live, Log: e.log, Topics: e.topics, State: e.store.Stage(Component), Destination: e.counted,
		Logger: logging.New(e.logs, slog.LevelDebug, Component, "test"), InstanceID: "test-0", Incarnation: fmt.Sprint("i", names.Add(1)),
		FenceEvery: 200 * time.Millisecond, Session: 10 * time.Second,
	}
	if e.opts != nil {
		e.opts(&o)
	}
	s := New(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	e.sync = s
	e.stop = func() {
		e.tb.Helper()
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			must(e.tb, err)
		case <-time.After(20 * time.Second):
			e.tb.Error("the synchronizer did not stop")
		}
	}
	e.tb.Cleanup(e.stop)
}

// key of a ConfigMap in the env's namespace.
func (e *env) key(name string) topology.Key {
	return topology.Key{Version: "v1", Resource: "configmaps", Namespace: e.name, Name: name}
}

// namespace creates the env's namespace at the destination.
func (e *env) namespace() {
	e.tb.Helper()
	e.put(topology.Key{Version: "v1", Resource: "namespaces", Name: e.name}, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"`+e.name+`"}}`)
}

// put creates a foreign object.
func (e *env) put(key topology.Key, body string) {
	e.tb.Helper()
	_, err := e.kube.Create(e.tb.Context(), e.resource(key), key.Namespace, []byte(body), "somebody")
	must(e.tb, err)
}

func (e *env) resource(key topology.Key) kube.Resource {
	e.tb.Helper()
	r, err := e.kube.Resolve(e.tb.Context(), key.Group, key.Version, key.Resource)
	must(e.tb, err)
	return r
}

// object is a source object's body.
func object(key topology.Key, kind string, fields map[string]any) []byte {
	o := map[string]any{"apiVersion": strings.TrimPrefix(key.Group+"/"+key.Version, "/"), "kind": kind}
	meta := map[string]any{"name": key.Name}
	if key.Namespace != "" {
		meta["namespace"] = key.Namespace
	}
	for k, v := range fields {
		if k == "metadata" {
			for mk, mv := range v.(map[string]any) {
				meta[mk] = mv
			}
			continue
		}
		o[k] = v
	}
	o["metadata"] = meta
	b, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return b
}

func data(kv ...string) map[string]any {
	m := map[string]any{}
	for i := 0; i < len(kv); i += 2 {
		m[kv[i]] = kv[i+1]
	}
	return map[string]any{"data": m}
}

// want appends a desired state and returns its record.
func (e *env) want(key topology.Key, kind string, fields map[string]any, change ...func(*topology.Record)) topology.Record {
	e.tb.Helper()
	body := object(key, kind, fields)
	return e.append(topology.Record{
		Key: key.String(), Kind: topology.Object, Op: topology.Update, UID: "uid-" + key.Name, Hash: fmt.Sprintf("h%x", sum(body)), Body: body,
	}, change...)
}

func (e *env) remove(key topology.Key, change ...func(*topology.Record)) topology.Record {
	e.tb.Helper()
	return e.append(topology.Record{Key: key.String(), Kind: topology.Object, Op: topology.Delete}, change...)
}

func sum(b []byte) (h uint64) {
	for _, c := range b {
		h = h*1099511628211 + uint64(c)
	}
	return h
}

func (e *env) append(r topology.Record, change ...func(*topology.Record)) topology.Record {
	e.tb.Helper()
	r.Version = topology.Version{Epoch: 1, RV: fmt.Sprint(e.rv.Add(1)), NamespaceRV: "7", Generation: 1}
	r.ObservedAt, r.Writer = time.Now().UTC(), "test"
	for _, c := range change {
		c(&r)
	}
	k := r.Encode(e.topics.Desired, topology.PartitionOf(r.Key, testPartitions))
	must(e.tb, e.writer.AppendSync(e.tb.Context(), k))
	r.Offset, r.Partition = k.Offset, k.Partition
	return r
}

// get returns an object of the destination; nil if there is none.
func (e *env) get(key topology.Key) map[string]any {
	e.tb.Helper()
	body, err := e.kube.Get(e.tb.Context(), e.resource(key), key)
	if apierrors.IsNotFound(err) {
		return nil
	}
	must(e.tb, err)
	var o map[string]any
	must(e.tb, json.Unmarshal(body, &o))
	return o
}

// field digs into an object.
func field(o any, path ...string) any {
	for _, p := range path {
		m, ok := o.(map[string]any)
		if !ok {
			return nil
		}
		o = m[p]
	}
	return o
}

func (e *env) eventually(what string, ok func() bool) {
	e.tb.Helper()
	e.within(15*time.Second, what, ok)
}

func (e *env) within(d time.Duration, what string, ok func() bool) {
	e.tb.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	e.tb.Fatalf("not within %v: %s\nstatus: %+v", d, what, e.status())
}

// never checks that something stays so for a while.
func (e *env) never(d time.Duration, what string, bad func() bool) {
	e.tb.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if bad() {
			e.tb.Fatalf("it happened: %s", what)
		}
	}
}

// data of a ConfigMap at the destination has the value.
func (e *env) has(name, field_, value string) func() bool {
	return func() bool { return field(e.get(e.key(name)), "data", field_) == value }
}

func (e *env) status() v1alpha1.LiveSynchronizationStatus {
	var st v1alpha1.LiveSynchronizationStatus
	e.sync.Report(&st)
	return st
}

// settled: everything appended is committed and nothing is under way.
func (e *env) settled() {
	e.tb.Helper()
	e.eventually("everything read is committed", func() bool {
		parts := e.sync.partitions()
		if len(parts) != testPartitions {
			return false
		}
		for _, p := range parts {
			b, err := e.log.Bounds(e.tb.Context(), e.topics.Desired, p.id.Number)
			must(e.tb, err)
			pos, ok, err := e.store.Stage(Component).Position(p.id)
			must(e.tb, err)
			if !ok || pos.Offset != b.End {
				return false
			}
		}
		return true
	})
}

// failing returns the reason why a key is in quarantine.
func (e *env) failing(key topology.Key) string {
	for _, f := range e.status().Failing {
		if f.Object == key.String() {
			return f.Reason
		}
	}
	return ""
}

// resync compares and waits for the end of it.
func (e *env) resync() {
	e.tb.Helper()
	time.Sleep(2 * driftGather) // so that a pass under way is not the one waited for
	before := e.sync.drift.passes.Load()
	e.sync.Resync()
	e.eventually("a resync", func() bool { return e.sync.drift.passes.Load() > before })
	e.settled()
	e.eventually("nothing under way", func() bool {
		for _, p := range e.sync.partitions() {
			p.mu.Lock()
			n := len(p.lanes)
			p.mu.Unlock()
			if n > 0 {
				return false
			}
		}
		return true
	})
}

// read returns every record of a topic.
func (e *env) read(topic string) (all []topology.Record) {
	e.tb.Helper()
	ps, err := e.log.Partitions(e.tb.Context(), topic)
	must(e.tb, err)
	for _, p := range ps {
		must(e.tb, e.log.Read(e.tb.Context(), topic, p.Number, p.Start, p.End, func(k *kgo.Record) error {
			r, err := topology.Decode(k)
			if err == nil {
				all = append(all, r)
			}
			return err
		}))
	}
	return all
}

// logLines keeps what was logged, for when a test fails.
type logLines struct {
	tb testing.TB
	mu sync.Mutex
	b  strings.Builder
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logLines) contains(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.b.String(), s)
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func answer(code int, status string) *http.Response {
	return &http.Response{StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(status))}
}

func topicSettings() stream.TopicSettings {
	return stream.TopicSettings{Partitions: testPartitions, Replication: 1, Configs: map[string]string{"cleanup.policy": "compact"}}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }
