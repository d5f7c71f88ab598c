package recovery

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/afterimage-dr/afterimage/consumers/restorer"
	"github.com/afterimage-dr/afterimage/internal/manifest"
)

func TestLearned(t *testing.T) {
	rehearsal := func(objects int, seconds float64) past {
		return past{Mode: restorer.Rehearse, Objects: objects, Seconds: seconds}
	}
	recovery := func(objects int, seconds float64) past {
		return past{Mode: restorer.Recover, Objects: objects, Seconds: seconds}
	}
	for name, c := range map[string]struct {
		reason string
		past   []past
		factor float64
		of     int
	}{
		"none":       {"nothing is known", nil, 1, 0},
		"alone":      {"a recovery without a rehearsal teaches nothing", []past{recovery(10, 5)}, 1, 0},
		"one":        {"twice as long", []past{rehearsal(10, 1), recovery(10, 2)}, 2, 1},
		"per object": {"of twice the objects, in the same time each", []past{rehearsal(10, 1), recovery(20, 2)}, 1, 1},
		"median":     {"one that was slow does not count", []past{rehearsal(10, 1), recovery(10, 2), recovery(10, 100), recovery(10, 2)}, 2, 3},
		"nothing":    {"runs over nothing are passed over", []past{rehearsal(10, 1), rehearsal(0, 9), recovery(0, 9), recovery(10, 2)}, 2, 1},
	} {
		if factor, of := learned(c.past); factor != c.factor || of != c.of {
			t.Errorf("%s: %s: got %v of %d, want %v of %d", name, c.reason, factor, of, c.factor, c.of)
		}
	}
}

// What was noted is read again, also behind a line that was cut off.
func TestRemember(t *testing.T) {
	q := Request{DataDir: t.TempDir(), Target: manifest.Target{LiveSynchronization: types.NamespacedName{Namespace: "a", Name: "b.c"}}}
	now := time.Now()
	report := &restorer.Report{Mode: restorer.Rehearse, Started: now, Ended: now.Add(2 * time.Second), Summary: restorer.Summary{Total: 4, Failed: 1}}
	if err := q.remember(report); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(q.DataDir, "rehearsals", "a.b.c.jsonl")
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"at":"2026-`); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	if err := q.remember(report); err != nil {
		t.Fatal(err)
	}
	all, err := q.past()
	if err != nil || len(all) != 2 || all[1].Objects != 4 || all[1].Seconds != 2 || all[1].Failed != 1 {
		t.Errorf("read %+v, %v; want the run twice", all, err)
	}
	gone := Request{DataDir: filepath.Join(q.DataDir, "missing"), Target: q.Target}
	if err := gone.remember(report); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(gone.DataDir); err == nil {
		t.Error("a data directory was made")
	}
}
