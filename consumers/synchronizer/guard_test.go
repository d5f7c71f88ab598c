package synchronizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/afterimage-dr/afterimage/internal/fence"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/internal/testenv"
	"github.com/afterimage-dr/afterimage/topology"
)

func (e *env) version(name string) string {
	v, _ := field(e.get(e.key(name)), "metadata", "annotations", topology.VersionAnnotation).(string)
	return v
}

func TestOlderNeverReplacesNewer(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	e.start()
	old := func(r *topology.Record) { r.Version.RV = "500" }
	e.want(e.key("a"), "ConfigMap", data("x", "new"))
	e.eventually("applied", e.has("a", "x", "new"))
	e.want(e.key("a"), "ConfigMap", data("x", "old"), old)
	e.remove(e.key("a"), old)
	e.settled()
	if !e.has("a", "x", "new")() {
		t.Fatalf("an older record had an effect: %v", e.get(e.key("a")))
	}
	// The same with nothing remembered but what the object itself says.
	e.stop()
	e.wipe()
	e.rv.Add(1000)
	zombie := e.want(e.key("a"), "ConfigMap", data("x", "old"), old)
	_ = zombie
	e.start()
	e.settled()
	if !e.has("a", "x", "new")() {
		t.Errorf("after the state was lost, an older record had an effect: %v", e.get(e.key("a")))
	}
	// A new epoch is newer whatever the resourceVersion.
	e.want(e.key("a"), "ConfigMap", data("x", "rewound"), func(r *topology.Record) { r.Version.Epoch, r.Version.RV = 2, "5" })
	e.eventually("applied", e.has("a", "x", "rewound"))
}

// What others wrote between two equal states must not come back from a zombie.
func TestVersionIsWrittenThoughContentIsEqual(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	e.start()
	e.want(e.key("a"), "ConfigMap", data("x", "1"))
	e.eventually("applied", e.has("a", "x", "1"))
	e.settled()
	e.stop()
	e.want(e.key("a"), "ConfigMap", data("x", "2"))
	last := e.want(e.key("a"), "ConfigMap", data("x", "1"))
	e.start()
	e.eventually("the version is on the object", func() bool { return e.version("a") == last.Version.String() })
	e.settled()
	// A mere re-run under another configuration writes nothing.
	before := e.traffic.writes.Load()
	e.want(e.key("a"), "ConfigMap", data("x", "1"), func(r *topology.Record) { r.Version = last.Version; r.Version.Generation++ })
	e.settled()
	if n := e.traffic.writes.Load() - before; n != 0 {
		t.Errorf("%d writes for a new generation of equal content", n)
	}
}

func TestFoldedStretch(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	for i := range 50 {
		e.want(e.key("a"), "ConfigMap", data("x", fmt.Sprint(i)))
		e.want(e.key("b"), "ConfigMap", data("x", fmt.Sprint(i)))
	}
	e.remove(e.key("b"))
	e.start()
	e.eventually("the last state", e.has("a", "x", "49"))
	e.settled()
	if e.get(e.key("b")) != nil {
		t.Error("a replayed create resurrected what its own delete removed")
	}
	if n := e.traffic.writes.Load(); n != 1 {
		t.Errorf("%d writes, want 1", n)
	}
}

func TestSlowObjectStallsNoOther(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	e.opts = func(o *Options) { o.RequestTimeout = 3 * time.Second }
	e.start()
	e.want(e.key("first"), "ConfigMap", data("x", "1"))
	e.settled()
	slow := func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/configmaps") {
			body := make([]byte, 4096)
			rc, _ := r.GetBody()
			n, _ := rc.Read(body)
			if strings.Contains(string(body[:n]), `"name":"slow"`) {
				<-r.Context().Done() // as a webhook that hangs
				return nil, r.Context().Err()
			}
		}
		return nil, nil
	}
	e.traffic.disturb.Store(&slow)
	e.want(e.key("slow"), "ConfigMap", data("x", "1"))
	began := time.Now()
	for i := range 200 {
		e.want(e.key(fmt.Sprint("c", i)), "ConfigMap", data("x", "1"))
	}
	for i := range 200 {
		e.eventually("applied", e.has(fmt.Sprint("c", i), "x", "1"))
	}
	if d := time.Since(began); d > 2900*time.Millisecond {
		t.Logf("took %v; the slow one takes 3s", d)
	}
	e.eventually("quarantined", func() bool { return e.failing(e.key("slow")) == ReasonTimeout })
	e.traffic.disturb.Store(nil)
	e.eventually("healed", e.has("slow", "x", "1"))
}

