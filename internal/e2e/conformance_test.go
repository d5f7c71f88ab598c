package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/faultproxy"
	"github.com/afterimage-dr/afterimage/internal/testenv"
	"github.com/afterimage-dr/afterimage/topology"
)

// TestEmbeddedPipelineConforms runs the promises over the log inside the process.
func TestEmbeddedPipelineConforms(t *testing.T) {
	needsServers(t)
	conform(t)
}

// TestKafkaPipelineConforms runs the same promises over an Apache Kafka, or over
// whatever AFTERIMAGE_BROKERS names.
func TestKafkaPipelineConforms(t *testing.T) {
	needsServers(t)
	brokers := os.Getenv(testenv.BrokersVariable)
	if brokers == "" {
		brokers = kafka(t).Addr()
	}
	conform(t, "--brokers", brokers, "--session-timeout", session.String())
}

// conformance is one pipeline on which the promises are tried, one after the
// other. Each has objects of its own, so none builds on another.
type conformance struct {
	*ordeal
	// ns is replicated; outside is a namespace that is not selected (yet).
	ns, outside string
	proxy       *faultproxy.HTTP // before the destination
}

// promises are what every pipeline keeps, whatever holds its log.
var promises = []struct {
	name string
	keep func(*conformance)
}{
	{"what was there before the start is copied", (*conformance).initialCopy},
	{"created, updated, deleted and recreated live", (*conformance).live},
	{"an object's label takes it in and out", (*conformance).filter},
	{"a namespace's label takes its objects in and out", (*conformance).namespaceLabel},
	{"the patch is applied", (*conformance).patch},
	{"what cannot be patched is held, named, and heals", (*conformance).holdAndHeal},
	{"a resync without differences writes nothing", (*conformance).resync},
	{"a restart loses and repeats nothing", (*conformance).restart},
	{"the memory can be wiped", (*conformance).wiped},
}

func conform(t *testing.T, args ...string) {
	o := newOrdeal(t)
	if len(args) > 0 {
		// Brokers that outlive the test would remember its clusters of another day.
		dropTopics(t, args[1], topology.TopicsFor("default", o.selector).All())
	}
	c := &conformance{ordeal: o, ns: o.workload.namespaces[0], outside: o.selector + "-outside"}
	c.proxy = o.throughHTTP("destination")
	c.manifests("1h")
	o.rig.args = args
	makeNamespaces(t, nil, []string{c.outside}, o.rig.source.client, o.rig.destination.client)
	for _, s := range []*clusterSide{o.rig.source, o.rig.destination} {
		s.note(configMaps.GroupVersion().WithResource("namespaces"), c.outside)
	}
	c.apply(c.ns, "before", "yes", "north", 1)
	c.apply(c.outside, "elsewhere", "yes", "north", 1)
	o.start()
	for _, p := range promises {
		ok := t.Run(strings.ReplaceAll(p.name, " ", "-"), func(t *testing.T) {
			inner := *c
			inner.ordeal = &ordeal{t: t, rig: o.rig, workload: o.workload, history: o.history, random: o.random, selector: o.selector}
			p.keep(&inner)
		})
		if !ok {
			return // the rest would only say the same
		}
	}
}

// dropTopics deletes topics now and at the end of the test.
func dropTopics(t *testing.T, brokers string, topics []string) {
	t.Helper()
	drop := func() {
		cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(brokers, ",")...))
		if err != nil {
			t.Error(err)
			return
		}
		defer cl.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		answers, err := kadm.NewClient(cl).DeleteTopics(ctx, topics...)
		if err != nil {
			t.Error(err)
		}
		for topic, a := range answers {
			if a.Err != nil && !errors.Is(a.Err, kerr.UnknownTopicOrPartition) {
				t.Errorf("deleting %s: %v", topic, a.Err)
			}
		}
	}
	drop()
	t.Cleanup(drop)
}

