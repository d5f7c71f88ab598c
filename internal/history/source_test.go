package history_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/afterimage-dr/afterimage/internal/history"
	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/live"
	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/internal/testenv"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/producers/eventslistener"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// real is a real API server, read by a real eventslistener.
type real struct {
	t         *testing.T
	rng       *rand.Rand
	kube      *kube.Client
	log       history.Log
	settings  *settings.Live
	store     *state.Store
	stop      func()
	round     int
	labels    map[string]map[string]string
	exists    sync.Map // keys
	resources []kube.Resource
}

var covered = []v1alpha1.Resource{{Version: "v1", Resource: "configmaps"}, {Version: "v1", Resource: "secrets"}, {Version: "v1", Resource: "namespaces"}}

var spaces = []string{"one", "two", "three"}

func newReal(t *testing.T) *real {
	cluster := testenv.StartCluster(t)
	k, err := kube.New(cluster.RESTConfig())
	check(t, err)
	broker, err := stream.StartEmbedded(t.TempDir())
	check(t, err)
	t.Cleanup(func() { _ = broker.Close() })
	client, err := stream.NewClient(broker.Dial(), "test")
	check(t, err)
	t.Cleanup(client.Close)
	r := &real{
		t: t, rng: rand.New(rand.NewPCG(3, 4)), kube: k, labels: map[string]map[string]string{},
		log: history.Log{Client: client, Topics: topology.TopicsFor("dr", "pre"), Embedded: true},
	}
	for _, topic := range r.log.Topics.All() {
		n := int32(4)
		if topic == r.log.Topics.Requests {
			n = 1
		}
		_, err := client.Ensure(t.Context(), topic, stream.TopicSettings{Partitions: n, Replication: -1, Configs: map[string]string{"cleanup.policy": "compact"}})
		check(t, err)
	}
	r.store, err = state.Open(t.TempDir())
	check(t, err)
	t.Cleanup(func() { _ = r.store.Close() })
	s := settings.Settings{Source: settings.Asset{Name: "source", Namespace: "dr"}}
	s.Config.Namespace, s.Config.Name, s.Config.Replication.Resources = "dr", "pre", covered
	r.settings = live.New(s)
	for _, e := range covered {
		resource, err := k.Resolve(t.Context(), e.Group, e.Version, e.Resource)
		check(t, err)
		r.resources = append(r.resources, resource)
	}
	for _, ns := range spaces {
		r.relabel(ns)
	}
	r.start()
	return r
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r *real) start() {
	l := eventslistener.New(eventslistener.Options{
		Settings: r.settings, Log: r.log.Client, Topics: r.log.Topics, State: r.store.Stage(eventslistener.Component), Source: r.kube,
		Logger: slog.New(slog.DiscardHandler), InstanceID: "a", Incarnation: fmt.Sprint(time.Now().UnixNano()),
		Session: 3 * time.Second, Heartbeat: 300 * time.Millisecond, SecondLook: 200 * time.Millisecond, MaxUnapplied: -1,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := l.Run(ctx); err != nil {
			r.t.Errorf("eventslistener: %v", err)
		}
	}()
	r.stop = sync.OnceFunc(func() { cancel(); <-done })
	r.t.Cleanup(r.stop)
}

func (r *real) relabel(ns string) {
	r.t.Helper()
	r.labels[ns] = map[string]string{"kubernetes.io/metadata.name": ns, "round": fmt.Sprint(r.round), "salt": fmt.Sprint(r.rng.IntN(1000))}
	body, _ := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": ns, "labels": r.labels[ns]}})
	_, err := r.kube.Apply(r.t.Context(), r.resources[2], topology.Key{Version: "v1", Resource: "namespaces", Name: ns}, body, "test")
	check(r.t, err)
}

// change makes n random changes, several at a time.
func (r *real) change(n int) {
	r.t.Helper()
	var wg sync.WaitGroup
	const workers = 8
	for i := range workers {
		rng := rand.New(rand.NewPCG(uint64(r.round), uint64(i)))
		wg.Go(func() {
			for range n / workers {
				// Names by worker, so that each knows what exists.
				r.changeOne(rng, fmt.Sprintf("o-%d-%d", i, rng.IntN(30)))
			}
		})
	}
	wg.Wait()
}

func (r *real) changeOne(rng *rand.Rand, name string) {
	resource := r.resources[rng.IntN(2)]
	key := topology.Key{Version: "v1", Resource: resource.Resource, Namespace: spaces[rng.IntN(len(spaces))], Name: name}
	_, exists := r.exists.Load(key)
	var err error
	switch {
	case exists && rng.IntN(4) == 0:
		err = r.kube.Delete(r.t.Context(), resource, key, kube.Preconditions{})
		r.exists.Delete(key)
	default:
		err = r.put(resource, key, fmt.Sprint(rng.Int64()))
		r.exists.Store(key, true)
	}
	if err != nil && !apierrors.IsNotFound(err) {
		r.t.Errorf("%s: %v", key, err)
	}
}

func (r *real) put(resource kube.Resource, key topology.Key, value string) error {
	data := map[string]any{"apiVersion": "v1", "kind": resource.Kind, "metadata": map[string]any{"name": key.Name, "namespace": key.Namespace}}
	if resource.Resource == "secrets" {
		data["stringData"] = map[string]string{"v": value}
	} else {
		data["data"] = map[string]string{"v": value}
	}
	body, _ := json.Marshal(data)
	_, err := r.kube.Apply(r.t.Context(), resource, key, body, "test")
	return err
}

// settle waits until everything that was done is in the log, the labels of
// namespaces included: a watch brings changes in order, so a last one tells.
func (r *real) settle() {
	r.t.Helper()
	mark := fmt.Sprintf("mark-%d", r.round)
	want := map[string]bool{}
	for _, resource := range r.resources[:2] {
		for _, ns := range spaces {
			key := topology.Key{Version: "v1", Resource: resource.Resource, Namespace: ns, Name: mark}
			check(r.t, r.put(resource, key, mark))
			want[key.String()] = true
		}
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatal("the log never got to the end of the changes")
		}
		s, err := r.log.Snapshot(r.t.Context(), time.Time{})
		check(r.t, err)
		found, current := 0, true
		var mu sync.Mutex
		check(r.t, s.Each(r.t.Context(), func(rec *topology.Record) error {
			key, err := topology.ParseKey(rec.Key)
			mu.Lock()
			defer mu.Unlock()
			if want[rec.Key] {
				found++
			}
			if labels, ok := r.labels[key.Namespace]; ok && !cmp.Equal(labels, rec.NamespaceLabels) {
				current = false
			}
			return err
		}))
		if found == len(want) && current {
			return
		}
	}
}

