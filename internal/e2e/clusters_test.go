package e2e

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	"github.com/afterimage-dr/afterimage/internal/faultproxy"
	"github.com/afterimage-dr/afterimage/internal/testcluster"
	"github.com/afterimage-dr/afterimage/topology"
)

// ownCluster is a cluster that the test may empty and restore. It has no
// controller manager, so its namespaces are left to end with it.
func ownCluster(t *testing.T, name string) *testcluster.Cluster {
	t.Helper()
	c, err := testcluster.Start(context.Background(), testcluster.Config{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// forget leaves what was made in a cluster of the test's own to the cluster's end.
func (s *clusterSide) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made = nil
}

// condition waits until a condition is true and returns its message; Ready must
// then be false.
func (o *ordeal) condition(kind string) string {
	o.t.Helper()
	var message string
	err := eventually(settle, func() error {
		s, err := o.rig.status()
		if err != nil {
			return err
		}
		ready, found := true, false
		for _, c := range s.Conditions {
			if c.Type == kind && c.Status == metav1.ConditionTrue {
				message, found = c.Message, true
			}
			if c.Type == "Ready" {
				ready = c.Status == metav1.ConditionTrue
			}
		}
		if !found || ready {
			return fmt.Errorf("condition %s true: %v, Ready: %v, in %+v", kind, found, ready, s.Conditions)
		}
		return nil
	})
	if err != nil {
		o.t.Fatal(err)
	}
	return message
}

// fingerprints are the resourceVersions of all ConfigMaps in the ordeal's
// namespaces: whatever is written changes them.
func (o *ordeal) fingerprints(c dynamic.Interface) map[string]string {
	o.t.Helper()
	out := map[string]string{}
	for _, ns := range o.workload.namespaces {
		for _, item := range o.list(c, ns) {
			out[ns+"/"+item.GetName()] = string(item.GetUID()) + "@" + item.GetResourceVersion()
		}
	}
	return out
}

// list is all ConfigMaps of a namespace but the one every namespace has.
func (o *ordeal) list(c dynamic.Interface, ns string) []unstructured.Unstructured {
	o.t.Helper()
	l, err := c.Resource(configMaps).Namespace(ns).List(o.t.Context(), metav1.ListOptions{})
	if err != nil {
		o.t.Fatal(err)
	}
	kept := l.Items[:0]
	for _, item := range l.Items {
		if item.GetName() != "kube-root-ca.crt" {
			kept = append(kept, item)
		}
	}
	return kept
}

// untouched fails the test if anything is written in the time given.
func (o *ordeal) untouched(c dynamic.Interface, d time.Duration) {
	o.t.Helper()
	before := o.fingerprints(c)
	if len(before) == 0 {
		o.t.Fatal("nothing is there that could be touched")
	}
	if err := throughout(d, func() error {
		if after := o.fingerprints(c); !maps.Equal(before, after) {
			return fmt.Errorf("written to: before %v, after %v", before, after)
		}
		time.Sleep(450 * time.Millisecond)
		return nil
	}); err != nil {
		o.t.Error(err)
	}
}

// FAULTS 8: another, empty cluster answers where the source was. Nothing of it
// may reach the destination, neither while running nor after all memory is lost.
func TestAnotherClusterAsTheSource(t *testing.T) {
	needsServers(t)
	source := ownCluster(t, "own-source")
	_, destination := clusters(t)
	o := newOrdealOn(t, source, destination)
	o.rig.source.forget()
	before := o.clusterUID(source)
	o.work()
	o.start()
	o.sleep(3*time.Second, 4*time.Second)
	o.rest()

	if err := source.Empty(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := o.clusterUID(source)
	check := func(when string) {
		t.Helper()
		message := o.condition("SourceChanged")
		for _, want := range []string{before, after, "afterimage.io/confirm-source"} {
			if !strings.Contains(message, want) {
				t.Errorf("%s: the message %q does not name %q", when, message, want)
			}
		}
		o.untouched(o.rig.destination.client, 15*time.Second)
	}
	check("while running")
	o.rig.kill()
	wipeState(t, o.rig)
	o.start()
	check("after the memory was lost")
	o.history.check(t)
}

func (o *ordeal) clusterUID(c *testcluster.Cluster) string {
	o.t.Helper()
	client, err := dynamic.NewForConfig(c.RESTConfig())
	if err != nil {
		o.t.Fatal(err)
	}
	var uid string
	if err := eventually(patience, func() error {
		ns, err := client.Resource(configMaps.GroupVersion().WithResource("namespaces")).Get(o.t.Context(), "kube-system", metav1.GetOptions{})
		if err == nil {
			uid = string(ns.GetUID())
		}
		return err
	}); err != nil {
		o.t.Fatal(err)
	}
	return uid
}

// versions are the versions under which the destination holds its ConfigMaps.
func (o *ordeal) versions() map[string]topology.Version {
	o.t.Helper()
	out := map[string]topology.Version{}
	for _, ns := range o.workload.namespaces {
		for _, item := range o.list(o.rig.destination.client, ns) {
			v, err := topology.ParseVersion(item.GetAnnotations()[topology.VersionAnnotation])
			if err != nil {
				o.t.Fatalf("%s/%s: %v", ns, item.GetName(), err)
			}
			out[ns+"/"+item.GetName()] = v
		}
	}
	return out
}

// FAULTS 6: the source's etcd is restored from a backup. What the destination
// holds of the lost time is taken back, under a higher epoch.
func TestSourceRestored(t *testing.T) {
	needsServers(t)
	source := ownCluster(t, "own-source")
	for _, running := range []bool{true, false} {
		name := "WhileDown"
		if running {
			name = "WhileRunning"
		}
		t.Run(name, func(t *testing.T) { testSourceRestored(t, source, running) })
	}
}

func testSourceRestored(t *testing.T, source *testcluster.Cluster, running bool) {
	_, destination := clusters(t)
	o := newOrdealOn(t, source, destination)
	o.rig.source.forget()
	o.history.mayGoBackInNewEpoch()
	o.work()
	o.start()
	o.sleep(3*time.Second, 4*time.Second)
	snapshot := filepath.Join(t.TempDir(), "snapshot")
	if err := source.Snapshot(snapshot); err != nil {
		t.Fatal(err)
	}
	o.sleep(4*time.Second, 6*time.Second)
	o.pause()
	o.converge(o.rig.destination.client, nil)
	before, lost := o.versions(), o.contents(o.rig.destination.client)
	if !running {
		o.rig.kill()
	}
	if err := source.Restore(t.Context(), snapshot); err != nil {
		t.Fatal(err)
	}
	o.workload.recall(t)
	restored := o.contents(o.rig.source.client)
	if maps.Equal(lost, restored) {
		t.Fatal("the restored source is as before: nothing is tested")
	}
	if !running {
		o.start()
	}
	o.converge(o.rig.destination.client, nil)
	after := o.versions()
	changed := 0
	for key, content := range restored {
		if lost[key] == content {
			continue
		}
		changed++
		if after[key].Epoch <= before[key].Epoch {
			t.Errorf("%s was taken back under version %s, before %s: its epoch is not higher", key, after[key], before[key])
		}
	}
	t.Logf("%d keys were taken back", changed)
	o.work()
	o.sleep(2*time.Second, 3*time.Second)
	o.rest()
}

// contents is what a cluster holds of the ordeal.
func (o *ordeal) contents(c dynamic.Interface) map[string]string {
	o.t.Helper()
	out := map[string]string{}
	for _, ns := range o.workload.namespaces {
		m, err := contents(o.t.Context(), c, ns)
		if err != nil {
			o.t.Fatal(err)
		}
		maps.Copy(out, m)
	}
	return out
}

// throughHTTP has the binary reach a cluster through a proxy that understands
// the Kubernetes API.
func (o *ordeal) throughHTTP(which string) *faultproxy.HTTP {
	o.t.Helper()
	side := o.rig.side(which)
	p := faultproxy.StartHTTP(o.t, side.cluster.RESTConfig(), faultproxy.WithTLS())
	if err := testcluster.WriteKubeconfig(filepath.Join(o.rig.dir, which+".kubeconfig"), which, p.RESTConfig()); err != nil {
		o.t.Fatal(err)
	}
	return p
}

// FAULTS 7: a replica of the source's API server that lags behind answers reads
// that allow old data. Nothing goes back at the destination.
func TestLaggingReplica(t *testing.T) {
	needsServers(t)
	o := newOrdeal(t)
	p := o.throughHTTP("source")
	o.work()
	o.sleep(time.Second, 2*time.Second)
	paths := []string{"/api/v1/configmaps", "/api/v1/namespaces"}
	for _, ns := range o.workload.namespaces {
		paths = append(paths, "/api/v1/namespaces/"+ns, "/api/v1/namespaces/"+ns+"/configmaps")
	}
	if _, err := p.StaleReplica(t.Context(), paths...); err != nil {
		t.Fatal(err)
	}
	o.sleep(2*time.Second, 3*time.Second)
	o.provesStale(p)
	for range 5 {
		o.start()
		o.sleep(3*time.Second, 4*time.Second)
		p.Cut() // every watch ends and begins again
		o.sleep(time.Second, 2*time.Second)
		o.rig.kill()
	}
	wipeState(t, o.rig)
	o.start()
	o.sleep(2*time.Second, 3*time.Second)
	o.rest()
}

// provesStale fails the test unless the proxy gives old answers to those who
// allow them.
func (o *ordeal) provesStale(p *faultproxy.HTTP) {
	o.t.Helper()
	c, err := dynamic.NewForConfig(p.RESTConfig())
	if err != nil {
		o.t.Fatal(err)
	}
	var versions [2]string
	for i, rv := range []string{"0", ""} {
		l, err := c.Resource(configMaps).List(o.t.Context(), metav1.ListOptions{ResourceVersion: rv})
		if err != nil {
			o.t.Fatal(err)
		}
		versions[i] = l.GetResourceVersion()
	}
	if versions[0] == versions[1] {
		o.t.Fatalf("a read that allows old data got new data, at %s", versions[0])
	}
}

// FAULTS 28: the destination is rebuilt, empty, while the source lives on.
func TestDestinationRebuiltEmpty(t *testing.T) {
	needsServers(t)
	source, _ := clusters(t)
	destination := ownCluster(t, "own-destination")
	o := newOrdealOn(t, source, destination)
	o.rig.destination.forget()
	o.work()
	o.start()
	o.sleep(3*time.Second, 4*time.Second)
	o.history.check(t)
	o.history.stop() // it cannot follow into another cluster
	if err := destination.Empty(t.Context()); err != nil {
		t.Fatal(err)
	}
	makeNamespaces(t, o.workload.labels, o.workload.namespaces, o.rig.destination.client)
	again := watchHistory(t, o.rig.destination.client, configMaps, "ordeal="+o.selector)
	o.sleep(2*time.Second, 3*time.Second)
	o.pause()
	o.converge(o.rig.destination.client, nil)
	again.check(t)
}

// FAULTS 29: two kubeconfigs lead to one cluster. It is said, and nothing is
// written.
func TestSourceIsTheDestination(t *testing.T) {
	needsServers(t)
	source, _ := clusters(t)
	o := newOrdealOn(t, source, source)
	for i := range 5 {
		key := fmt.Sprintf("config-%03d", i)
		if err := o.workload.step(t.Context(), 9, o.workload.namespaces[0], key); err != nil {
			t.Fatal(err)
		}
	}
	o.start()
	message := o.condition("SameCluster")
	if uid := o.clusterUID(source); !strings.Contains(message, uid) {
		t.Errorf("the message %q does not name the cluster %s", message, uid)
	}
	o.untouched(o.rig.source.client, 10*time.Second)
	for _, item := range o.list(o.rig.source.client, o.workload.namespaces[0]) {
		if owner := item.GetLabels()[topology.OwnerLabel]; owner != "" {
			t.Errorf("%s was written: it has the owner %s", item.GetName(), owner)
		}
	}
}
