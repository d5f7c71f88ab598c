package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/state/bucket"
	"github.com/afterimage-dr/afterimage/topology"
)

// world stands for the servers and the components.
type world struct {
	mu       sync.Mutex
	uids     map[string]string // by host; "": unreachable
	runs     map[string]int    // starts of the component by LiveSynchronization
	settings map[string]settings.Settings
	fail     atomic.Bool
	brokers  atomic.Bool
	ensured  atomic.Int64
	grown    atomic.Bool // somebody increased the partitions of a topic
	out      *buffer
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) count(s string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.b.String(), s)
}

type fakeCluster struct {
	w    *world
	host string
}

func (c fakeCluster) ClusterUID(context.Context) (string, error) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if uid := c.w.uids[c.host]; uid != "" {
		return uid, nil
	}
	return "", context.DeadlineExceeded
}

type fakeComponent struct {
	w *world
	r *runner
}

func (c fakeComponent) Run(ctx context.Context) error {
	for first := true; ; first = false {
		s, changed := c.r.live.Get()
		id := s.Config.Namespace + "/" + s.Config.Name
		c.w.mu.Lock()
		if first {
			c.w.runs[id]++
		}
		c.w.settings[id] = s
		c.w.mu.Unlock()
		if c.w.fail.Load() {
			return errors.New("boom")
		}
		select {
		case <-ctx.Done():
			c.w.mu.Lock()
			delete(c.w.settings, id)
			c.w.mu.Unlock()
			return nil
		case <-changed:
		}
	}
}

func (c fakeComponent) Report(st *v1alpha1.LiveSynchronizationStatus) {
	st.Components = append(st.Components, v1alpha1.ComponentStatus{Name: "fake", Ready: true})
}

func newWorld() *world {
	w := &world{
		uids: map[string]string{"a": "uid-a", "b": "uid-b"}, runs: map[string]int{}, settings: map[string]settings.Settings{},
		out: &buffer{},
	}
	w.brokers.Store(true)
	return w
}

func (w *world) parts() *parts {
	return &parts{
		ensure: func(context.Context, topology.Topics) ([]string, error) {
			if !w.brokers.Load() {
				return nil, errors.New("no broker answers")
			}
			if w.grown.Load() {
				return nil, fmt.Errorf("topic t has 13 partitions, want 12: %w", stream.ErrPartitionCount)
			}
			w.ensured.Add(1)
			return []string{"topic t: retention.ms differs"}, nil
		},
		topicsPeriod: 20 * time.Millisecond,
		connect:      func(c *rest.Config) (cluster, *kube.Client, error) { return fakeCluster{w, c.Host}, nil, nil },
		logger: func(process, id string, level slog.Leveler) *slog.Logger {
			return logging.New(w.out, level, process, id)
		},
		healthy: func() (bool, string) { return w.brokers.Load(), "" },
		factories: []factory{func(r *runner) *supervised {
			return &supervised{name: "fake", logger: w.logger(), make: func() Component { return fakeComponent{w, r} }}
		}},
	}
}

func (w *world) logger() *slog.Logger { return logging.New(w.out, slog.LevelInfo, "fake", "") }

func (w *world) of(id string) (runs int, s settings.Settings, running bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, running = w.settings[id]
	return w.runs[id], s, running
}

func sync1(name string, change ...func(*LiveSync)) LiveSync {
	l := LiveSync{
		Settings: settings.Settings{Config: topology.Config{Namespace: "ns", Name: name}},
		Source:   &rest.Config{Host: "a"}, Destination: &rest.Config{Host: "b"},
	}
	for _, c := range change {
		c(&l)
	}
	return l
}

// begin starts a pipeline that stops with the test.
func begin(t *testing.T, w *world, syncs ...LiveSync) *Pipeline {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p, err := Start(ctx, Options{DataDir: t.TempDir(), Output: w.out, Version: "v0", parts: w.parts()}, syncs)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := p.Wait(); err != nil {
			t.Error(err)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.settings) > 0 {
			t.Errorf("components still run after Wait: %v", w.settings)
		}
	})
	return p
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func TestReload(t *testing.T) {
	w := newWorld()
	p := begin(t, w, sync1("one"), sync1("two"))
	eventually(t, "both run", func() bool {
		_, _, one := w.of("ns/one")
		_, _, two := w.of("ns/two")
		return one && two
	})

	// Suspending one, replacing two by three.
	if err := p.Apply([]LiveSync{
		sync1("one", func(l *LiveSync) { l.Settings.Suspend = true }),
		sync1("three"),
	}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the settings arrive, two has ended, three runs", func() bool {
		_, s, one := w.of("ns/one")
		_, _, two := w.of("ns/two")
		_, _, three := w.of("ns/three")
		return one && s.Suspend && !two && three
	})
	if runs, s, _ := w.of("ns/one"); runs != 1 || s.Config.DestinationUID != "uid-b" {
		t.Errorf("one was started %d times and knows destination %q; want once, and what was learned kept", runs, s.Config.DestinationUID)
	}
	var states []string
	for _, l := range p.Status().LiveSynchronizations {
		states = append(states, l.Name+" "+l.Status.State)
	}
	if got := strings.Join(states, ", "); got != "one Suspended, three Progressing" {
		t.Errorf("status: %s", got)
	}

	// Other credentials: the components have to start over.
	if err := p.Apply([]LiveSync{
		sync1("one", func(l *LiveSync) { l.Source = &rest.Config{Host: "a", BearerToken: "new"} }),
		sync1("three"),
	}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "one is started again", func() bool { runs, s, ok := w.of("ns/one"); return ok && runs == 2 && !s.Suspend })
	if runs, _, _ := w.of("ns/three"); runs != 1 {
		t.Errorf("three was started %d times, want once", runs)
	}
}

