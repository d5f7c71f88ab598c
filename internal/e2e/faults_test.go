package e2e

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/afterimage-dr/afterimage/internal/faultproxy"
	"github.com/afterimage-dr/afterimage/topology"
)

// sabotage puts one fault after the other to work for a while each, under the
// workload, and fails the test if one of them was never met.
func (o *ordeal) sabotage(p *faultproxy.HTTP, faults []sabotage) {
	o.t.Helper()
	for _, f := range faults {
		active := p.Add(f.Rule)
		err := eventually(patience, func() error {
			if active.Hits() == 0 {
				return fmt.Errorf("%s was never met", f.name)
			}
			return nil
		})
		o.sleep(time.Second, 1500*time.Millisecond)
		active.Remove()
		if err != nil {
			o.t.Error(err)
		}
		o.t.Logf("%s: %d times", f.name, active.Hits())
	}
}

type sabotage struct {
	name string
	faultproxy.Rule
}

// FAULTS 1, 2: the ways to the source break in every way a watch and a list can.
func TestSourceFaults(t *testing.T) {
	needsServers(t)
	o := newOrdeal(t)
	p := o.throughHTTP("source")
	// Only a comparison can find what a watch lost without a trace.
	o.resyncEvery("5s")
	watches := faultproxy.Match{Verbs: []string{"watch"}, Resource: "configmaps"}
	reads := faultproxy.Match{Verbs: []string{"list", "get", "watch"}}
	pages := faultproxy.Match{Verbs: []string{"list"}, Resource: "configmaps"}
	o.work()
	o.start()
	o.sleep(2*time.Second, 3*time.Second)
	o.sabotage(p, []sabotage{
		{"an event broken off", faultproxy.Rule{Match: watches, Fault: faultproxy.CutEvent(), Every: 20}},
		{"a watch ended in order", faultproxy.Rule{Match: watches, Fault: faultproxy.EndWatch(), Every: 10}},
		{"events twice", faultproxy.Rule{Match: watches, Fault: faultproxy.DuplicateEvent(), Every: 2}},
		{"old events again", faultproxy.Rule{Match: watches, Fault: faultproxy.ReplayEvent(7), Every: 3}},
		{"an event lost", faultproxy.Rule{Match: watches, Fault: faultproxy.DropEvent(), Every: 5}},
		{"events late", faultproxy.Rule{Match: watches, Fault: faultproxy.DelayEvent(200 * time.Millisecond), Every: 4}},
		{"410 in a watch", faultproxy.Rule{Match: watches, Fault: faultproxy.ErrorEvent(http.StatusGone, "too old resource version"), Every: 15}},
		{"500 in a watch", faultproxy.Rule{Match: watches, Fault: faultproxy.ErrorEvent(http.StatusInternalServerError, "etcd changed its leader"), Every: 15}},
		{"a list broken off", faultproxy.Rule{Match: pages, Fault: faultproxy.AbortBody(700), Every: 2}},
		{"410 for a list", faultproxy.Rule{Match: pages, Fault: faultproxy.Gone(), Every: 2}},
		{"the source overloaded", faultproxy.Rule{Match: reads, Fault: faultproxy.TooManyRequests(time.Second), Every: 2}},
		{"the source unavailable", faultproxy.Rule{Match: reads, Fault: faultproxy.Status(http.StatusServiceUnavailable, "not now"), Every: 2}},
	})
	p.Cut()
	o.rest()
}

// resyncEvery writes the ordeal's manifest with a resync period.
func (o *ordeal) resyncEvery(period string) {
	o.t.Helper()
	m := strings.Replace(o.manifest(".*"), "    replication:\n", "    replication:\n      resyncPeriod: "+period+"\n", 1)
	if err := o.rig.writeManifests(m); err != nil {
		o.t.Fatal(err)
	}
}

// FAULTS 8: reading is forbidden for a while, and lists come back empty: that is
// no reason to delete anything.
func TestSourceSeemsEmpty(t *testing.T) {
	needsServers(t)
	o := newOrdeal(t)
	p := o.throughHTTP("source")
	o.resyncEvery("3s")
	for i := range 40 {
		if err := o.workload.step(t.Context(), 9, o.workload.namespaces[i%2], fmt.Sprintf("config-%03d", i)); err != nil {
			t.Fatal(err)
		}
	}
	o.start()
	o.converge(o.rig.destination.client, nil)
	o.ready()
	objects := faultproxy.Match{Resource: "configmaps", Verbs: []string{"list"}}
	for name, fault := range map[string]faultproxy.Fault{"forbidden": faultproxy.Forbid(), "empty": faultproxy.EmptyList(), "partial": faultproxy.PartialList(3)} {
		active := p.Add(faultproxy.Rule{Match: objects, Fault: fault})
		p.EndWatches(faultproxy.Match{Resource: "configmaps"})
		o.untouched(o.rig.destination.client, 8*time.Second)
		if active.Hits() == 0 {
			t.Errorf("%s: nothing was read meanwhile", name)
		}
		active.Remove()
	}
	p.Reset()
	o.ready()
	o.history.check(t)
}

