package e2e

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
)

// The history: changes in all, in so many stretches with a quiet moment behind
// each, to so many names in two namespaces.
const (
	momentChanges   = 5000
	momentStretches = 4
	momentNames     = 150
)

// TestRebuildMoments compares rebuilds with recorded truth: a random history, a
// LIST of the source at each quiet moment, and then, with the source gone, the
// destination as it was at each of these moments, in no order, the rebuild killed in
// its middle first.
func TestRebuildMoments(t *testing.T) {
	rebuildMoments(t, nil)
}

// TestKafkaRebuildMoments is the same with the log on Apache Kafka.
func TestKafkaRebuildMoments(t *testing.T) {
	rebuildMoments(t, []string{"--brokers", kafka(t).Addr()})
}

// remembered is a moment, and what the source held then.
type remembered struct {
	at   time.Time
	held map[string]string
}

func rebuildMoments(t *testing.T, brokers []string) {
	needsServers(t)
	source, destination := clusters(t)
	r, err := newRig(t.TempDir(), afterimage(t), source, destination)
	must(t, err)
	t.Cleanup(func() { r.close(t.Failed(), t.Log) })
	r.args = brokers
	name := fmt.Sprintf("moments-%d", rand.IntN(1e9))
	spaces := []string{name + "-a", name + "-b"}
	for _, ns := range spaces {
		must(t, r.source.apply(fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: %s\n  labels:\n    scenario: %s\n", ns, name), "user"))
	}
	must(t, r.writeManifests(fmt.Sprintf(momentsManifest, name)))
	must(t, r.start())
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var moments []remembered
	for i := range momentStretches {
		edit(t, r.source.client, spaces, momentChanges/momentStretches, seed+uint64(i))
		held := heldBy(t, r.source.client, spaces)
		must(t, eventually(2*time.Minute, func() error {
			if is := heldBy(t, r.destination.client, spaces); !maps.Equal(is, held) {
				return fmt.Errorf("%d objects at the destination, %d in the source, or not the same", len(is), len(held))
			}
			return nil
		}))
		time.Sleep(200 * time.Millisecond) // quiet before and after
		moments = append(moments, remembered{time.Now(), held})
		time.Sleep(200 * time.Millisecond)
	}
	r.source.cluster.down()
	r.kill()
	rand.Shuffle(len(moments), func(i, j int) { moments[i], moments[j] = moments[j], moments[i] })
	for _, m := range moments {
		rebuild := func(failpoints string) (string, error) {
			args := append([]string{"recover", "-f", r.manifestDir(), "--data-dir", r.dataDir(), "--force", "--at", m.at.UTC().Format(time.RFC3339Nano)}, brokers...)
			c := exec.Command(r.binary, args...)
			c.Env = append(os.Environ(), "AFTERIMAGE_FAILPOINTS="+failpoints)
			out, err := c.CombinedOutput()
			return string(out), err
		}
		if out, err := rebuild(fmt.Sprintf("restorer/after-write=kill@%d", 1+rand.IntN(20))); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("it was not killed: %v\n%s", err, out)
		}
		if out, err := rebuild(""); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if is := heldBy(t, r.destination.client, spaces); !maps.Equal(is, m.held) {
			t.Fatalf("at %s:\n%s", m.at, differing(is, m.held))
		}
	}
	if out, err := exec.Command(r.binary, "resume", "-f", r.manifestDir()).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	r.source.cluster.up()
}

const momentsManifest = `apiVersion: automation.astronetes.io/v1alpha1
kind: LiveSynchronization
metadata:
  name: %[1]s
spec:
  plugin: kubernetes-objects-to-kubernetes
  config:
    sourceName: source
    destinationName: destination
    replication:
      forceNamespaceCreation: true
      resources:
        - version: v1
          resource: configmaps
          filters:
            namespaceSelector:
              matchLabels:
                scenario: %[1]s
`

// edit makes so many changes at random: creates, updates and deletes.
func edit(t *testing.T, c dynamic.Interface, spaces []string, changes int, seed uint64) {
	t.Helper()
	const workers = 8
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(w)))
			for i := 0; i < changes/workers && t.Context().Err() == nil; i++ {
				// Each worker has names of its own: no two edits meet.
				n := random.IntN(momentNames/workers)*workers + w
				if err := change(t.Context(), c.Resource(configMaps).Namespace(spaces[n%len(spaces)]), fmt.Sprintf("c%03d", n), random); err != nil {
					t.Errorf("editing: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func change(ctx context.Context, c dynamic.ResourceInterface, name string, random *rand.Rand) error {
	o := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": name},
		"data": map[string]any{"v": fmt.Sprint(random.Uint64())},
	}}
	if random.IntN(4) == 0 {
		err := c.Delete(ctx, name, metav1.DeleteOptions{})
		if err == nil || !apierrors.IsNotFound(err) {
			return err
		}
	}
	_, err := c.Update(ctx, o, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		_, err = c.Create(ctx, o, metav1.CreateOptions{})
	}
	return err
}

// heldBy lists what the namespaces hold.
func heldBy(t *testing.T, c dynamic.Interface, spaces []string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, ns := range spaces {
		l, err := c.Resource(configMaps).Namespace(ns).List(t.Context(), metav1.ListOptions{})
		must(t, err)
		for i := range l.Items {
			if n := l.Items[i].GetName(); n != "kube-root-ca.crt" {
				v, _, _ := unstructured.NestedString(l.Items[i].Object, "data", "v")
				out[ns+"/"+n] = v
			}
		}
	}
	return out
}

func differing(is, want map[string]string) string {
	var lines []string
	for k, v := range want {
		if is[k] != v {
			lines = append(lines, fmt.Sprintf("%s: %q, want %q", k, is[k], v))
		}
	}
	for k := range is {
		if _, ok := want[k]; !ok {
			lines = append(lines, k+": should not be there")
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
