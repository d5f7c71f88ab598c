package archiver

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/afterimage-dr/afterimage/topology"
)

// scopes the model moves between, each with the names it takes.
var scopes = []struct {
	json  string
	takes func(name string) bool
}{
	{everything, func(string) bool { return true }},
	{onlyA, func(name string) bool { return name[0] == 'a' }},
	{broken, func(string) bool { return true }},
	{another, func(string) bool { return false }},
}

// TestModel does random operations with random crashes and failures of the
// bucket, and compares the bucket with a map.
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
	r := newRigIn(rt, dir, func(f func()) { cleanups = append(cleanups, f) })
	r.limit.Few, r.limit.Whole = 100, 100
	crash := atomic.Int64{} // steps until the next injected crash; 0: none
	r.fault = func(string) error {
		if n := crash.Load(); n > 0 && crash.CompareAndSwap(n, n-1) && n == 1 {
			return errors.New("injected")
		}
		return nil
	}
	source := map[string]string{}
	old := map[string]*topology.Record{} // an older state of a key that a zombie may append
	scope := scopes[0]
	r.configure(scope.json)
	r.listed()
	r.start()

	names := rapid.SampledFrom([]string{"a1", "a2", "b1", "b2", "b3"})
	heal := func() {
		crash.Store(0)
		r.bucket.change(func() { r.bucket.down, r.bucket.deny, r.bucket.refuse, r.bucket.lose = false, false, nil, nil })
	}
	check := func(rt *rapid.T) {
		heal()
		r.settle()
		r.compared()
		want := map[string]string{}
		for name, data := range source {
			if scope.takes(name) {
				want[name] = data
			}
		}
		r.want("in the end", want)
		for name := range source {
			old[name] = r.object(name, "zombie")
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
		"configure": func(rt *rapid.T) {
			scope = rapid.SampledFrom(scopes).Draw(rt, "scope")
			r.configure(scope.json)
		},
		"restart": func(*rapid.T) { r.kill(); r.start() },
		"stop and go on": func(rt *rapid.T) {
			r.kill()
			name := names.Draw(rt, "name")
			source[name] = "stopped"
			r.put(name, "stopped")
			r.start()
		},
		"wipe":  func(*rapid.T) { r.kill(); r.wipe(); r.start() },
		"crash": func(rt *rapid.T) { crash.Store(int64(rapid.IntRange(1, 12).Draw(rt, "steps"))) },
		"compact": func(rt *rapid.T) {
			if err := r.embedded.Compact(); err != nil {
				rt.Fatalf("compacting: %v", err)
			}
		},
		"bucket down":   func(*rapid.T) { r.bucket.change(func() { r.bucket.down = true }) },
		"bucket denies": func(*rapid.T) { r.bucket.change(func() { r.bucket.deny = true }) },
		"bucket up":     func(*rapid.T) { heal() },
		"refuse": func(rt *rapid.T) {
			name := names.Draw(rt, "name")
			r.bucket.change(func() { r.bucket.refuse = func(p string) bool { return strings.HasSuffix(p, "."+name) } })
		},
		"lose answers": func(rt *rapid.T) {
			left := rapid.IntRange(1, 3).Draw(rt, "answers")
			r.bucket.change(func() {
				r.bucket.lose = func(string) bool { left--; return left >= 0 }
			})
		},
		"empty the bucket": func(*rapid.T) { r.bucket.change(func() { clear(r.bucket.objects) }) },
		"zombie record": func(rt *rapid.T) {
			// Behind a newer state that was seen: nobody can tell an older one else, until
			// the log's writer has repaired it.
			name := names.Draw(rt, "name")
			if rec := old[name]; rec != nil {
				delete(old, name)
				heal()
				source[name] += "!"
				r.put(name, source[name])
				r.settle()
				r.append(rec)
				r.settle()
				r.put(name, source[name]) // the repair
			}
		},
		"check": check,
	})
	check(rt)
}