func (c *conformance) manifests(resync string) {
	c.t.Helper()
	if err := c.rig.writeManifests(fmt.Sprintf(`apiVersion: automation.astronetes.io/v1alpha1
kind: LiveSynchronization
metadata:
  name: %[1]s
spec:
  plugin: kubernetes-objects-to-kubernetes
  config:
    sourceName: source
    destinationName: destination
    replication:
      resyncPeriod: %[2]s
      resources:
        - version: v1
          resource: configmaps
          filters:
            selector:
              matchLabels:
                copy: "yes"
            namespaceSelector:
              matchLabels:
                ordeal: %[1]s
          transformation:
            patch:
              - op: replace
                path: /data/region
                value: south
`, c.selector, resync)); err != nil {
		c.t.Fatal(err)
	}
}

// apply makes or changes a ConfigMap in the source. Without a region the patch fails.
func (c *conformance) apply(ns, name, copied, region string, n int) {
	c.t.Helper()
	data := fmt.Sprintf("  number: %q\n", fmt.Sprint(n))
	if region != "" {
		data += "  region: " + region + "\n"
	}
	manifest := fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: %s\n  namespace: %s\n  labels:\n    copy: %q\ndata:\n%s", name, ns, copied, data)
	if err := c.rig.source.apply(manifest, "someone"); err != nil {
		c.t.Fatal(err)
	}
}

func (c *conformance) delete(name string) {
	c.t.Helper()
	if err := c.rig.source.delete("configmaps", c.ns+"/"+name); err != nil {
		c.t.Fatal(err)
	}
}

func (c *conformance) appears(key string, wants ...string) {
	c.t.Helper()
	if err := eventually(patience, func() error { return c.rig.destination.has("configmaps", key, wants) }); err != nil {
		c.t.Fatal(err)
	}
}