// list is the source as it is: objects without what the log does not carry, and
// the labels of their namespaces.
func (r *real) list() map[string]any {
	r.t.Helper()
	out := map[string]any{}
	for _, resource := range r.resources {
		page, err := r.kube.ListPage(r.t.Context(), resource, kube.ListOptions{})
		check(r.t, err)
		for _, raw := range page.Items {
			var o map[string]any
			check(r.t, json.Unmarshal(raw, &o))
			meta := o["metadata"].(map[string]any)
			delete(o, "status")
			delete(meta, "managedFields")
			o["apiVersion"], o["kind"] = "v1", resource.Kind
			ns, _ := meta["namespace"].(string)
			key := topology.Key{Version: "v1", Resource: resource.Resource, Namespace: ns, Name: meta["name"].(string)}
			out[key.String()] = withLabels(o, r.labels[ns])
		}
	}
	return out
}

func withLabels(o map[string]any, labels map[string]string) any {
	return map[string]any{"object": o, "labels": labels}
}

func (r *real) told(at time.Time) map[string]any {
	r.t.Helper()
	s, err := r.log.Snapshot(r.t.Context(), at)
	check(r.t, err)
	out := map[string]any{}
	var mu sync.Mutex
	check(r.t, s.Each(r.t.Context(), func(rec *topology.Record) error {
		var o map[string]any
		if err := json.Unmarshal(rec.Body, &o); err != nil {
			return err
		}
		key, err := topology.ParseKey(rec.Key)
		labels := rec.NamespaceLabels
		if r.labels[key.Namespace] == nil {
			labels = nil // of namespaces that are not the test's
		}
		mu.Lock()
		defer mu.Unlock()
		out[rec.Key] = withLabels(o, labels)
		return err
	}))
	return out
}

// verified waits until the source is known up to a moment; an idle one is only by a
// bookmark each minute, so it is kept busy.
func (r *real) verified(at time.Time) history.Window {
	r.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; r.round++ {
		window, err := r.log.Window(r.t.Context())
		check(r.t, err)
		if window.VerifiedAt.After(at) {
			return window
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("never verified up to %s, only to %s", at, window.VerifiedAt)
		}
		r.relabel(spaces[0])
		r.settle()
		time.Sleep(100 * time.Millisecond)
	}
}

// What the log says of a moment is what a LIST of that moment said.
func TestSnapshotIsWhatListShowed(t *testing.T) {
	r := newReal(t)
	const rounds, changes = 21, 240
	type moment struct {
		at   time.Time
		list map[string]any
	}
	var moments []moment
	var down time.Time
	for r.round = 1; r.round <= rounds; r.round++ {
		if r.round%3 == 0 {
			r.relabel(spaces[r.rng.IntN(len(spaces))])
		}
		if r.round == rounds/2 { // changes that nobody sees
			r.stop()
			time.Sleep(700 * time.Millisecond)
			down = time.Now()
		}
		r.change(changes)
		if r.round == rounds/2 {
			time.Sleep(700 * time.Millisecond)
			r.start()
		}
		r.settle()
		moments = append(moments, moment{time.Now(), r.list()})
		time.Sleep(5 * time.Millisecond)
	}
	r.rng.Shuffle(len(moments), func(i, j int) { moments[i], moments[j] = moments[j], moments[i] })
	window := r.verified(moments[len(moments)-1].at)
	compared := 0
	for _, m := range moments {
		if gap := (*history.GapError)(nil); errors.As(window.Check(m.at), &gap) {
			continue // also what was deleted while nobody watched has to be noticed first
		}
		compared++
		skipped := func(key string) bool { _, ok := m.list[key]; return !ok }
		got := r.told(m.at)
		want := map[string]any{}
		for key, o := range m.list {
			if k, _ := topology.ParseKey(key); r.labels[k.Namespace] != nil || r.labels[k.Name] != nil {
				want[key] = o
			}
		}
		for key := range got {
			if k, _ := topology.ParseKey(key); r.labels[k.Namespace] == nil && r.labels[k.Name] == nil && !skipped(key) {
				delete(got, key)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("the source at %s (-LIST +log):\n%.4000s", m.at, diff)
		}
	}
	if compared < rounds/2 {
		t.Errorf("only %d of %d moments are known exactly: gaps %v, verified at %s", compared, rounds, window.Gaps, window.VerifiedAt)
	}
	if gap := (*history.GapError)(nil); !errors.As(window.Check(down), &gap) {
		t.Errorf("a moment at which no eventslistener ran: %v", window.Check(down))
	}
	if n := len(window.Resources); n != len(covered) {
		t.Errorf("%d resources are complete, want %d", n, len(covered))
	}
}
