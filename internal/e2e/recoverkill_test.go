package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/afterimage-dr/afterimage/internal/testcluster"
	"github.com/afterimage-dr/afterimage/internal/testenv"
)

const killObjects = 40

// killManifests are Deployments to be patched with what must not be applied twice,
// and ConfigMaps that somebody deletes at the destination.
func killManifests() (objects, liveSync string) {
	var b strings.Builder
	b.WriteString("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: killed\n  labels:\n    scenario: killed\n")
	for i := range killObjects {
		fmt.Fprintf(&b, `---
apiVersion: v1
kind: ConfigMap
metadata:
  name: c%[1]d
  namespace: killed
data:
  number: "%[1]d"
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: d%[1]d
  namespace: killed
spec:
  replicas: 2
  selector:
    matchLabels:
      app: d%[1]d
  template:
    metadata:
      labels:
        app: d%[1]d
    spec:
      tolerations:
        - key: a
          operator: Exists
      containers:
        - name: web
          image: registry.example/web:1
`, i)
	}
	filters := "\n          filters:\n            namespaceSelector:\n              matchLabels:\n                scenario: killed"
	return b.String(), `apiVersion: automation.astronetes.io/v1alpha1
kind: LiveSynchronization
metadata:
  name: killed
spec:
  plugin: kubernetes-objects-to-kubernetes
  config:
    sourceName: source
    destinationName: destination
    replication:
      forceNamespaceCreation: true
      resources:
        - version: v1
          resource: configmaps` + filters + `
        - group: apps
          version: v1
          resource: deployments` + filters + `
          transformation:
            patch:
              - op: replace
                path: /spec/replicas
                value: 0
          recoveryProcess:
            fromPatch:
              - op: replace
                path: /spec/replicas
                value: 3
              - op: add
                path: /spec/template/spec/tolerations/-
                value:
                  key: recovered
                  operator: Exists
`
}

// TestRecoverKilled (FAULTS 33): a recovery is killed before and after its writes,
// again and again, and run once more: nothing is done twice, nothing forgotten.
func TestRecoverKilled(t *testing.T) {
	needsServers(t)
	source, destination := clusters(t)
	r, err := newRig(t.TempDir(), afterimage(t), source, destination)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.close(t.Failed(), t.Log) })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	objects, liveSync := killManifests()
	must(r.source.apply(objects, "user"))
	must(r.writeManifests(liveSync))
	must(r.start())
	must(eventually(patience, func() error { return r.destination.counts("deployments.apps", "killed", killObjects) }))
	for i := range killObjects { // the namespace holds one more, of the cluster's own
		must(eventually(patience, func() error { return r.destination.has("configmaps", fmt.Sprintf("killed/c%d", i), nil) }))
	}
	r.source.cluster.down()
	r.kill()
	for i := range killObjects {
		must(r.destination.delete("configmaps", fmt.Sprintf("killed/c%d", i)))
	}
	recovery := func(failpoints string) (string, error) {
		c := exec.Command(r.binary, "recover", "-f", r.manifestDir(), "--data-dir", r.dataDir())
		c.Env = append(os.Environ(), "AFTERIMAGE_FAILPOINTS="+failpoints)
		out, err := c.CombinedOutput()
		return string(out), err
	}
	for _, point := range []string{"before-write=kill@1", "after-write=kill@1", "before-write=kill@9", "after-write=kill@5", "after-write=kill@13"} {
		if out, err := recovery("restorer/" + point); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("%s did not kill it: %v\n%s", point, err, out)
		}
	}
	out, err := recovery("")
	if err != nil || !strings.Contains(out, "0 failed") {
		t.Fatalf("%v\n%s", err, out)
	}
	for i := range killObjects {
		must(r.destination.has("configmaps", fmt.Sprintf("killed/c%d", i), []string{fmt.Sprintf(`/data/number="%d"`, i)}))
		must(r.destination.has("deployments.apps", fmt.Sprintf("killed/d%d", i), []string{
			"/spec/replicas=3", `/spec/template/spec/tolerations/1/key="recovered"`, "/spec/template/spec/tolerations/2!",
		}))
	}
	if out, err := recovery(""); err != nil || !strings.Contains(out, fmt.Sprintf("0 restored, 0 patched, %d unchanged", 2*killObjects)) {
		t.Errorf("again: %v\n%s", err, out)
	}
	if out, err := exec.Command(r.binary, "resume", "-f", r.manifestDir()).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}

	// The destination is lost as well: a new, empty one converges from the log alone,
	// and is recovered from it.
	empty := testenv.StartCluster(t, testenv.WithName("empty"))
	must(testcluster.WriteKubeconfig(filepath.Join(r.dir, "destination.kubeconfig"), "destination", empty.RESTConfig()))
	lost := r.destination
	defer func() { r.destination = lost }()
	r.destination, err = newSide(&reached{Cluster: empty.Cluster})
	must(err)
	must(r.start())
	must(eventually(patience, func() error { return r.destination.counts("deployments.apps", "killed", killObjects) }))
	must(eventually(patience, func() error { return r.destination.counts("configmaps", "killed", killObjects) }))
	must(r.destination.has("deployments.apps", "killed/d0", []string{"/spec/replicas=0"}))
	if out, err := recovery(""); err != nil || !strings.Contains(out, fmt.Sprintf("0 restored, %d patched", killObjects)) {
		t.Errorf("in the new destination: %v\n%s", err, out)
	}
	r.source.cluster.up()
}