func TestBucketChanges(t *testing.T) {
	w := newWorld()
	with := func(b *bucket.Options) LiveSync { return sync1("a", func(l *LiveSync) { l.Bucket = b }) }
	p := begin(t, w, with(&bucket.Options{Endpoint: "s3", Name: "b", SecretAccessKey: "old"}))
	eventually(t, "it runs", func() bool { runs, _, running := w.of("ns/a"); return running && runs == 1 })
	if err := p.Apply([]LiveSync{with(&bucket.Options{Endpoint: "s3", Name: "b", SecretAccessKey: "new"})}); err != nil {
		t.Fatal(err)
	}
	if got := p.snapshot()["ns/a"].(*runner).bucket.Load().SecretAccessKey; got != "new" {
		t.Errorf("the key is %q", got)
	}
	if runs, _, _ := w.of("ns/a"); runs != 1 {
		t.Errorf("a new key restarted everything: %d runs", runs)
	}
	for i, b := range []*bucket.Options{{Endpoint: "s3", Name: "another"}, nil, {Endpoint: "s3", Name: "b"}} {
		if err := p.Apply([]LiveSync{with(b)}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "another bucket, or none, restarts", func() bool { runs, _, running := w.of("ns/a"); return running && runs == i+2 })
	}
}

func TestManifestsInError(t *testing.T) {
	w := newWorld()
	p := begin(t, w, sync1("one"))
	for range 3 {
		p.ConfigError(errors.New("a.yaml: spec.plugin: unknown"))
	}
	if m := p.Status().Manifests; m.Error != "a.yaml: spec.plugin: unknown" || m.Since == nil {
		t.Errorf("status of the manifests: %+v", m)
	}
	if n := w.out.count("the last good ones stay in effect"); n != 1 {
		t.Errorf("said %d times, want once", n)
	}
	if err := p.Apply([]LiveSync{sync1("one")}); err != nil {
		t.Fatal(err)
	}
	if m := p.Status().Manifests; m.Error != "" || m.Since != nil {
		t.Errorf("status of the manifests after they were mended: %+v", m)
	}
}

func TestBrokersDown(t *testing.T) {
	w := newWorld()
	w.brokers.Store(false)
	p := begin(t, w, sync1("one"))
	eventually(t, "status shows it", func() bool {
		s := p.Status()
		c := s.LiveSynchronizations[0].Status.Conditions[0]
		return !s.Stream.Ready && c.Type == "Ready" && c.Reason == "StreamTopicsMissing" && strings.Contains(c.Message, "no broker answers")
	})
	time.Sleep(1500 * time.Millisecond) // a few attempts
	if _, _, running := w.of("ns/one"); running {
		t.Error("the component runs although there are no topics")
	}
	if n := w.out.count("topics cannot be found or made"); n != 1 {
		t.Errorf("said %d times, want once", n)
	}
	w.brokers.Store(true)
	eventually(t, "it begins by itself", func() bool { _, _, ok := w.of("ns/one"); return ok })
	if s := p.Status().Stream; len(s.Warnings) != 1 {
		t.Errorf("warnings in status: %v", s.Warnings)
	}
}

// FAULTS 18: a key would have records in two partitions.
func TestPartitionsIncreasedWhileRunning(t *testing.T) {
	w := newWorld()
	p := begin(t, w, sync1("one"))
	eventually(t, "it runs", func() bool { _, _, ok := w.of("ns/one"); return ok })
	n := w.ensured.Load()
	eventually(t, "the topics are looked at again", func() bool { return w.ensured.Load() > n+1 })
	w.brokers.Store(false)
	time.Sleep(100 * time.Millisecond)
	if _, _, running := w.of("ns/one"); !running {
		t.Fatal("stopped by a broker outage")
	}
	w.grown.Store(true)
	w.brokers.Store(true)
	eventually(t, "nothing runs any more", func() bool { _, _, running := w.of("ns/one"); return !running })
	eventually(t, "status says why", func() bool {
		s := p.Status().LiveSynchronizations[0].Status
		c := s.Conditions[0]
		return s.State == v1alpha1.StateFailed && c.Reason == "PartitionCountChanged" && strings.Contains(c.Message, "13 partitions, want 12")
	})
}

