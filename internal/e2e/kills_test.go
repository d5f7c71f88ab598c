package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/dynamic"

	"github.com/afterimage-dr/afterimage/internal/testcluster"
)

// settle is how long a pipeline may take to make both sides equal once the
// workload has stopped: a second look at what was deleted unseen takes 10 s.
const settle = 90 * time.Second

// ordeal is a workload, the binary under test, and the record of everything the
// destination ever showed.
type ordeal struct {
	t        *testing.T
	rig      *rig
	workload *workload
	history  *history
	stop     context.CancelFunc
	done     sync.WaitGroup
	random   *rand.Rand
	selector string
}

// manifest of an ordeal's LiveSynchronization; names selects by nameSelector.
func (o *ordeal) manifest(names string) string {
	return fmt.Sprintf(`apiVersion: automation.astronetes.io/v1alpha1
kind: LiveSynchronization
metadata:
  name: %[1]s
spec:
  plugin: kubernetes-objects-to-kubernetes
  config:
    sourceName: source
    destinationName: destination
    replication:
      resources:
        - version: v1
          resource: configmaps
          filters:
            nameSelector:
              regex: ["%[2]s"]
            namespaceSelector:
              matchLabels:
                ordeal: %[1]s
`, o.selector, names)
}

// newOrdeal prepares namespaces and the history; nothing runs yet.
func newOrdeal(t *testing.T) *ordeal {
	t.Helper()
	source, destination := clusters(t)
	return newOrdealOn(t, source, destination)
}

func newOrdealOn(t *testing.T, source, destination *testcluster.Cluster) *ordeal {
	t.Helper()
	r, err := newRig(t.TempDir(), afterimage(t), source, destination)
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(strings.TrimPrefix(t.Name(), "Test")))
	o := &ordeal{t: t, rig: r, random: rand.New(rand.NewPCG(seed, 1)), selector: name}
	namespaces := []string{name + "-a", name + "-b"}
	labels := map[string]any{"ordeal": name}
	makeNamespaces(t, labels, namespaces, r.source.client, r.destination.client)
	for _, s := range []*clusterSide{r.source, r.destination} {
		gvr, _, err := s.find("namespaces")
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range namespaces {
			s.note(gvr, n)
		}
	}
	o.workload = &workload{client: r.source.client, namespaces: namespaces, names: 40, labels: labels, seed: seed, live: map[string]moment{}}
	o.history = watchHistory(t, r.destination.client, configMaps, "ordeal="+name)
	t.Cleanup(func() { r.close(t.Failed(), func(a ...any) { t.Log(a...) }) })
	if err := r.writeManifests(o.manifest(".*")); err != nil {
		t.Fatal(err)
	}
	return o
}

// work begins the workload: about a hundred operations a second.
func (o *ordeal) work() {
	ctx, cancel := context.WithCancel(o.t.Context())
	o.stop = cancel
	o.done.Go(func() { o.workload.run(ctx, o.t, 8*time.Millisecond) })
}

// rest ends the workload and waits until both sides are equal.
func (o *ordeal) rest() {
	o.t.Helper()
	o.pause()
	o.converge(o.rig.destination.client, nil)
	o.history.check(o.t)
	o.t.Logf("%d operations in the source", o.workload.ops)
}

func (o *ordeal) pause() {
	o.stop()
	o.done.Wait()
}

// converge waits until nothing differs but what keep accepts.
func (o *ordeal) converge(destination dynamic.Interface, keep func(string) bool) {
	o.t.Helper()
	err := eventually(settle, func() error {
		diffs, err := o.workload.differences(o.t.Context(), destination)
		if err != nil {
			return err
		}
		left := diffs[:0]
		for _, d := range diffs {
			if keep == nil || !keep(d) {
				left = append(left, d)
			}
		}
		if len(left) > 0 {
			return fmt.Errorf("%d differences, the first: %s", len(left), left[0])
		}
		return nil
	})
	if err != nil {
		s, statusErr := o.rig.status()
		o.t.Fatalf("not equal after %s: %v\nstatus: %+v (%v)", settle, err, s, statusErr)
	}
}

func (o *ordeal) start(env ...string) {
	o.t.Helper()
	if err := o.rig.start(env...); err != nil {
		o.t.Fatal(err)
	}
}

