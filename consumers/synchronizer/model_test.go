package synchronizer

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/topology"
)

// Whatever happens in whatever order, the destination ends as the log says, a
// foreign object stays as it is, and no object's version ever goes down.
func TestAnyHistoryConverges(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	e := newEnv(t, destination(t))
	e.namespace()
	e.opts = func(o *Options) { o.RetryMin, o.RetryMax = 200*time.Millisecond, time.Second }
	e.put(e.key("k0"), `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"k0","namespace":"`+e.name+`"},"data":{"x":"theirs"}}`)
	e.start()

	const keys = 8
	model := map[string]string{} // name → value; the foreign k0 is never ours
	last := map[string]topology.Record{}
	highest := map[string]topology.Version{}
	check := func() {
		for i := range keys {
			name := fmt.Sprint("k", i)
			if v, err := topology.ParseVersion(e.version(name)); err == nil {
				if v.Older(highest[name]) {
					t.Fatalf("%s went from version %s to %s", name, highest[name], v)
				}
				highest[name] = v
			}
		}
	}
	for range 120 {
		name := fmt.Sprint("k", rnd.IntN(keys))
		switch n := rnd.IntN(20); {
		case n < 9:
			value := fmt.Sprint(rnd.IntN(4))
			model[name] = value
			last[name] = e.want(e.key(name), "ConfigMap", data("x", value, fmt.Sprint("f", rnd.IntN(2)), "1"))
		case n < 12:
			delete(model, name)
			last[name] = e.remove(e.key(name))
		case n < 14: // a zombie's, and what the partition's writer does about it (guarantee 4)
			mine, ok := last[name]
			if !ok {
				continue
			}
			e.want(e.key(name), "ConfigMap", data("x", "zombie"), func(r *topology.Record) {
				r.Version = mine.Version
				r.Version.Epoch = 0
			})
			if rnd.IntN(2) == 0 {
				time.Sleep(time.Duration(rnd.IntN(50)) * time.Millisecond)
			}
			version := mine.Version
			e.append(mine, func(r *topology.Record) { r.Version, r.Repair = version, true })
		case n < 15:
			e.stop()
			e.start()
		case n < 16:
			e.stop()
			e.wipe()
			e.start()
		case n < 17 && e.version(name) != "":
			_, _ = e.kube.JSONPatch(t.Context(), e.resource(e.key(name)), e.key(name), []byte(`[{"op":"replace","path":"/data/x","value":"edited"}]`), "somebody")
		case n < 18 && e.version(name) != "":
			_ = e.kube.Delete(t.Context(), e.resource(e.key(name)), e.key(name), kube.Preconditions{})
		default:
			time.Sleep(time.Duration(rnd.IntN(80)) * time.Millisecond)
			check()
		}
	}
	e.settled()
	e.resync()
	e.within(20*time.Second, "everything is as the log says", func() bool {
		for i := 1; i < keys; i++ {
			name := fmt.Sprint("k", i)
			want, live := model[name]
			got := e.get(e.key(name))
			if live != (got != nil) || live && field(got, "data", "x") != want {
				return false
			}
		}
		return true
	})
	check()
	if !e.has("k0", "x", "theirs")() {
		t.Error("the foreign object was changed")
	}
	before := e.traffic.writes.Load()
	e.resync()
	if n := e.traffic.writes.Load() - before; n > 0 && e.failing(e.key("k0")) == "" {
		t.Errorf("%d writes when everything was equal", n)
	}
}
