package history

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

const testPartitions = 3

// world is a made-up source, the log an eventslistener would write of it, and the
// truth about every moment.
type world struct {
	t      testing.TB
	rng    *rand.Rand
	log    Log
	writer *stream.Writer

	epoch      int64
	rv         int64
	config     topology.Config
	namespaces map[string]*namespace
	objects    map[string]*object
	history    map[string][]dated
	// queue is what a listener holds while the broker is away; nil: it is not.
	queue  []*kgo.Record
	away   bool
	stale  []string // namespaces whose objects carry an old stamp, by key
	broken map[string]bool
	past   []*topology.Record // for zombies
	quiet  []time.Time
	n      int
}

type namespace struct {
	rv      string
	labels  map[string]string
	history []dated
}

type object struct {
	uid, rv, body string
}

// dated is a state (or the labels of a namespace) from a moment on; nil: gone.
type dated struct {
	at     time.Time
	object *object
	labels map[string]string
}

// seen is what is compared.
type seen struct {
	UID, RV, Body string
	Labels        map[string]string
}

func newWorld(t testing.TB, seed uint64, log Log, configs map[string]string) *world {
	t.Helper()
	w := &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), log: log, epoch: 1, rv: 1000,
		namespaces: map[string]*namespace{}, objects: map[string]*object{}, history: map[string][]dated{}, broken: map[string]bool{},
	}
	if _, err := log.Client.Ensure(t.Context(), log.Topics.Changes, stream.TopicSettings{Partitions: testPartitions, Replication: -1, Configs: configs}); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.writer, err = log.Client.Writer(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.writer.Close)
	w.config = topology.Config{Namespace: "dr", Name: "pre", Generation: 1}
	w.config.Replication.Resources = []v1alpha1.Resource{{Version: "v1", Resource: "configmaps"}}
	w.control(topology.Configured, "", w.config)
	for i := range 4 {
		name := fmt.Sprintf("ns-%d", i)
		w.namespaces[name] = &namespace{}
		w.relabel(name)
	}
	w.listed("core/v1/configmaps")
	w.beat(time.Now())
	time.Sleep(2 * time.Millisecond) // the log's time is in milliseconds
	return w
}

