package nodecopy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/topology"
)

// A compacted log holds the same tree: copied on, and copied from the log alone when
// the source is gone.
func TestCompacted(t *testing.T) {
	e := newEnv(t)
	r := rand.New(rand.NewPCG(23, 24))
	paths := e.source.grow("/test", 500, 100, r)
	for i := range 4 {
		e.copied()
		for _, p := range paths[1:] {
			if r.IntN(3) == 0 {
				e.source.put(p, fmt.Sprint("changed ", i))
			}
		}
		e.source.put(fmt.Sprintf("/test/gone-%d", i), "")
		e.copied()
		e.source.remove(fmt.Sprintf("/test/gone-%d", i))
	}
	e.copied()
	must(t, e.broker.Compact())
	if again := e.copied(); again.Created+again.Updated+again.Deleted != 0 || again.Appended != 0 {
		t.Errorf("after the compaction: %+v", again)
	}
	e.equal()
	e.source.put(paths[3], "later")
	e.source.remove(paths[len(paths)-1])
	e.copied()
	e.equal()
	must(t, e.broker.Compact())
	e.destination.remove("/test")
	gone := func(o *Options) { o.Source.Servers = []string{"127.0.0.1:1"} }
	if r := e.copied(fromLog, gone); r.Created != int64(len(paths)-1) {
		t.Errorf("from the log: %+v", r)
	}
	e.equal()
	e.destination.put("/test/drifted", "")
	e.destination.put(paths[5], "drifted")
	e.copied(fromLog, gone)
	e.equal()
}

// Between two copies nobody watched: the log says so of each such time, also when it
// has been compacted, for as long as the audit goes back.
func TestGapsAreKept(t *testing.T) {
	e := newEnv(t)
	e.source.put("/test", "")
	e.copied()
	// One of a week and a day ago is out of the audit window.
	w, err := e.log.Writer()
	must(t, err)
	defer w.Close()
	old := time.Now().Add(-8 * 24 * time.Hour)
	body, err := json.Marshal(topology.GapBody{From: old, To: old})
	must(t, err)
	rec := topology.Record{Kind: topology.Gap, Key: topology.ControlKey(topology.Gap, "1"), Body: body}
	must(t, w.AppendSync(t.Context(), rec.Encode(e.o.Topics.Changes, 0)))
	for range 3 {
		e.copied()
	}
	must(t, e.broker.Compact())
	b, err := e.log.Bounds(t.Context(), e.o.Topics.Changes, 0)
	must(t, err)
	gaps := 0
	must(t, e.log.Read(t.Context(), e.o.Topics.Changes, 0, b.Start, b.End, func(k *kgo.Record) error {
		if r, err := topology.Decode(k); err == nil && r.Kind == topology.Gap && r.Body != nil {
			gaps++
		}
		return nil
	}))
	if gaps != 3 {
		t.Errorf("%d gaps are in the log, want 3", gaps)
	}
}

// A record of a newer Afterimage ends a copy with an error that says so; nothing is
// overwritten, and nothing deleted for it.
func TestNewerSchema(t *testing.T) {
	e := newEnv(t)
	e.source.put("/test", "")
	e.source.put("/test/a", "v")
	e.copied()
	e.source.put("/test/a", "changed")
	w, err := e.log.Writer()
	must(t, err)
	defer w.Close()
	rec := topology.Record{Key: topology.NodeKey("/test/b").String(), Kind: topology.Object, Op: topology.Create, Node: &topology.NodeMeta{}, Body: []byte("b")}
	k := rec.Encode(e.o.Topics.Changes, 0)
	for i, h := range k.Headers {
		if h.Key == "schema" {
			k.Headers[i].Value = []byte("99")
		}
	}
	must(t, w.AppendSync(t.Context(), k))
	end := e.end()
	for _, change := range []func(*Options){func(*Options) {}, fromLog} {
		_, err := e.copy(change)
		var newer *topology.NewerSchemaError
		if !errors.As(err, &newer) || !strings.Contains(err.Error(), "upgrade") {
			t.Errorf("copy: %v", err)
		}
	}
	if e.end() != end {
		t.Error("something was appended")
	}
	// What is no record of ours at all is passed over.
	must(t, w.AppendSync(t.Context(), &kgo.Record{Topic: e.o.Topics.Changes, Key: []byte("noise"), Value: []byte("noise")}))
}

func (e *env) end() int64 {
	e.Helper()
	b, err := e.log.Bounds(e.Context(), e.o.Topics.Changes, 0)
	must(e.T, err)
	return b.End
}

// Copies of one tree take turns, in one process and in several with the same log: one
// does the work, and none undoes any.
func TestTurns(t *testing.T) {
	e := newEnv(t)
	r := rand.New(rand.NewPCG(25, 26))
	paths := e.source.grow("/test", 1000, 100, r)
	other, err := stream.NewClient(e.broker.Dial(), "other")
	must(t, err)
	defer other.Close()
	elsewhere := func(o *Options) { o.Log, o.InstanceID, o.Session = other, "other", 0 }
	for round := range 3 {
		var mu sync.Mutex
		var created, running int64
		var wg sync.WaitGroup
		for i := range 4 {
			o := e.o
			o.Incarnation = fmt.Sprintf("turns-%d-%d", round, i)
			if i%2 == 1 {
				elsewhere(&o)
			}
			o.Progress = func(Progress) {}
			wg.Go(func() {
				result, err := Run(context.Background(), o)
				mu.Lock()
				defer mu.Unlock()
				running++
				if err != nil || !result.Complete() {
					t.Errorf("%s: %+v, %v", o.Incarnation, result, err)
					return
				}
				created += result.Created + result.Deleted + result.Updated
			})
		}
		wg.Wait()
		want := int64(len(paths))
		if round > 0 {
			want = 1
		}
		if created != want {
			t.Errorf("round %d: %d nodes were written, want each once: %d", round, created, want)
		}
		e.equal()
		e.source.put(paths[10], fmt.Sprint("round ", round))
	}
}

// A log in another folder knows nothing of the tree.
func TestNewLog(t *testing.T) {
	e := newEnv(t)
	e.source.put("/test", "")
	e.source.put("/test/a", "v")
	e.copied()
	broker, err := stream.StartEmbedded(filepath.Join(t.TempDir(), "other"))
	must(t, err)
	defer func() { must(t, broker.Close()) }()
	log, err := stream.NewClient(broker.Dial(), "test")
	must(t, err)
	defer log.Close()
	there := func(o *Options) { o.Log = log }
	if r := e.copied(there); r.Unchanged != 2 || r.Created+r.Updated+r.Deleted != 0 {
		t.Errorf("%+v", r)
	}
}