func TestComponentIsStartedAgain(t *testing.T) {
	w := newWorld()
	w.fail.Store(true)
	p := begin(t, w, sync1("one"))
	eventually(t, "it is started again and shown", func() bool {
		runs, _, _ := w.of("ns/one")
		c := p.Status().LiveSynchronizations[0].Status.Components
		return runs >= 2 && len(c) == 1 && !c[0].Ready && c[0].Reason == "Restarting" && c[0].Message == "boom"
	})
	w.fail.Store(false)
	eventually(t, "it runs", func() bool {
		c := p.Status().LiveSynchronizations[0].Status.Components
		return len(c) == 1 && c[0].Ready
	})
	if n := w.out.count("component ended"); n != 1 {
		t.Errorf("said %d times, want once", n)
	}
}

func TestOneClusterForBoth(t *testing.T) {
	w := newWorld()
	w.uids["b"] = "uid-a"
	p := begin(t, w, sync1("one"))
	eventually(t, "it is halted", func() bool {
		s := p.Status().LiveSynchronizations[0].Status
		return s.State == v1alpha1.StateFailed && strings.Contains(s.Conditions[0].Message, "the same cluster")
	})
	eventually(t, "nothing runs", func() bool { _, _, running := w.of("ns/one"); return !running })
	if err := p.Apply([]LiveSync{sync1("one", func(l *LiveSync) { l.Destination = &rest.Config{Host: "c"} })}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another destination: unreachable, not failed", func() bool {
		c := p.Status().LiveSynchronizations[0].Status.Conditions[0]
		return c.Reason == "DestinationUnreachable"
	})
}

func TestDataDirIsHeldByOne(t *testing.T) {
	w := newWorld()
	p := begin(t, w)
	_, err := Start(context.Background(), Options{DataDir: p.dir.path, parts: w.parts()}, nil)
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "choose another --data-dir") {
		t.Errorf("a second process: %v", err)
	}
}

func TestInstanceSurvivesRestarts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	var names []string
	for range 2 {
		d, err := openDataDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, d.instance)
		d.close()
	}
	if names[0] != names[1] || names[0] == "" {
		t.Errorf("instances %q: want one name", names)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("data directory: %v, %v; want mode 0700", info, err)
	}
}

// Trouble that is not damage must not cost what is remembered.
func TestMemoryIsKeptInPassingTrouble(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	other, err := state.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	p := state.PartitionID{Number: 1}
	if err := other.Stage("s").Change(p).Commit(&state.Position{Offset: 7}); err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	if m, err := openState(dir, logger); err == nil {
		_ = m.Close()
		t.Error("opened a memory that is in use")
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	m, err := openState(dir, logger)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	if pos, ok, err := m.Stage("s").Position(p); err != nil || !ok || pos.Offset != 7 {
		t.Errorf("position %v, %v, %v: what was remembered is gone", pos, ok, err)
	}
}

// After a power loss the log may have given offsets again: a position from before,
// though it lies within the log, would pass over the records that stand there now.
func TestMemoryGoesWithALogThatMayBeCut(t *testing.T) {
	path := t.TempDir()
	stored := func(when string) bool {
		t.Helper()
		dir, err := openDataDir(path)
		if err != nil {
			t.Fatal(err)
		}
		defer dir.close()
		_, closeAll, err := open(Options{Output: io.Discard}, dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(when, err)
		}
		closeAll()
		memory, err := state.Open(filepath.Join(path, stateDir))
		if err != nil {
			t.Fatal(when, err)
		}
		defer func() { _ = memory.Close() }()
		stage, p := memory.Stage("s"), state.PartitionID{Number: 1}
		_, ok, err := stage.Position(p)
		if err == nil {
			err = stage.Change(p).Commit(&state.Position{Offset: 7})
		}
		if err != nil {
			t.Fatal(when, err)
		}
		return ok
	}
	if stored("new") || !stored("again") {
		t.Fatal("the memory does not survive a restart")
	}
	if err := os.WriteFile(filepath.Join(path, logDir, "running"), []byte("another boot"), 0o600); err != nil {
		t.Fatal(err)
	}
	if stored("went down") {
		t.Error("a position from before the machine went down is still there")
	}
	if !stored("after that") {
		t.Error("the memory was dropped twice")
	}
}