func (o *ordeal) sleep(atLeast, atMost time.Duration) {
	time.Sleep(atLeast + time.Duration(o.random.Int64N(int64(atMost-atLeast))))
}

// Guarantee 10: SIGKILL at any instruction is recoverable.
func TestRandomKills(t *testing.T) {
	needsServers(t)
	o := newOrdeal(t)
	o.work()
	for range 30 {
		o.start()
		o.sleep(200*time.Millisecond, 2*time.Second)
		o.rig.kill()
	}
	o.start()
	o.rest()
}

// steps are the failpoints: before and after everything that has an effect.
func steps() []string {
	var out []string
	for component, actions := range map[string][]string{
		"eventslistener": {"produce", "commit"},
		"processor":      {"produce", "commit"},
		"synchronizer":   {"apply", "outcome", "commit"},
	} {
		for _, a := range actions {
			out = append(out, component+"/before-"+a, component+"/after-"+a)
		}
	}
	return out
}

// Guarantee 10, at each step: the process kills itself there, a few times over.
func TestKilledAtEachStep(t *testing.T) {
	needsServers(t)
	o := newOrdeal(t)
	o.work()
	for _, step := range steps() {
		for _, hit := range []int{1, 2 + o.random.IntN(20)} {
			o.start(fmt.Sprintf("AFTERIMAGE_FAILPOINTS=%s=kill@%d", step, hit))
			select {
			case <-o.rig.exited():
				o.rig.kill()
			case <-time.After(30 * time.Second):
				t.Fatalf("%s was not reached %d times in 30 s", step, hit)
			}
		}
	}
	o.start()
	o.rest()
}

// Guarantee 7: local state is disposable.
func TestKilledAndStateWiped(t *testing.T) {
	needsServers(t)
	o := newOrdeal(t)
	o.work()
	for range 6 {
		o.start()
		o.sleep(time.Second, 4*time.Second)
		o.rig.kill()
		wipeState(t, o.rig)
	}
	o.start()
	o.rest()
}

func wipeState(t *testing.T, r *rig) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(r.dataDir(), "state")); err != nil {
		t.Fatal(err)
	}
}

// Guarantee 7, with a configuration that changes while nothing is remembered:
// what left the selection is deleted all the same, once a person has confirmed
// that it is more than half.
func TestStateWipedAndFilterNarrowed(t *testing.T) {
	needsServers(t)
	o := newOrdeal(t)
	o.work()
	o.start()
	o.sleep(3*time.Second, 5*time.Second)
	o.rig.kill()
	wipeState(t, o.rig)
	narrowed := o.manifest("config-00.*")
	if err := o.rig.writeManifests(narrowed); err != nil {
		t.Fatal(err)
	}
	o.start()
	o.sleep(2*time.Second, 3*time.Second)
	o.pause()
	o.confirmPrune(narrowed)
	outside := func(d string) bool {
		return strings.HasSuffix(d, "is missing at the destination") && !strings.Contains(d, "/config-00")
	}
	o.converge(o.rig.destination.client, outside)
	dst, err := contents(t.Context(), o.rig.destination.client, o.workload.namespaces[0])
	if err != nil {
		t.Fatal(err)
	}
	for k := range dst {
		if !strings.Contains(k, "/config-00") {
			t.Errorf("%s is outside the narrowed selection and still at the destination", k)
		}
	}
	o.history.check(t)
}

// confirmPrune waits until deletes are held back, and confirms them.
func (o *ordeal) confirmPrune(manifest string) {
	o.t.Helper()
	var token string
	err := eventually(settle, func() error {
		s, err := o.rig.status()
		if err != nil {
			return err
		}
		for _, c := range s.Conditions {
			if m := confirmation.FindStringSubmatch(c.Message); c.Type == "PruneBlocked" && m != nil {
				token = m[1]
				return nil
			}
		}
		return fmt.Errorf("nothing is held back: %+v", s.Conditions)
	})
	if err != nil {
		o.t.Fatal(err)
	}
	if err := o.rig.writeManifests(confirmed(manifest, token)); err != nil {
		o.t.Fatal(err)
	}
}

func needsServers(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs API servers; run without -short")
	}
}
