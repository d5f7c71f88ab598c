package synchronizer

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

// beat appends a heartbeat to every partition.
func (e *env) beat(at time.Time) {
	e.tb.Helper()
	for p := range int32(testPartitions) {
		r := topology.Record{Key: topology.ControlKey(topology.Heartbeat, ""), Kind: topology.Heartbeat, VerifiedAt: at, Writer: "test"}
		must(e.tb, e.writer.AppendSync(e.tb.Context(), r.Encode(e.topics.Desired, p)))
	}
}

// While a backlog is folded, a heartbeat stands before the one record of a key
// that counts: it says nothing of the key until that is applied.
func TestHeartbeatOfABacklogWaitsForAllOfIt(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	e.want(e.key("a"), "ConfigMap", data("x", "1"))
	at := time.Now().UTC().Truncate(time.Millisecond)
	e.beat(at)
	e.want(e.key("a"), "ConfigMap", data("x", "2"))
	release := make(chan struct{})
	hang := func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/configmaps") {
			<-release
		}
		return nil, nil
	}
	e.traffic.disturb.Store(&hang)
	e.start()
	e.never(1500*time.Millisecond, "verified before the backlog was applied", func() bool { return e.status().VerifiedAt != nil })
	close(release)
	e.eventually("applied", e.has("a", "x", "2"))
	e.eventually("verified", func() bool { v := e.status().VerifiedAt; return v != nil && v.Time.Equal(at) })
}