func TestSuspend(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	e.start()
	e.fill(3)
	e.set(func(s *settings.Settings) { s.Suspend = true })
	time.Sleep(100 * time.Millisecond)
	before := e.traffic.writes.Load()
	e.want(e.key("a"), "ConfigMap", data("x", "1"))
	e.remove(e.key("c000"))
	e.never(time.Second, "a write while suspended", func() bool { return e.traffic.writes.Load() != before })
	if lag := e.status().Lag; lag == nil || lag.Duration < 900*time.Millisecond {
		t.Errorf("lag while suspended: %v", lag)
	}
	e.set(func(s *settings.Settings) { s.Suspend = false })
	e.eventually("resumed", func() bool { return e.has("a", "x", "1")() && e.get(e.key("c000")) == nil })
}

func TestFence(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	e.start()
	e.fill(1)
	f := fence.New(e.kube, "dr", e.name)
	term, err := f.Raise(t.Context(), "recovery", nil)
	must(t, err)
	acknowledged := func() bool {
		st, err := f.Read(t.Context())
		must(t, err)
		return st.Writers["test-0"] == term
	}
	e.eventually("acknowledged", acknowledged)
	before := e.traffic.writes.Load()
	e.want(e.key("a"), "ConfigMap", data("x", "1"))
	e.never(time.Second, "a write over the fence", func() bool { return e.traffic.writes.Load() != before })
	if c := e.status().Components[0]; c.Ready || c.Reason != StatusFenced || !strings.Contains(c.Message, "annotate lease "+f.Key().Name+" "+fence.ResumeAnnotation+"=") {
		t.Errorf("status: %+v", c)
	}
	st, err := f.Read(t.Context())
	must(t, err)
	must(t, f.Resume(t.Context(), st))
	e.eventually("resumed", e.has("a", "x", "1"))
}

// A destination that is away as a whole pauses everything and quarantines nothing.
func TestDestinationAway(t *testing.T) {
	cluster := testenv.StartCluster(t)
	e := newEnv(t, cluster.Cluster)
	e.namespace()
	e.opts = func(o *Options) { o.RequestTimeout = 2 * time.Second }
	e.start()
	e.fill(5)
	cluster.StopAPIServer()
	for i := range 40 {
		e.want(e.key(fmt.Sprint("while-away", i)), "ConfigMap", data("x", "1"))
	}
	e.eventually("seen to be away", func() bool { return e.status().Components[0].Reason == StatusUnreachable })
	e.never(3*time.Second, "a quarantine", func() bool { return e.status().Objects.Failed > 0 })
	cluster.StartAPIServer()
	e.eventually("applied", func() bool {
		for i := range 40 {
			if !e.has(fmt.Sprint("while-away", i), "x", "1")() {
				return false
			}
		}
		return true
	})
	if n := strings.Count(e.logs.b.String(), "writing pauses"); n != 1 {
		t.Errorf("said %d times that it is away", n)
	}
}

