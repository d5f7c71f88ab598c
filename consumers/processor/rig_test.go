package processor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/breaker"
	"github.com/afterimage-dr/afterimage/internal/live"
	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// fataler is a *testing.T or a *rapid.T.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
}

// rig is an embedded broker with the topics of a LiveSynchronization (one
// partition each), a state, and the eventslistener's part played by hand.
type rig struct {
	fataler
	ctx      context.Context
	embedded *stream.Embedded
	log      *stream.Client
	topics   topology.Topics
	writer   *stream.Writer
	dir      string
	store    *state.Store
	fault    func(string) error
	logTo    io.Writer
	maxAge   time.Duration
	limit    breaker.Limit
	settings *settings.Live

	p    *Processor
	stop func()

	rv, generation, beat, incarnation int64
}

func newSettings() *settings.Live {
	return live.New(settings.Settings{Config: topology.Config{Namespace: "dr", Name: "ls"}})
}

func newRig(t *testing.T) *rig {
	t.Helper()
	return newRigIn(t, t, t.TempDir(), t.Cleanup)
}

func newRigIn(tb testing.TB, f fataler, dir string, cleanup func(func())) *rig {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	cleanup(cancel)
	e, err := stream.StartEmbedded(filepath.Join(dir, "log"))
	if err != nil {
		f.Fatalf("starting the broker: %v", err)
	}
	cleanup(func() { _ = e.Close() })
	c, err := stream.NewClient(e.Dial(), "test")
	if err != nil {
		f.Fatalf("client: %v", err)
	}
	cleanup(c.Close)
	r := &rig{fataler: f, ctx: ctx, embedded: e, log: c, topics: topology.TopicsFor("dr", "ls"), dir: filepath.Join(dir, "state"), logTo: tb.Output(), settings: newSettings(), rv: 100, beat: time.Now().Unix()}
	for _, topic := range r.topics.All() {
		r.ensure(topic)
	}
	if r.writer, err = c.Writer(); err != nil {
		f.Fatalf("writer: %v", err)
	}
	cleanup(r.writer.Close)
	cleanup(r.kill)
	r.openState()
	cleanup(r.closeState)
	return r
}

func (r *rig) ensure(topic string) {
	r.Helper()
	settings := stream.TopicSettings{Partitions: 1, Replication: -1, Configs: map[string]string{"cleanup.policy": "compact"}}
	if _, err := r.log.Ensure(r.ctx, topic, settings); err != nil {
		r.Fatalf("ensuring %s: %v", topic, err)
	}
}

func (r *rig) recreate(topic string) {
	r.Helper()
	if err := r.log.Delete(r.ctx, topic); err != nil {
		r.Fatalf("deleting %s: %v", topic, err)
	}
	r.ensure(topic)
}

func (r *rig) openState() {
	s, err := state.OpenWith(r.dir, slog.New(slog.DiscardHandler))
	if err != nil {
		r.Fatalf("opening the state: %v", err)
	}
	r.store = s
}

func (r *rig) closeState() {
	if r.store != nil {
		_ = r.store.Close()
		r.store = nil
	}
}

// wipe loses the state.
func (r *rig) wipe() {
	r.closeState()
	r.dir += "x"
	r.openState()
}

