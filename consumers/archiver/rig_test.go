package archiver

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/afterimage-dr/afterimage/internal/breaker"
	"github.com/afterimage-dr/afterimage/internal/live"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/state/bucket"
	"github.com/afterimage-dr/afterimage/topology"
)

// fataler is a *testing.T or a *rapid.T.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
}

// rig is a log with the topics of a LiveSynchronization, a state, a bucket, and
// the eventslistener's part played by hand.
type rig struct {
	fataler
	ctx        context.Context
	embedded   *stream.Embedded
	log        *stream.Client
	topics     topology.Topics
	partitions int32
	writer     *stream.Writer
	dir        string
	store      *state.Store
	bucket     *fake
	open       func(bucket.Options) (store, error)
	options    *live.Value[bucket.Options]
	settings   *settings.Live
	fault      func(string) error
	yield      func() bool
	limit      breaker.Limit
	maxAge     time.Duration
	lines      *lines
	level      slog.Level

	a    *Archiver
	stop func()

	rv, generation, epoch int64
}

// lines are what was logged.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// with returns the lines of a message.
func (l *lines) with(msg string) (out []map[string]any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		var m map[string]any
		if json.Unmarshal([]byte(line), &m) == nil && m["msg"] == msg {
			out = append(out, m)
		}
	}
	return out
}

func newSettings() *settings.Live {
	return live.New(settings.Settings{
		Config: topology.Config{Namespace: "dr", Name: "ls"},
		Bucket: settings.Asset{Name: "originals", Namespace: "dr", ResourceVersion: "7", UID: "bucket-uid"},
	})
}

func newRig(t *testing.T) *rig {
	t.Helper()
	return newRigIn(t, t.TempDir(), t.Cleanup)
}

func newRigIn(f fataler, dir string, cleanup func(func())) *rig {
	e, err := stream.StartEmbedded(filepath.Join(dir, "log"))
	if err != nil {
		f.Fatalf("starting the broker: %v", err)
	}
	cleanup(func() { _ = e.Close() })
	r := newRigOn(f, e.Dial(), "ls", dir, cleanup)
	r.embedded = e
	return r
}

// newRigOn is a rig on brokers that are there.
func newRigOn(f fataler, dial stream.Dial, name, dir string, cleanup func(func())) *rig {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	cleanup(cancel)
	c, err := stream.NewClient(dial, "test")
	if err != nil {
		f.Fatalf("client: %v", err)
	}
	cleanup(c.Close)
	r := &rig{
		fataler: f, ctx: ctx, log: c, topics: topology.TopicsFor("dr", name), partitions: 3, dir: filepath.Join(dir, "state"),
		bucket: newFake(), options: live.New(bucket.Options{Endpoint: "s3", Name: "b"}), settings: newSettings(), rv: 100, epoch: 1,
		lines: &lines{}, level: slog.LevelDebug,
	}
	v := r.settings.Load()
	v.Config.Name = name
	r.settings.Set(v)
	r.open = func(bucket.Options) (store, error) { return r.bucket, nil }
	r.ensure()
	if r.writer, err = c.Writer(); err != nil {
		f.Fatalf("writer: %v", err)
	}
	cleanup(r.writer.Close)
	r.openState()
	cleanup(r.closeState)
	cleanup(r.kill)
	return r
}

func (r *rig) ensure() {
	r.Helper()
	settings := stream.TopicSettings{Partitions: r.partitions, Replication: -1, Configs: map[string]string{"cleanup.policy": "compact"}}
	if _, err := r.log.Ensure(r.ctx, r.topics.Changes, settings); err != nil {
		r.Fatalf("ensuring changes: %v", err)
	}
}