// A frozen process that created after its partition's next owner deleted takes
// its create back.
func TestZombieUndoesItsResurrection(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	var alive atomic.Bool
	alive.Store(true)
	s := New(Options{
		Settings: e.live, Log: e.log, Topics: e.topics, State: e.store.Stage(Component), Destination: e.counted,
		Logger: quiet(), InstanceID: "zombie", Incarnation: "zombie", FenceEvery: 200 * time.Millisecond, Session: time.Second,
	})
	e.sync = s
	ctx := t.Context()
	s.background = ctx
	w, err := e.log.Writer()
	must(t, err)
	s.writer = w
	go func() { _ = s.fence.run(ctx) }()
	go func() { _ = s.identity.run(ctx) }()
	number := topology.PartitionOf(e.key("a").String(), testPartitions)
	bounds, err := e.log.Bounds(ctx, e.topics.Desired, number)
	must(t, err)
	go func() { _ = s.runPartition(ctx, stream.NewAssignment(bounds, alive.Load, nil)) }()

	var created atomic.Bool
	after := func(r *http.Request) {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/configmaps") && created.CompareAndSwap(false, true) {
			alive.Store(false)
			time.Sleep(700 * time.Millisecond) // frozen for more than half a session; meanwhile:
			e.remove(e.key("a"))
		}
	}
	e.traffic.after.Store(&after)
	e.want(e.key("a"), "ConfigMap", data("x", "1"))
	e.eventually("created", created.Load)
	e.eventually("undone", func() bool { return e.get(e.key("a")) == nil })
	s.undoing.Wait()
	// It may not be the last one: the zombie still reads, and notes that what the
	// delete was for is gone.
	outcomes := e.read(e.topics.Outcomes)
	if !slices.ContainsFunc(outcomes, func(r topology.Record) bool { return r.Reason == string(Undone) }) {
		t.Errorf("no outcome says that the create was undone: %+v", outcomes)
	}
}

// What is not alive does not write.
func TestNotAliveWaits(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	g := newGate(e.live, &barrier{s: New(Options{Settings: e.live, Destination: e.counted, FenceValid: time.Hour})})
	g.fence = newBarrier(g.fence.s)
	g.fence.state.Set(fenceState{readAt: time.Now(), registered: true})
	var alive atomic.Bool
	done := make(chan error, 1)
	go func() { _, err := g.wait(t.Context(), alive.Load); done <- err }()
	select {
	case <-done:
		t.Fatal("the gate let a dead one through")
	case <-time.After(200 * time.Millisecond):
	}
	alive.Store(true)
	must(t, <-done)
}

func TestHeartbeats(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	e.start()
	if e.status().VerifiedAt != nil {
		t.Error("verified before anything was heard")
	}
	e.fill(10)
	at := time.Now().UTC().Truncate(time.Millisecond)
	for p := range int32(testPartitions) {
		r := topology.Record{Key: topology.ControlKey(topology.Heartbeat, ""), Kind: topology.Heartbeat, VerifiedAt: at.Add(time.Duration(p)), Writer: "test"}
		must(t, e.writer.AppendSync(t.Context(), r.Encode(e.topics.Desired, p)))
	}
	e.eventually("verified", func() bool { v := e.status().VerifiedAt; return v != nil && v.Time.Equal(at) })
	e.eventually("forwarded", func() bool {
		n := 0
		for _, r := range e.read(e.topics.Outcomes) {
			if r.Kind == topology.Heartbeat {
				n++
			}
		}
		return n == testPartitions
	})
	if st := e.status(); st.Objects.Total != 10 || st.Objects.Sync != 10 || !st.Components[0].Ready {
		t.Errorf("status: %+v", st)
	}
}

// A server that refuses is not one that cannot be reached: another person mends it.
func TestRefusedIsNotUnreachable(t *testing.T) {
	for want, err := range map[string]error{
		"refuses the credentials":                apierrors.NewUnauthorized("expired"),
		"does not allow reading":                 apierrors.NewForbidden(schema.GroupResource{Resource: "leases"}, "x", errors.New("no role")),
		"cannot be reached":                      errors.New("connection refused"),
		"leases in namespace " + fence.Namespace: apierrors.NewForbidden(schema.GroupResource{Resource: "leases"}, "x", errors.New("no role")),
	} {
		if got := unreached(err); !strings.Contains(got, want) {
			t.Errorf("%v: %q, want %q in it", err, got, want)
		}
	}
}