// start runs the partition as the group would, again after every error.
func (r *rig) start() {
	r.Helper()
	r.incarnation++
	r.p = New(Options{
		Settings: r.settings, Log: r.log, Topics: r.topics, State: r.store.Stage("processor"),
		Logger: slog.New(slog.NewTextHandler(r.logTo, nil)), InstanceID: "a", Incarnation: fmt.Sprintf("processor-%d", r.incarnation),
		LookBehind: 20 * time.Millisecond, MaxPositionAge: r.maxAge, Settle: 20 * time.Millisecond, limit: r.limit, fault: r.fault,
	})
	ctx, cancel := context.WithCancel(r.ctx)
	done := make(chan struct{})
	w, err := r.log.Writer()
	if err != nil {
		r.Fatalf("writer: %v", err)
	}
	r.p.writer = w
	r.p.setServing(true, nil)
	go func() {
		defer close(done)
		defer w.Close()
		for ctx.Err() == nil {
			p, err := r.log.Bounds(ctx, r.topics.Changes, 0)
			if err == nil {
				_ = r.p.assigned(ctx, stream.NewAssignment(p, nil, nil))
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	r.stop = func() { cancel(); <-done }
}

// kill ends it wherever it is.
func (r *rig) kill() {
	if r.stop != nil {
		r.stop()
		r.stop = nil
	}
}

func (r *rig) append(topic string, recs ...*topology.Record) {
	r.Helper()
	for _, rec := range recs {
		err := r.writer.AppendSync(r.ctx, rec.Encode(topic, 0))
		for range 100 { // the first after a recreation says so
			if err == nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
			err = r.writer.AppendSync(r.ctx, rec.Encode(topic, 0))
		}
		if err != nil {
			r.Fatalf("append: %v", err)
		}
	}
}

// configure appends a configuration with the given replication (JSON).
func (r *rig) configure(replication string) {
	r.Helper()
	r.generation++
	c := topology.Config{Namespace: "dr", Name: "ls", Generation: r.generation, SourceUID: "src", DestinationUID: "dst"}
	if err := json.Unmarshal([]byte(replication), &c.Replication); err != nil {
		r.Fatalf("replication: %v", err)
	}
	body, err := json.Marshal(c)
	if err != nil {
		r.Fatalf("config: %v", err)
	}
	r.append(r.topics.Changes, &topology.Record{Key: topology.ControlKey(topology.Configured, ""), Kind: topology.Configured, Body: body, Writer: "listener"})
}

func key(name string) string { return "core/v1/configmaps/ns/" + name }

func (r *rig) version() topology.Version {
	r.rv++
	return topology.Version{Epoch: 1, RV: strconv.FormatInt(r.rv, 10), NamespaceRV: "7"}
}

func (r *rig) object(name, data string) *topology.Record {
	v := r.version()
	body := fmt.Sprintf(`{"apiVersion":"v1","data":{"v":%q},"kind":"ConfigMap","metadata":{"name":%q,"namespace":"ns","resourceVersion":%q}}`, data, name, v.RV)
	return &topology.Record{
		Key: key(name), Kind: topology.Object, Op: topology.Update, Version: v, UID: "uid-" + name, Body: []byte(body),
		NamespaceLabels: map[string]string{"dr": "on"}, ObservedAt: time.Now(), Writer: "listener",
	}
}

func (r *rig) tombstone(name string) *topology.Record {
	return &topology.Record{Key: key(name), Kind: topology.Object, Op: topology.Delete, Version: r.version(), UID: "uid-" + name, Writer: "listener"}
}

func (r *rig) put(name, data string) { r.Helper(); r.append(r.topics.Changes, r.object(name, data)) }
func (r *rig) remove(name string)    { r.Helper(); r.append(r.topics.Changes, r.tombstone(name)) }

func (r *rig) listed() {
	r.Helper()
	r.append(r.topics.Changes, &topology.Record{
		Key: topology.ControlKey(topology.Listed, "core/v1/configmaps"), Kind: topology.Listed, Version: r.version(),
		Body: fmt.Appendf(nil, `{"resourceVersion":"%d","fresh":true}`, r.rv), Writer: "listener",
	})
}

// settle appends a heartbeat and waits until it has reached desired: everything
// before it has then been processed.
func (r *rig) settle() {
	r.Helper()
	r.beat++
	at := time.Unix(r.beat, 0).UTC()
	heartbeat := topology.ControlKey(topology.Heartbeat, "")
	r.append(r.topics.Changes, &topology.Record{Key: heartbeat, Kind: topology.Heartbeat, VerifiedAt: at, Writer: "listener"})
	r.eventually("the heartbeat reaches desired", func() bool {
		for _, rec := range r.read(r.topics.Desired) {
			if rec.Key == heartbeat && rec.VerifiedAt.Equal(at) {
				return true
			}
		}
		return false
	})
}

func (r *rig) eventually(what string, ok func() bool) {
	r.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(3 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.Fatalf("not within 20 s: %s", what)
		}
	}
}

// read returns a topic's records.
func (r *rig) read(topic string) []topology.Record {
	r.Helper()
	return r.readPartition(topic, 0)
}

func (r *rig) readPartition(topic string, number int32) (out []topology.Record) {
	r.Helper()
	p, err := r.log.Bounds(r.ctx, topic, number)
	if err != nil {
		r.Fatalf("bounds: %v", err)
	}
	err = r.log.Read(r.ctx, topic, number, p.Start, p.End, func(k *kgo.Record) error {
		rec, err := topology.Decode(k)
		out = append(out, rec)
		return err
	})
	if err != nil {
		r.Fatalf("reading %s: %v", topic, err)
	}
	return out
}

// desired is what the desired log holds: name → data of each live object ("held"
// for a held one).
func (r *rig) desired() map[string]string {
	r.Helper()
	out := map[string]string{}
	for _, rec := range r.read(r.topics.Desired) {
		if rec.Kind != topology.Object {
			continue
		}
		k, err := topology.ParseKey(rec.Key)
		if err != nil {
			r.Fatalf("%v", err)
		}
		switch {
		case rec.Op == topology.Hold:
			out[k.Name] = "held"
		case rec.Body == nil:
			delete(out, k.Name)
		default:
			var o struct{ Data map[string]string }
			if err := json.Unmarshal(rec.Body, &o); err != nil {
				r.Fatalf("%s: %v", rec.Key, err)
			}
			out[k.Name] = o.Data["v"] + o.Data["p"]
		}
	}
	return out
}

// objects counts the object records of a topic.
func (r *rig) objects(topic string) (n int) {
	for _, rec := range r.read(topic) {
		if rec.Kind == topology.Object {
			n++
		}
	}
	return n
}

// wantSoon is want for a repair: it is appended once the batch that showed the
// foreign record is acknowledged, and a heartbeat may be in that very batch.
func (r *rig) wantSoon(reason string, want map[string]string) {
	r.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline) && !maps.Equal(r.desired(), want); {
		time.Sleep(20 * time.Millisecond)
	}
	r.want(reason, want)
}

func (r *rig) want(reason string, want map[string]string) {
	r.Helper()
	if got := r.desired(); !maps.Equal(got, want) {
		r.Fatalf("%s: desired holds %v, want %v", reason, got, want)
	}
}
