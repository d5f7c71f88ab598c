package synchronization

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/internal/manifest"
	"github.com/afterimage-dr/afterimage/internal/status"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

// rig is a log in a folder, and the processes on it. Its time is that of synctest:
// hours pass in milliseconds.
type runsRig struct {
	*testing.T
	embedded *stream.Embedded
	plugin   *fakePlugin
	logs     *syncBuffer
	// topicPeriod of processes; 0: the default.
	topicPeriod time.Duration
	// patience of until; 0: ten minutes.
	patience time.Duration
}

// bubble runs a test with a rig, under a time of its own.
func bubble(t *testing.T, test func(r *runsRig)) {
	t.Helper()
	bubbleAt(t, time.Time{}, test)
}

// bubbleAt is bubble from a moment on.
func bubbleAt(t *testing.T, from time.Time, test func(r *runsRig)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(from))
		e, err := stream.StartEmbedded(dir)
		if err != nil {
			t.Fatal(err)
		}
		r := &runsRig{T: t, embedded: e, plugin: &fakePlugin{takes: time.Second}, logs: &syncBuffer{}}
		test(r)
		if err := r.embedded.Close(); err != nil {
			t.Error(err)
		}
	})
}

// process is one process of Afterimage.
type process struct {
	*Service
	r      *runsRig
	ctx    context.Context
	client *stream.Client
	cancel context.CancelFunc
}

// start a process under a name, with manifests.
func (r *runsRig) start(instance string, set *manifest.Set) *process {
	r.Helper()
	client, err := stream.NewClient(r.embedded.Dial(), instance)
	if err != nil {
		r.Fatal(err)
	}
	client.SetLogger(slog.New(slog.DiscardHandler))
	p := &process{r: r, client: client, Service: New(Options{
		Log: client, Instance: instance, Plugins: map[string]Plugin{v1alpha1.PluginZooKeeper: r.plugin.attempt},
		Logger: slog.New(slog.NewTextHandler(r.logs, nil)), topicPeriod: r.topicPeriod,
	})}
	p.ctx, p.cancel = context.WithCancel(r.Context())
	p.Apply(p.ctx, set)
	return p
}

// end it as a signal does. What the log says of its runs is as after a SIGKILL.
func (p *process) end() {
	p.cancel()
	p.Wait()
	p.client.Close()
}

// until waits for something.
func (r *runsRig) until(what string, so func() bool) {
	r.Helper()
	for deadline := time.Now().Add(cmp.Or(r.patience, 10*time.Minute)); !so(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.Fatalf("never: %s\n%s", what, r.logs)
		}
	}
}

// minute waits for a moment within a minute, since the begin of the next one.
func (r *runsRig) minute(seconds int) {
	now := time.Now()
	time.Sleep(now.Truncate(time.Minute).Add(time.Minute + time.Duration(seconds)*time.Second).Sub(now))
}

// states of runs as name state, of a process' status.
func (p *process) states() []string {
	_, runs := p.Status()
	out := []string{}
	for _, s := range runs {
		out = append(out, s.Name+" "+s.Status.State)
	}
	return out
}

func (p *process) plan() status.SynchronizationPlan {
	plans, _ := p.Status()
	if len(plans) != 1 {
		p.r.Fatalf("%d plans, want 1", len(plans))
	}
	return plans[0]
}

// logged are the keys the log holds, with the states of the runs among them.
func (r *runsRig) logged(namespace string) []string {
	r.Helper()
	client, err := stream.NewClient(r.embedded.Dial(), "look")
	if err != nil {
		r.Fatal(err)
	}
	defer client.Close()
	topic := topology.RunsTopic(namespace)
	b, err := client.Bounds(r.Context(), topic, 0)
	if errors.Is(err, stream.ErrNoTopic) {
		return nil
	}
	if err != nil {
		r.Fatal(err)
	}
	last := map[string]string{}
	err = client.Read(r.Context(), topic, 0, 0, b.End, func(rec *kgo.Record) error {
		var s v1alpha1.Synchronization
		if len(rec.Value) == 0 {
			delete(last, string(rec.Key))
			return nil
		}
		last[string(rec.Key)] = ""
		if !topology.IsRunsPlanKey(string(rec.Key)) {
			if err := json.Unmarshal(rec.Value, &s); err != nil {
				return err
			}
			last[string(rec.Key)] = s.Status.State
		}
		return nil
	})
	if err != nil {
		r.Fatal(err)
	}
	out := []string{}
	for key, state := range last {
		out = append(out, strings.TrimSpace(key+" "+state))
	}
	slices.Sort(out)
	return out
}

// fakePlugin takes a while, and remembers what it was asked for.
type fakePlugin struct {
	mu    sync.Mutex
	takes time.Duration
	fails error
	// begun and done are the names of the runs, in order.
	begun, done []string
	running     int
	most        int
}

func (f *fakePlugin) attempt(_ *manifest.Set, s *v1alpha1.Synchronization) (Attempt, error) {
	return func(ctx context.Context, progress func(v1alpha1.SynchronizationResult)) (Outcome, error) {
		f.mu.Lock()
		takes, fails := f.takes, f.fails
		f.begun = append(f.begun, s.Name)
		f.running++
		f.most = max(f.most, f.running)
		f.mu.Unlock()
		defer func() {
			f.mu.Lock()
			f.running--
			f.mu.Unlock()
		}()
		progress(v1alpha1.SynchronizationResult{Created: 1})
		select {
		case <-ctx.Done():
			return Outcome{}, ctx.Err()
		case <-time.After(takes):
		}
		if fails != nil {
			return Outcome{}, fails
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.done = append(f.done, s.Name)
		return Outcome{Result: v1alpha1.SynchronizationResult{Created: 2}}, nil
	}, nil
}

func (f *fakePlugin) set(takes time.Duration, fails error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.takes, f.fails = takes, fails
}

func (f *fakePlugin) lists() (begun, done []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.begun), slices.Clone(f.done)
}

// syncBuffer takes the log lines of several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func oneOff(name string) *v1alpha1.Synchronization {
	s := wanted(name, 0, 0)
	s.Spec.Config.RootPath = "/test"
	return s
}

// every is a plan with a schedule.
func every(schedule string, change ...func(*v1alpha1.SynchronizationPlanSpec)) *v1alpha1.SynchronizationPlan {
	p := &v1alpha1.SynchronizationPlan{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "plan"}}
	p.Spec.Schedule, p.Spec.TimeZone = schedule, "Etc/UTC"
	p.Spec.Template.Spec = oneOff("").Spec
	for _, c := range change {
		c(&p.Spec)
	}
	return p
}

func plans(all ...*v1alpha1.SynchronizationPlan) *manifest.Set {
	return &manifest.Set{SynchronizationPlans: all}
}

func manifests(all ...*v1alpha1.Synchronization) *manifest.Set {
	return &manifest.Set{Synchronizations: all}
}

// runAt is the name of the run of a moment.
func runAt(t time.Time) string { return fmt.Sprintf("plan-%d", t.Unix()/60) }