func TestHold(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	e.start()
	e.want(e.key("a"), "ConfigMap", data("x", "1"))
	e.eventually("applied", e.has("a", "x", "1"))
	e.append(topology.Record{Key: e.key("a").String(), Kind: topology.Object, Op: topology.Hold, Reason: "patch does not apply"})
	e.eventually("shown", func() bool { return e.failing(e.key("a")) == ReasonPatchFailed })
	if st := e.status(); st.Objects.Total != 1 || st.Objects.Failed != 1 || st.Failing[0].Message != "patch does not apply" {
		t.Errorf("status: %+v", st)
	}
	if !e.logs.contains("object is left as it is in cluster") || e.logs.contains(logging.ErrDeletingObject) {
		t.Error("a hold is not said, or said to be a delete that failed")
	}
	e.stop()
	e.start()
	e.settled()
	if got := e.failing(e.key("a")); got != ReasonPatchFailed {
		t.Errorf("after a restart: %q", got)
	}
	e.want(e.key("a"), "ConfigMap", data("x", "1"))
	e.eventually("healed", func() bool { return e.failing(e.key("a")) == "" })
	if !e.has("a", "x", "1")() {
		t.Error("the object is gone")
	}
}

// 429 is obeyed and quarantines nothing by itself.
func TestTooManyRequests(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	e.start()
	e.fill(1)
	var n atomic.Int64
	f := func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodPost && n.Add(1) <= 2 {
			resp := answer(429, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"TooManyRequests","code":429,"details":{"retryAfterSeconds":1}}`)
			resp.Header.Set("Retry-After", "1")
			return resp, nil
		}
		return nil, nil
	}
	e.traffic.disturb.Store(&f)
	began := time.Now()
	e.want(e.key("a"), "ConfigMap", data("x", "1"))
	e.eventually("applied", e.has("a", "x", "1"))
	if d := time.Since(began); d < 2*time.Second {
		t.Errorf("applied after %v, against two Retry-After of 1s", d)
	}
	if e.failing(e.key("a")) != "" {
		t.Error("quarantined")
	}
}

// A dead admission webhook (500) is one object's trouble, not everybody's.
func TestServerErrorIsOneObjects(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	e.start()
	f := func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/secrets") {
			return answer(500, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"InternalError","message":"failed calling webhook","code":500}`), nil
		}
		return nil, nil
	}
	e.traffic.disturb.Store(&f)
	key := topology.Key{Version: "v1", Resource: "secrets", Namespace: e.name, Name: "s"}
	e.want(key, "Secret", secret("Opaque", "MQ=="))
	e.want(e.key("a"), "ConfigMap", data("x", "1"))
	e.eventually("the other", e.has("a", "x", "1"))
	e.eventually("quarantined", func() bool { return e.failing(key) == ReasonServerError })
	e.traffic.disturb.Store(nil)
	e.eventually("healed", func() bool { return e.get(key) != nil && e.failing(key) == "" })
}

// The answer to a create is lost: the object is found and taken for what it is.
func TestLostAnswer(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	e.start()
	e.fill(1)
	var cut atomic.Bool
	f := func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodPost && cut.CompareAndSwap(false, true) {
			resp, err := e.traffic.next.RoundTrip(r)
			if err == nil {
				resp.Body.Close()
			}
			return nil, fmt.Errorf("connection reset")
		}
		return nil, nil
	}
	e.traffic.disturb.Store(&f)
	e.want(e.key("a"), "ConfigMap", data("x", "1"))
	e.eventually("applied and known", func() bool {
		return e.has("a", "x", "1")() && e.failing(e.key("a")) == "" && e.status().Objects.Sync == 2
	})
	e.want(e.key("a"), "ConfigMap", data("x", "2"))
	e.eventually("updated", e.has("a", "x", "2"))
}

func TestOutcomeBodies(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	e.start()
	e.want(e.key("a"), "ConfigMap", data("x", "1"))
	e.settled()
	all := e.read(e.topics.Outcomes)
	if len(all) != 1 {
		t.Fatalf("%d outcomes", len(all))
	}
	var o topology.OutcomeBody
	must(t, json.Unmarshal(all[0].Body, &o))
	live := e.get(e.key("a"))
	if o.Result != string(Created) || o.DestinationUID != field(live, "metadata", "uid") || o.DestinationRV != field(live, "metadata", "resourceVersion") ||
		o.Version != all[0].Version.String() || time.Since(o.At) > time.Minute {
		t.Errorf("outcome: %+v", o)
	}
}