// A namespace is not deleted with a custom resource inside that nobody covers.
func TestNamespaceWithForeignCustomResourceIsKept(t *testing.T) {
	e := newEnv(t, destination(t))
	e.start()
	group := e.name + ".example.com"
	e.put(topology.Key{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions", Name: "things." + group},
		`{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"things.`+group+`"},"spec":{
		"group":"`+group+`","scope":"Namespaced","names":{"plural":"things","singular":"thing","kind":"Thing"},
		"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}`)
	ns := topology.Key{Version: "v1", Resource: "namespaces", Name: e.name}
	e.want(ns, "Namespace", nil)
	e.eventually("created", func() bool { return e.get(ns) != nil })
	thing := topology.Key{Group: group, Version: "v1", Resource: "things", Namespace: e.name, Name: "theirs"}
	e.eventually("served", func() bool {
		_, err := e.kube.Resolve(t.Context(), group, "v1", "things")
		return err == nil
	})
	e.put(thing, `{"apiVersion":"`+group+`/v1","kind":"Thing","metadata":{"name":"theirs","namespace":"`+e.name+`"}}`)
	e.remove(ns)
	e.eventually("kept, since it is not empty", func() bool { return e.failing(ns) == ReasonNotEmpty })
	if field(e.get(ns), "metadata", "deletionTimestamp") != nil {
		t.Fatal("deleted with what is not ours inside")
	}
}

// What could not be looked for is not concluded to be absent.
func TestNamespaceIsKeptWhileItsContentIsNotKnown(t *testing.T) {
	e := newEnv(t, destination(t))
	e.start()
	ns := topology.Key{Version: "v1", Resource: "namespaces", Name: e.name}
	e.want(ns, "Namespace", nil)
	e.eventually("created", func() bool { return e.get(ns) != nil })
	e.put(topology.Key{Group: "batch", Version: "v1", Resource: "cronjobs", Namespace: e.name, Name: "theirs"},
		`{"apiVersion":"batch/v1","kind":"CronJob","metadata":{"name":"theirs","namespace":"`+e.name+`"},"spec":{"schedule":"@daily",
		"jobTemplate":{"spec":{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"c"}]}}}}}}`)
	broken := func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodGet && r.URL.Path == "/apis/batch/v1" {
			return answer(http.StatusInternalServerError, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"InternalError","code":500}`), nil
		}
		return nil, nil
	}
	e.traffic.disturb.Store(&broken)
	e.remove(ns)
	e.eventually("visible as failing", func() bool { return e.failing(ns) != "" })
	if field(e.get(ns), "metadata", "deletionTimestamp") != nil {
		t.Fatal("deleted although its content could not be listed")
	}
	e.traffic.disturb.Store(nil)
	e.eventually("kept, since it is not empty", func() bool { return e.failing(ns) == ReasonNotEmpty })
}

// Taking a late create back is a write: suspended, or fenced, it waits.
func TestUndoWaitsForTheGate(t *testing.T) {
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
			e.suspend(true)
			alive.Store(false)
			e.remove(e.key("a"))
		}
	}
	e.traffic.after.Store(&after)
	e.want(e.key("a"), "ConfigMap", data("x", "1"))
	e.eventually("created", func() bool { return created.Load() && e.get(e.key("a")) != nil })
	e.never(1500*time.Millisecond, "undone while suspended", func() bool { return e.get(e.key("a")) == nil })
	e.suspend(false)
	e.eventually("undone", func() bool { return e.get(e.key("a")) == nil })
	s.undoing.Wait()
}

func (e *env) suspend(on bool) { e.set(func(s *settings.Settings) { s.Suspend = on }) }

// An entry's edited API version tombstones the old keys before the new ones have
// come: the object is not deleted in between.
func TestEditedAPIVersionTombstonesFirst(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	hpa := func(name, version string) topology.Key {
		return topology.Key{Group: "autoscaling", Version: version, Resource: "horizontalpodautoscalers", Namespace: e.name, Name: name}
	}
	cover := func(resource, version string) {
		e.set(func(s *settings.Settings) {
			s.Config.Replication.Resources = []v1alpha1.Resource{{Group: "autoscaling", Version: version, Resource: resource}}
		})
	}
	cover("horizontalpodautoscalers", "v1")
	e.start()
	spec := map[string]any{"spec": map[string]any{
		"scaleTargetRef": map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}, "maxReplicas": 3,
	}}
	taken, left := hpa("taken", "v1"), hpa("left", "v1")
	was := map[string]topology.Record{}
	for _, k := range []topology.Key{taken, left} {
		was[k.String()] = e.want(k, "HorizontalPodAutoscaler", spec)
	}
	e.eventually("created", func() bool { return e.get(taken) != nil && e.get(left) != nil })
	e.settled()
	uid := field(e.get(taken), "metadata", "uid")

	cover("HorizontalPodAutoscaler", "v2") // a kind is a name of the resource too
	e.configureAs(2)
	uncovered := func(r *topology.Record) {
		r.Reason, r.Version = topology.ReasonUncovered, was[r.Key].Version
		r.Version.Generation = 2
	}
	e.remove(taken, uncovered)
	e.remove(left, uncovered)
	e.eventually("waiting", func() bool { return e.failing(taken) == ReasonMoved && e.failing(left) == ReasonMoved })
	e.stop()
	e.start() // the wait outlives a restart
	e.want(hpa("taken", "v2"), "HorizontalPodAutoscaler", spec, func(r *topology.Record) { r.Version = was[taken.String()].Version; r.Version.Generation = 2 })
	e.eventually("taken over", func() bool {
		return field(e.get(hpa("taken", "v2")), "metadata", "annotations", topology.KeyAnnotation) == hpa("taken", "v2").String()
	})
	e.eventually("known to be taken over", func() bool { return e.failing(taken) == "" })
	if got := field(e.get(hpa("taken", "v2")), "metadata", "uid"); got != uid {
		t.Errorf("the object under its new key: %v, was %v", got, uid)
	}
	if e.get(left) == nil {
		t.Error("deleted before it was known that nobody wants it")
	}
	for p := range int32(testPartitions) {
		r := topology.Record{Key: topology.ControlKey(topology.Listed, "autoscaling/v2/horizontalpodautoscalers"), Kind: topology.Listed, Body: []byte(`{}`), Writer: "test"}
		must(t, e.writer.AppendSync(t.Context(), r.Encode(e.topics.Desired, p)))
	}
	e.eventually("deleted, now that nobody wants it", func() bool { return e.get(left) == nil && e.failing(left) == "" })
	if got := field(e.get(hpa("taken", "v2")), "metadata", "uid"); got != uid {
		t.Errorf("the object under its new key: %v, was %v", got, uid)
	}
}

// A source that a person confirmed to be another cluster takes over what was
// written for the one before: nothing of it fails, and deletes reach it.
func TestConfirmedSourceTakesOver(t *testing.T) {
	for _, wiped := range []bool{false, true} {
		t.Run(fmt.Sprint("wiped=", wiped), func(t *testing.T) {
			e := newEnv(t, destination(t))
			e.namespace()
			e.start()
			for _, name := range []string{"same", "edited", "gone"} {
				e.want(e.key(name), "ConfigMap", data("x", "1"))
			}
			e.eventually("applied", func() bool {
				return e.has("same", "x", "1")() && e.has("edited", "x", "1")() && e.has("gone", "x", "1")()
			})
			e.settled()
			if wiped {
				e.stop()
				e.wipe()
			}
			e.source = "99999999-2222-3333-4444-555555555555"
			e.configureAs(2)
			another := func(r *topology.Record) { r.Version.Epoch, r.Version.Generation = 2, 2 }
			e.want(e.key("edited"), "ConfigMap", data("x", "2"), another)
			e.remove(e.key("gone"), another)
			if wiped {
				e.start()
			}
			e.eventually("edited and deleted", func() bool { return e.has("edited", "x", "2")() && e.get(e.key("gone")) == nil })
			e.resync()
			for _, name := range []string{"same", "edited"} {
				e.eventually(name+" is the new source's", func() bool {
					return field(e.get(e.key(name)), "metadata", "annotations", topology.SourceClusterAnnotation) == e.source
				})
			}
			e.resync()
			if st := e.status(); len(st.Failing) > 0 || st.Objects.Total != 2 {
				t.Errorf("status: %+v", st)
			}
		})
	}
}

// A partition that has to begin anew does so at once, also while everything it
// holds waits for the gate: what it remembers is of another cluster.
func TestStartsOverWhileSuspended(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	e.suspend(true)
	e.start()
	var recs []*kgo.Record
	for i := range 3 * testPartitions * maxUnfinished {
		k := e.key(fmt.Sprint("k", i))
		r := topology.Record{
			Key: k.String(), Kind: topology.Object, Op: topology.Create, Hash: "h", Body: object(k, "ConfigMap", nil), Writer: "test",
			Version: topology.Version{Epoch: 1, RV: fmt.Sprint(e.rv.Add(1)), NamespaceRV: "7", Generation: 1},
		}
		recs = append(recs, r.Encode(e.topics.Desired, topology.PartitionOf(r.Key, testPartitions)))
	}
	must(t, e.writer.AppendSync(t.Context(), recs...))
	var before []*partition
	e.eventually("everything waits", func() bool {
		before = e.sync.partitions()
		full := 0
		for _, p := range before {
			p.mu.Lock()
			if p.unfinished >= maxUnfinished {
				full++
			}
			p.mu.Unlock()
		}
		return full == testPartitions
	})
	e.sync.identity.uid.Set("another")
	e.eventually("all begin anew", func() bool {
		now := e.sync.partitions()
		return len(now) == testPartitions && !slices.ContainsFunc(now, func(p *partition) bool { return slices.Contains(before, p) })
	})
}

// The source is never written to, also where it is given as the destination.
func TestSourceAsDestinationIsNotWritten(t *testing.T) {
	e := newEnv(t, destination(t))
	e.namespace()
	e.put(e.key("a"), `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"`+e.name+`"},"data":{"x":"original"}}`)
	e.set(func(s *settings.Settings) { s.Config.Replication.AdoptExisting = true })
	uid, err := e.kube.ClusterUID(t.Context())
	must(t, err)
	e.source = uid
	e.configureAs(2)
	e.want(e.key("a"), "ConfigMap", data("x", "patched"))
	e.start()
	e.never(2*time.Second, "a write", func() bool { return e.traffic.writes.Load() > 0 })
	if c := e.status().Components[0]; c.Ready {
		t.Errorf("status: %+v", c)
	}
}

// A zombie's configuration that landed behind a newer one changes nothing.
func TestOlderConfigurationIsPassedOver(t *testing.T) {
	for _, running := range []bool{true, false} {
		t.Run(fmt.Sprint("running=", running), func(t *testing.T) {
			e := newEnv(t, destination(t))
			e.namespace()
			if running {
				e.start()
			}
			e.source = "99999999-2222-3333-4444-555555555555"
			e.configureAs(3)
			now := e.source
			e.source = ""
			e.configureAs(2)
			e.want(e.key("a"), "ConfigMap", data("x", "1"))
			if !running {
				e.start()
			}
			e.eventually("applied", e.has("a", "x", "1"))
			if got := field(e.get(e.key("a")), "metadata", "annotations", topology.SourceClusterAnnotation); got != now {
				t.Errorf("written for source %v, want %v", got, now)
			}
		})
	}
}
