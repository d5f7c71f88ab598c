package processor

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/afterimage-dr/afterimage/topology"
)

// replications the model moves between, each with what it makes of an object;
// ok is false where it leaves the object out.
var replications = []struct {
	json string
	of   func(name, data string) (string, bool)
}{
	{everything, func(_, data string) (string, bool) { return data, true }},
	{onlyA, func(name, data string) (string, bool) { return data, name[0] == 'a' }},
	{patched, func(_, data string) (string, bool) { return data + "+", true }},
	{broken, func(string, string) (string, bool) { return "held", true }},
	{another, func(string, string) (string, bool) { return "", false }},
}

// TestModel does random operations with random crashes, and compares desired
// with a map.
func TestModel(t *testing.T) {
	// A broker a check: a few of them in every run, more with -rapid.checks.
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		if err := flag.Set("rapid.checks", "12"); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(rt *rapid.T) { runModel(t, rt) })
}

func runModel(t *testing.T, rt *rapid.T) {
	dir, err := os.MkdirTemp(t.TempDir(), "model")
	if err != nil {
		rt.Fatalf("%v", err)
	}
	var cleanups []func()
	defer func() {
		for i := len(cleanups) - 1; i >= 0; i-- {
			cleanups[i]()
		}
	}()
	r := newRigIn(t, rt, dir, func(f func()) { cleanups = append(cleanups, f) })
	r.logTo = discard{}
	// Half of the checks know a limit that everything is beyond, and confirm.
	r.limit.Whole = 100
	if rapid.Bool().Draw(rt, "limited") {
		r.limit.Whole = 1
	}
	crash := atomic.Int64{} // steps until the next injected failure; 0: none
	r.fault = func(string) error {
		if n := crash.Load(); n > 0 && crash.CompareAndSwap(n, n-1) && n == 1 {
			return errors.New("injected")
		}
		return nil
	}
	source := map[string]string{}
	zombies := map[string]*topology.Record{} // an older state of a key that somebody may still append
	replication := replications[0]
	r.configure(replication.json)
	r.start()

	names := rapid.SampledFrom([]string{"a1", "a2", "b1", "b2", "b3"})
	check := func(rt *rapid.T) {
		crash.Store(0)
		r.settle()
		r.confirm()
		r.settle()
		want := map[string]string{}
		for name, data := range source {
			if out, ok := replication.of(name, data); ok {
				want[name] = out
			}
		}
		r.eventually(fmt.Sprintf("desired holds %v, it holds %v", want, r.desired()), func() bool {
			return fmt.Sprint(r.desired()) == fmt.Sprint(want)
		})
		assertMonotonic(r, r.read(r.topics.Desired))
		for name := range source { // one of its states, to come back later
			rec := r.object(name, "zombie")
			rec.Writer, rec.Version.Generation, rec.Hash = "zombie", r.generation, "zombie"
			zombies[name] = rec
		}
	}
	rt.Repeat(map[string]func(*rapid.T){
		"put": func(rt *rapid.T) {
			name := names.Draw(rt, "name")
			source[name] = fmt.Sprint(rapid.IntRange(0, 3).Draw(rt, "data"))
			r.put(name, source[name])
		},
		"delete": func(rt *rapid.T) {
			name := names.Draw(rt, "name")
			if _, ok := source[name]; ok {
				delete(source, name)
				r.remove(name)
			}
		},
		"requested": func(rt *rapid.T) {
			name := names.Draw(rt, "name")
			rec := r.tombstone(name)
			if data, ok := source[name]; ok {
				rec = r.object(name, data)
			}
			rec.Requested = true
			r.append(r.topics.Changes, rec)
		},
		"configure": func(rt *rapid.T) {
			replication = rapid.SampledFrom(replications).Draw(rt, "replication")
			r.configure(replication.json)
		},
		"restart": func(rt *rapid.T) { r.kill(); r.start() },
		"stop and go on": func(rt *rapid.T) {
			r.kill()
			name := names.Draw(rt, "name")
			source[name] = "stopped"
			r.put(name, "stopped")
			r.start()
		},
		"wipe": func(rt *rapid.T) { r.kill(); r.wipe(); r.start() },
		"crash": func(rt *rapid.T) {
			crash.Store(int64(rapid.IntRange(1, 12).Draw(rt, "steps")))
		},
		"compact": func(rt *rapid.T) {
			if err := r.embedded.Compact(); err != nil {
				rt.Fatalf("compacting: %v", err)
			}
		},
		"recreate desired": func(rt *rapid.T) {
			r.kill()
			r.recreate(r.topics.Desired)
			r.start()
		},
		"zombie": func(rt *rapid.T) {
			// Only behind a newer state: the record of a key that nothing newer
			// was seen of is indistinguishable from a good one.
			name := names.Draw(rt, "name")
			if rec := zombies[name]; rec != nil {
				delete(zombies, name)
				r.put(name, source[name]+"!")
				source[name] += "!"
				crash.Store(0)
				r.settle()
				r.append(r.topics.Desired, rec)
			}
		},
		"check": check,
	})
	check(rt)
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