func (r *rig) recreate() {
	r.Helper()
	if err := r.log.Delete(r.ctx, r.topics.Changes); err != nil {
		r.Fatalf("deleting changes: %v", err)
	}
	r.ensure()
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

// start runs the archiver, its partitions given by hand as the group would, again
// after every error.
func (r *rig) start() {
	r.Helper()
	r.a = New(Options{
		Settings: r.settings, Bucket: r.options, Log: r.log, Topics: r.topics, State: r.store.Stage("archiver"),
		Logger: r.logger(), InstanceID: "a",
		RetryMin: 20 * time.Millisecond, RetryMax: 200 * time.Millisecond, ProbeEvery: 50 * time.Millisecond,
		MaxPositionAge: r.maxAge, open: r.open, limit: r.limit, fault: r.fault, Yield: r.yield,
	})
	ctx, cancel := context.WithCancel(r.ctx)
	var wg sync.WaitGroup
	a := r.a
	for _, run := range []func(context.Context) error{
		a.watchSettings, a.health.run, a.health.watchBucket, a.health.watchSuspension, a.resync.run,
	} {
		wg.Go(func() { _ = run(ctx) })
	}
	a.setServing(true, nil)
	for n := range r.partitions {
		wg.Go(func() {
			for ctx.Err() == nil {
				if p, err := r.log.Bounds(ctx, r.topics.Changes, n); err == nil {
					_ = a.assigned(ctx, stream.NewAssignment(p, nil, nil))
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	r.stop = func() { cancel(); wg.Wait() }
}

func (r *rig) logger() *slog.Logger { return logging.New(r.lines, r.level, Component, "c") }

// kill ends it wherever it is.
func (r *rig) kill() {
	if r.stop != nil {
		r.stop()
		r.stop = nil
	}
}

// partitionOf a record key among the rig's partitions.
func (r *rig) partitionOf(key string) int32 { return topology.PartitionOf(key, r.partitions) }

func (r *rig) append(rec *topology.Record) {
	r.Helper()
	if topology.IsControl(rec.Key) {
		for n := range r.partitions {
			r.appendTo(n, rec)
		}
		return
	}
	r.appendTo(r.partitionOf(rec.Key), rec)
}

func (r *rig) appendTo(n int32, rec *topology.Record) {
	r.Helper()
	err := r.writer.AppendSync(r.ctx, rec.Encode(r.topics.Changes, n))
	for range 100 { // the first after a recreation says so
		if err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
		err = r.writer.AppendSync(r.ctx, rec.Encode(r.topics.Changes, n))
	}
	r.Fatalf("append: %v", err)
}

// configure appends a configuration with the given replication (JSON).
func (r *rig) configure(replication string) topology.Config {
	r.Helper()
	r.generation++
	c := topology.Config{Namespace: "dr", Name: r.settings.Load().Config.Name, Generation: r.generation, SourceUID: "src", DestinationUID: "dst"}
	if err := json.Unmarshal([]byte(replication), &c.Replication); err != nil {
		r.Fatalf("replication: %v", err)
	}
	body, err := json.Marshal(c)
	if err != nil {
		r.Fatalf("config: %v", err)
	}
	r.append(&topology.Record{Key: topology.ControlKey(topology.Configured, ""), Kind: topology.Configured, Body: body, Writer: "listener"})
	return c
}

const (
	everything = `{"resources":[{"version":"v1","resource":"configmaps"}]}`
	onlyA      = `{"resources":[{"version":"v1","resource":"configmaps","filters":{"nameSelector":{"regex":["a.*"]}}}]}`
	labelled   = `{"resources":[{"version":"v1","resource":"configmaps","filters":{"namespaceSelector":{"matchLabels":{"dr":"on"}}}}]}`
	another    = `{"resources":[{"version":"v1","resource":"services"}]}`
	broken     = `{"resources":[{"version":"v1","resource":"configmaps","transformation":{"patch":[{"op":"remove","path":"/data/nothing"}]}}]}`
	invalid    = `{"resources":[]}`
)

func key(name string) string { return "core/v1/configmaps/ns/" + name }

func (r *rig) version() topology.Version {
	r.rv++
	return topology.Version{Epoch: r.epoch, RV: strconv.FormatInt(r.rv, 10), NamespaceRV: "7"}
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

func (r *rig) put(name, data string) { r.Helper(); r.append(r.object(name, data)) }
func (r *rig) remove(name string)    { r.Helper(); r.append(r.tombstone(name)) }

func (r *rig) listed() {
	r.Helper()
	r.append(&topology.Record{
		Key: topology.ControlKey(topology.Listed, "core/v1/configmaps"), Kind: topology.Listed, Version: r.version(),
		Body: fmt.Appendf(nil, `{"resourceVersion":"%d","fresh":true}`, r.rv), Writer: "listener",
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

// settle waits until everything in the log is done and committed.
func (r *rig) settle() {
	r.Helper()
	r.eventually("everything in the log is done", r.idle)
}

func (r *rig) idle() bool {
	all, err := r.log.Partitions(r.ctx, r.topics.Changes)
	if err != nil {
		return false
	}
	at := map[int32]int64{}
	for _, p := range r.a.working() {
		p.mu.Lock()
		if p.caughtUp && len(p.lanes) == 0 && p.id.TopicID == all[p.number].TopicID {
			at[p.number] = p.committed
		}
		p.mu.Unlock()
	}
	for _, p := range all {
		if end, ok := at[p.Number]; !ok || end < p.End {
			return false
		}
	}
	return true
}

// compared waits for a comparison that begins now, and for what it brings about.
func (r *rig) compared() {
	r.Helper()
	before := r.a.Counts().Compared
	r.eventually("the bucket is compared", func() bool {
		r.a.Compare()
		time.Sleep(20 * time.Millisecond)
		// One may have been under way.
		return r.a.Counts().Compared >= before+2
	})
	r.settle()
}

// want waits until the bucket holds exactly that.
func (r *rig) want(reason string, want map[string]string) {
	r.Helper()
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline) && !maps.Equal(r.bucket.holds(), want); {
		time.Sleep(5 * time.Millisecond)
	}
	if got := r.bucket.holds(); !maps.Equal(got, want) {
		r.Fatalf("%s: the bucket holds %v, want %v", reason, got, want)
	}
	r.bucket.mu.Lock()
	defer r.bucket.mu.Unlock()
	if len(r.bucket.broken) > 0 {
		r.Fatalf("%s: %v", reason, r.bucket.broken)
	}
}

func (r *rig) set(change func(*settings.Settings)) {
	v := r.settings.Load()
	change(&v)
	r.settings.Set(v)
}

type m = map[string]string