func (c *conformance) vanishes(key string) {
	c.t.Helper()
	if err := eventually(patience, func() error {
		return inverted(c.rig.destination.has("configmaps", key, nil), []string{key})
	}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *conformance) lacks(key string, d time.Duration) {
	c.t.Helper()
	if err := throughout(d, func() error {
		return inverted(c.rig.destination.has("configmaps", key, nil), []string{key})
	}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *conformance) initialCopy() {
	c.appears(c.ns+"/before", "/data/number=1")
	c.lacks(c.outside+"/elsewhere", time.Second)
}

func (c *conformance) live() {
	key := c.ns + "/live"
	c.apply(c.ns, "live", "yes", "north", 1)
	c.appears(key, "/data/number=1")
	c.apply(c.ns, "live", "yes", "north", 2)
	c.appears(key, "/data/number=2")
	c.delete("live")
	c.vanishes(key)
	c.apply(c.ns, "live", "yes", "north", 3)
	c.appears(key, "/data/number=3")
	// Faster than a look at it: only the last state counts.
	c.delete("live")
	c.apply(c.ns, "live", "yes", "north", 4)
	c.apply(c.ns, "live", "yes", "north", 5)
	c.appears(key, "/data/number=5")
}

func (c *conformance) filter() {
	key := c.ns + "/labelled"
	c.apply(c.ns, "labelled", "no", "north", 1)
	c.lacks(key, time.Second)
	c.apply(c.ns, "labelled", "yes", "north", 1)
	c.appears(key)
	c.apply(c.ns, "labelled", "no", "north", 1)
	c.vanishes(key)
}

func (c *conformance) namespaceLabel() {
	key := c.outside + "/elsewhere"
	label := func(value string) {
		c.t.Helper()
		if err := c.rig.source.patch("namespaces", c.outside, `{"metadata":{"labels":{"ordeal":`+value+`}}}`); err != nil {
			c.t.Fatal(err)
		}
	}
	label(`"` + c.selector + `"`)
	c.appears(key)
	label("null")
	c.vanishes(key)
}

func (c *conformance) patch() {
	c.apply(c.ns, "patched", "yes", "north", 1)
	c.appears(c.ns+"/patched", "/data/region=south", "/data/number=1")
}

func (c *conformance) holdAndHeal() {
	key := c.ns + "/held"
	c.apply(c.ns, "held", "yes", "north", 1)
	c.appears(key, "/data/number=1")
	c.apply(c.ns, "held", "yes", "", 2)
	if err := eventually(patience, func() error { return c.failing("core/v1/configmaps/"+key, "PatchFailed") }); err != nil {
		c.t.Fatal(err)
	}
	// The last good state stays, and nobody waits for it.
	c.apply(c.ns, "beside", "yes", "north", 1)
	c.appears(c.ns + "/beside")
	c.appears(key, "/data/number=1")
	c.apply(c.ns, "held", "yes", "north", 3)
	c.appears(key, "/data/number=3")
	c.ready()
}

// failing is nil when status names the object as failing for the reason.
func (o *ordeal) failing(object, reason string) error {
	s, err := o.rig.status()
	if err != nil {
		return err
	}
	for _, f := range s.Failing {
		if f.Object == object && f.Reason == reason {
			return nil
		}
	}
	return fmt.Errorf("%s does not fail for %s in %+v", object, reason, s.Failing)
}

// ready waits until status says so.
func (o *ordeal) ready() {
	o.t.Helper()
	if err := eventually(settle, func() error {
		s, err := o.rig.status()
		if err != nil {
			return err
		}
		if s.State != "Ready" {
			return fmt.Errorf("%s: %+v", s.State, s.Conditions)
		}
		return nil
	}); err != nil {
		o.t.Fatal(err)
	}
}

func (c *conformance) resync() {
	c.ready()
	before := c.fingerprints(c.rig.destination.client)
	c.proxy.Forget()
	c.manifests("2s")
	// A resync lists the destination's objects.
	lists := faultproxy.Match{Verbs: []string{"list"}, Resource: "configmaps"}
	if err := eventually(patience, func() error {
		if n := c.proxy.Count(lists); n < 3 {
			return fmt.Errorf("the destination was listed %d times: no three resyncs", n)
		}
		return nil
	}); err != nil {
		c.t.Fatal(err)
	}
	c.manifests("1h")
	if writes := c.proxy.Requests(faultproxy.Match{Resource: "configmaps", Verbs: faultproxy.Writes().Verbs}); len(writes) > 0 {
		c.t.Errorf("%d writes, the first: %s %s", len(writes), writes[0].Method, writes[0].Path)
	}
	if after := c.fingerprints(c.rig.destination.client); !maps.Equal(before, after) {
		c.t.Errorf("objects changed: before %v, after %v", before, after)
	}
}

func (c *conformance) restart() {
	for _, name := range []string{"kept", "changed", "removed"} {
		c.apply(c.ns, name, "yes", "north", 1)
	}
	c.appears(c.ns + "/removed")
	c.ready()
	if err := c.rig.stop(); err != nil {
		c.t.Fatal(err)
	}
	before := c.fingerprints(c.rig.destination.client)
	c.apply(c.ns, "changed", "yes", "north", 2)
	c.apply(c.ns, "added", "yes", "north", 1)
	c.delete("removed")
	c.start()
	c.appears(c.ns+"/changed", "/data/number=2")
	c.appears(c.ns + "/added")
	c.vanishes(c.ns + "/removed")
	if after := c.fingerprints(c.rig.destination.client); after[c.ns+"/kept"] != before[c.ns+"/kept"] {
		c.t.Errorf("what did not change was written again: %s, before %s", after[c.ns+"/kept"], before[c.ns+"/kept"])
	}
}

func (c *conformance) wiped() {
	c.apply(c.ns, "wiped", "yes", "north", 1)
	c.apply(c.ns, "wiped-removed", "yes", "north", 1)
	c.appears(c.ns + "/wiped-removed")
	c.appears(c.ns + "/wiped")
	c.rig.kill()
	wipeState(c.t, c.rig)
	c.delete("wiped-removed")
	before := c.fingerprints(c.rig.destination.client)
	c.start()
	c.vanishes(c.ns + "/wiped-removed")
	c.apply(c.ns, "after", "yes", "north", 1)
	c.appears(c.ns + "/after")
	c.ready()
	after := c.fingerprints(c.rig.destination.client)
	delete(before, c.ns+"/wiped-removed")
	delete(after, c.ns+"/after")
	if !maps.Equal(before, after) {
		c.t.Errorf("what did not change was written again: before %v, after %v", before, after)
	}
}