func embeddedLog(t testing.TB) (Log, *stream.Embedded) {
	t.Helper()
	e, err := stream.StartEmbeddedWith(t.TempDir(), stream.EmbeddedOptions{CompactBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	c, err := stream.NewClient(e.Dial(), "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return Log{Client: c, Topics: topology.TopicsFor("dr", "pre"), Embedded: true}, e
}

// must fails the test on any error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) put(recs ...*kgo.Record) {
	w.t.Helper()
	if w.away {
		w.queue = append(w.queue, recs...)
		return
	}
	must(w.t, w.writer.AppendSync(w.t.Context(), recs...))
}

// reconnect appends what had to wait.
func (w *world) reconnect() {
	w.away = false
	queue := w.queue
	w.queue = nil
	if len(queue) > 0 {
		w.put(queue...)
	}
}

func (w *world) control(kind topology.Kind, subject string, body any) {
	w.t.Helper()
	b, err := json.Marshal(body)
	must(w.t, err)
	w.broadcast(topology.Record{Key: topology.ControlKey(kind, subject), Kind: kind, Body: b, ObservedAt: time.Now()})
}

func (w *world) broadcast(r topology.Record) {
	w.t.Helper()
	r.Version = topology.Version{Epoch: w.epoch}
	for p := range int32(testPartitions) {
		w.put(r.Encode(w.log.Topics.Changes, p))
	}
}

func (w *world) listed(subject string) {
	w.control(topology.Listed, subject, topology.ListedBody{ResourceVersion: fmt.Sprint(w.rv), Fresh: true, At: time.Now()})
}

func (w *world) beat(verified time.Time) {
	w.broadcast(topology.Record{Key: topology.ControlKey(topology.Heartbeat, ""), Kind: topology.Heartbeat, ObservedAt: time.Now(), VerifiedAt: verified})
}

func (w *world) next() string {
	w.rv += 1 + w.rng.Int64N(3)
	return fmt.Sprint(w.rv)
}

func keyOf(ns string, i int) string { return fmt.Sprintf("core/v1/configmaps/%s/o-%d", ns, i) }

func nsOf(key string) string { return string(namespaceOf([]byte(key))) }

// record of the current state of a key; change says what may differ.
func (w *world) record(key string, change func(*topology.Record)) *topology.Record {
	ns := w.namespaces[nsOf(key)]
	r := &topology.Record{Key: key, Kind: topology.Object, ObservedAt: time.Now(), Version: topology.Version{Epoch: w.epoch, NamespaceRV: ns.rv}}
	if o := w.objects[key]; o != nil {
		r.Op, r.UID, r.Version.RV, r.Body, r.NamespaceLabels = topology.Update, o.uid, o.rv, []byte(o.body), ns.labels
	} else {
		r.Op, r.Version.RV = topology.Delete, fmt.Sprint(w.rv)
	}
	if change != nil {
		change(r)
	}
	return r
}

func (w *world) append(r *topology.Record) {
	w.t.Helper()
	w.past = append(w.past, r)
	if len(w.past) > 200 {
		w.past = w.past[100:]
	}
	w.put(r.Encode(w.log.Topics.Changes, topology.PartitionOf(r.Key, testPartitions)))
}

// set changes an object in the source, and has the listener see it.
func (w *world) set(key string, o *object) {
	w.t.Helper()
	w.history[key] = append(w.history[key], dated{at: time.Now(), object: o})
	if o == nil {
		delete(w.objects, key)
	} else {
		w.objects[key] = o
	}
	w.append(w.record(key, nil))
	w.stale = slices.DeleteFunc(w.stale, func(k string) bool { return k == key })
	delete(w.broken, key)
}

// relabel changes the labels of a namespace: its objects are stamped again, the
// first at once and the others later.
func (w *world) relabel(name string) {
	w.t.Helper()
	ns := w.namespaces[name]
	ns.rv, ns.labels = w.next(), map[string]string{"n": fmt.Sprint(w.n), "name": name}
	ns.history = append(ns.history, dated{at: time.Now(), labels: ns.labels})
	first := true
	for _, key := range slices.Sorted(maps.Keys(w.objects)) {
		if nsOf(key) != name {
			continue
		}
		if first {
			w.restamp(key)
			first = false
		} else if !slices.Contains(w.stale, key) {
			w.stale = append(w.stale, key)
		}
	}
}

func (w *world) restamp(key string) {
	w.stale = slices.DeleteFunc(w.stale, func(k string) bool { return k == key })
	if w.objects[key] != nil {
		w.append(w.record(key, nil))
	}
}

// step is one thing that happens.
func (w *world) step() {
	w.t.Helper()
	w.n++
	key := keyOf(fmt.Sprintf("ns-%d", w.rng.IntN(4)), w.rng.IntN(40))
	o := w.objects[key]
	body := fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","data":{"n":"%d"}}`, w.n)
	switch p := w.rng.IntN(100); {
	case p < 55 && o != nil:
		w.set(key, &object{uid: o.uid, rv: w.next(), body: body})
	case p < 55:
		w.set(key, &object{uid: fmt.Sprintf("u-%d", w.n), rv: w.next(), body: body})
	case p < 70 && o != nil:
		w.next()
		w.set(key, nil)
	case p < 73 && o != nil: // recreated: the farewell, and the successor
		w.append(w.record(key, func(r *topology.Record) {
			r.Op, r.Body, r.Inferred, r.Version.RV = topology.Delete, nil, true, w.next()
		}))
		w.set(key, &object{uid: fmt.Sprintf("u-%d", w.n), rv: w.next(), body: body})
	case p < 76 && o != nil:
		w.append(w.record(key, func(r *topology.Record) { r.Requested = true }))
	case p < 80:
		w.relabel(nsOf(key))
	case p < 86 && len(w.stale) > 0:
		w.restamp(w.stale[w.rng.IntN(len(w.stale))])
	case p < 91 && len(w.past) > 0 && !w.away:
		w.zombie()
	case p < 93 && len(w.broken) > 0:
		w.repair()
	case p < 94:
		w.reconfigure()
	case p < 95:
		w.beat(time.Now())
	case p < 97:
		w.away = true
	case p < 99:
		w.reconnect()
	case w.rng.IntN(20) == 0:
		w.rewind()
	}
}

// zombie appends something older of a key behind what is newer.
func (w *world) zombie() {
	old := w.past[w.rng.IntN(len(w.past))]
	z := *old
	z.Writer = "zombie"
	if w.rng.IntN(2) == 0 {
		z.ObservedAt = time.Now()
	}
	w.broken[z.Key] = true
	w.put(z.Encode(w.log.Topics.Changes, topology.PartitionOf(z.Key, testPartitions)))
}

func (w *world) repair() {
	for _, key := range slices.Sorted(maps.Keys(w.broken)) {
		w.append(w.record(key, func(r *topology.Record) { r.Repair = true }))
	}
	clear(w.broken)
	w.stale = slices.DeleteFunc(w.stale, func(k string) bool { return w.broken[k] })
}

func (w *world) reconfigure() {
	w.config.Generation++
	w.config.Replication.ForceNamespaceCreation = w.rng.IntN(2) == 0
	w.control(topology.Configured, "", w.config)
}

// rewind restores the source: resourceVersions fall, and objects go back.
func (w *world) rewind() {
	w.reconnect()
	w.epoch++
	w.rv /= 2
	keys := slices.Sorted(maps.Keys(w.objects))
	for _, key := range keys {
		o := *w.objects[key]
		o.rv = w.next()
		w.objects[key] = &o
		w.history[key] = append(w.history[key], dated{at: time.Now(), object: &o})
	}
	for _, name := range slices.Sorted(maps.Keys(w.namespaces)) {
		w.relabel(name)
	}
	for _, key := range keys {
		w.restamp(key)
	}
}

// rest notes a moment at which nothing happens.
func (w *world) rest() {
	time.Sleep(50 * time.Microsecond)
	w.quiet = append(w.quiet, time.Now())
	time.Sleep(50 * time.Microsecond)
}

func (w *world) run(steps int) {
	w.t.Helper()
	for i := range steps {
		w.step()
		if i%7 == 0 {
			w.rest()
		}
	}
	w.reconnect()
	w.repair()
	w.rest()
	w.beat(time.Now())
}

// truth is what the source was at a moment.
func (w *world) truth(at time.Time) map[string]seen {
	last := func(h []dated) (d dated) {
		for _, x := range h {
			if !x.at.After(at) {
				d = x
			}
		}
		return d
	}
	out := map[string]seen{}
	for key, h := range w.history {
		if o := last(h).object; o != nil {
			out[key] = seen{o.uid, o.rv, o.body, last(w.namespaces[nsOf(key)].history).labels}
		}
	}
	return out
}

// told is what a snapshot says.
func told(t testing.TB, s *Snapshot) map[string]seen {
	t.Helper()
	out := map[string]seen{}
	var mu sync.Mutex
	must(t, s.Each(t.Context(), func(r *topology.Record) error {
		mu.Lock()
		defer mu.Unlock()
		if _, twice := out[r.Key]; twice {
			return fmt.Errorf("%s came twice", r.Key)
		}
		out[r.Key] = seen{r.UID, r.Version.RV, string(r.Body), r.NamespaceLabels}
		return nil
	}))
	if len(out) != s.Keys {
		t.Errorf("Each told %d objects, Keys is %d", len(out), s.Keys)
	}
	return out
}

// compare a snapshot at a moment with the truth.
func (w *world) compare(at time.Time) {
	w.t.Helper()
	s, err := w.log.Snapshot(w.t.Context(), at)
	must(w.t, err)
	if at.IsZero() {
		at = time.Now()
	}
	if diff := cmp.Diff(w.truth(at), told(w.t, s)); diff != "" {
		w.t.Fatalf("the source at %s (-truth +told):\n%s", at.Format(time.RFC3339Nano), diff)
	}
	if s.Config.Generation != w.config.Generation {
		w.t.Errorf("configuration of generation %d, want %d", s.Config.Generation, w.config.Generation)
	}
}

// sample are some of the quiet moments, in order.
func (w *world) sample(n int, fits func(time.Time) bool) []time.Time {
	var fit []time.Time
	for _, at := range w.quiet {
		if fits == nil || fits(at) {
			fit = append(fit, at)
		}
	}
	w.rng.Shuffle(len(fit), func(i, j int) { fit[i], fit[j] = fit[j], fit[i] })
	fit = fit[:min(n, len(fit))]
	slices.SortFunc(fit, time.Time.Compare)
	return fit
}

func contextFor(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