// FAULTS 14, 25: writes to the destination fail in every way, with and without
// having had their effect.
func TestDestinationFaults(t *testing.T) {
	needsServers(t)
	o := newOrdeal(t)
	p := o.throughHTTP("destination")
	writes := faultproxy.Writes()
	writes.Resource = "configmaps"
	reads := faultproxy.Match{Verbs: []string{"get", "list"}, Resource: "configmaps"}
	o.work()
	o.start()
	o.sleep(2*time.Second, 3*time.Second)
	o.sabotage(p, []sabotage{
		{"answers lost", faultproxy.Rule{Match: writes, Fault: faultproxy.LoseResponse(), Every: 4}},
		{"504 after the effect", faultproxy.Rule{Match: writes, Fault: faultproxy.LoseResponseAs(http.StatusGatewayTimeout), Every: 4}},
		{"requests lost", faultproxy.Rule{Match: writes, Fault: faultproxy.Abort(), Every: 4}},
		{"503", faultproxy.Rule{Match: writes, Fault: faultproxy.Status(http.StatusServiceUnavailable, "not now"), Every: 3}},
		{"500", faultproxy.Rule{Match: writes, Fault: faultproxy.Status(http.StatusInternalServerError, "webhook timed out"), Every: 3}},
		{"429", faultproxy.Rule{Match: writes, Fault: faultproxy.TooManyRequests(time.Second), Every: 5}},
		{"conflicts", faultproxy.Rule{Match: writes, Fault: faultproxy.Status(http.StatusConflict, "the object has been modified"), Every: 5}},
		{"slow", faultproxy.Rule{Match: writes, Fault: faultproxy.Delay(300 * time.Millisecond), Every: 3}},
		{"no answer", faultproxy.Rule{Match: writes, Fault: faultproxy.Hang(), Every: 10, Times: 3}},
		{"reads lost", faultproxy.Rule{Match: reads, Fault: faultproxy.Abort(), Every: 2}},
	})
	o.rig.kill()
	o.start()
	o.rest()
}

// FAULTS 30: the configuration changes again and again under the workload. What
// an older one computed never follows what a newer one did.
func TestConfigurationChangesInFlight(t *testing.T) {
	needsServers(t)
	o := newOrdeal(t)
	o.history.configurationsInOrder()
	const styles = 8
	style := func(n int) {
		m := strings.TrimSuffix(o.manifest(".*"), "\n") + fmt.Sprintf(`
          transformation:
            patch:
              - op: add
                path: /metadata/annotations
                value:
                  e2e-style: "%d"
`, n)
		if err := o.rig.writeManifests(m); err != nil {
			t.Fatal(err)
		}
	}
	style(1)
	o.work()
	o.start()
	for n := 2; n <= styles; n++ {
		o.sleep(1500*time.Millisecond, 2500*time.Millisecond)
		style(n)
		if n%3 == 0 {
			o.rig.kill()
			o.start()
		}
	}
	o.sleep(time.Second, 2*time.Second)
	o.rest()
	if err := eventually(patience, func() error {
		for _, ns := range o.workload.namespaces {
			for _, item := range o.list(o.rig.destination.client, ns) {
				if got := item.GetAnnotations()[styleAnnotation]; got != strconv.Itoa(styles) {
					return fmt.Errorf("%s/%s has style %s, want %d", ns, item.GetName(), got, styles)
				}
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// FAULTS 5, 11, 27: objects that live shorter than a look, are as large as the
// API server takes them, or are owned by what has another UID at the destination.
func TestUnusualObjects(t *testing.T) {
	needsServers(t)
	o := newOrdeal(t)
	ns := o.workload.namespaces[0]
	source := o.rig.source.client.Resource(configMaps).Namespace(ns)
	destination := o.rig.destination.client.Resource(configMaps).Namespace(ns)
	object := func(name string, size int) *unstructured.Unstructured {
		u := o.workload.object(ns, name, moment{life: 1, state: 1})
		u.Object["data"].(map[string]any)["filling"] = strings.Repeat("x", size)
		return u
	}
	create := func(u *unstructured.Unstructured) *unstructured.Unstructured {
		t.Helper()
		made, err := source.Create(t.Context(), u, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	o.start()
	owner := create(object("owner", 1))
	owned := object("owned", 1)
	owned.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "owner", UID: owner.GetUID()}})
	create(owned)
	create(object("large", 1<<20-2000))
	for i := range 30 {
		name := fmt.Sprintf("short-%d", i)
		create(object(name, 1))
		if err := source.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	o.converge(o.rig.destination.client, nil)
	got, err := destination.Get(t.Context(), "owned", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if refs := got.GetOwnerReferences(); len(refs) > 0 {
		t.Errorf("the copy names owners that the destination does not know: %v", refs)
	}
	// The garbage collector would take about two seconds.
	if err := throughout(5*time.Second, func() error {
		now, err := destination.Get(t.Context(), "owned", metav1.GetOptions{})
		if err == nil && now.GetUID() != got.GetUID() {
			err = fmt.Errorf("it was deleted and made again")
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	for _, ns := range o.workload.namespaces {
		for _, item := range o.list(o.rig.destination.client, ns) {
			if strings.HasPrefix(item.GetName(), "short-") {
				t.Errorf("%s outlived its original", item.GetName())
			}
		}
	}
	o.history.check(t)
}

// styleAnnotation tells which configuration computed an object.
const styleAnnotation = "e2e-style"

// configurationsInOrder has the history check styles and generations as well.
func (h *history) configurationsInOrder() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.styles = map[string][2]int64{}
}

// configuration checks that no key shows what an older configuration computed.
func (h *history) configuration(key string, o *unstructured.Unstructured) {
	if h.styles == nil {
		return
	}
	v, err := topology.ParseVersion(o.GetAnnotations()[topology.VersionAnnotation])
	if err != nil {
		h.broken = append(h.broken, key+": "+err.Error())
		return
	}
	now := [2]int64{int64(number(o.GetAnnotations()[styleAnnotation])), v.Generation}
	before := h.styles[key]
	if now[0] < before[0] || now[1] < before[1] {
		h.broken = append(h.broken, fmt.Sprintf("%s went back from style %d of generation %d to style %d of generation %d", key, before[0], before[1], now[0], now[1]))
	}
	h.styles[key] = now
}
