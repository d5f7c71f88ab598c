package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/afterimage-dr/afterimage/internal/testcluster"
	"github.com/afterimage-dr/afterimage/internal/testenv"
	"github.com/afterimage-dr/afterimage/operator/config"
	"github.com/afterimage-dr/afterimage/state/bucket"
	"github.com/afterimage-dr/afterimage/topology"
)

// cmdReports runs a command that reports on the rig's manifests and data directory.
// Arguments of the form /POINTER=JSON are compared with its report, others are
// flags. Negated: its exit status must not be 0, and the report is compared if
// there is one.
func cmdReports(name string) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) { reports(ts, name, neg, args) }
}

func reports(ts *testscript.TestScript, name string, neg bool, args []string) {
	r := rigOf(ts)
	command := []string{name, "-f", r.manifestDir(), "--data-dir", r.dataDir(), "-o", "json"}
	var wants []string
	for _, a := range args {
		if a == "MOMENT" {
			a = ts.Getenv("MOMENT")
		}
		if strings.HasPrefix(a, "/") {
			wants = append(wants, a)
		} else {
			command = append(command, a)
		}
	}
	var out, errOut bytes.Buffer
	c := exec.Command(r.binary, command...)
	c.Stdout, c.Stderr = &out, &errOut
	err := c.Run()
	ts.Logf("%s: %v\n%s%s", name, err, errOut.String(), out.String())
	if neg == (err == nil) {
		ts.Fatalf("%s %v: error %v, negated %v", name, args, err, neg)
	}
	if len(wants) == 0 {
		return
	}
	var report any
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		ts.Fatalf("the report: %v", err)
	}
	ts.Check(matches(report, wants))
}

// cmdMoment notes a moment at which everything that was done before is in the log,
// and nothing that is done after, for recover --at MOMENT.
func cmdMoment(ts *testscript.TestScript, _ bool, _ []string) {
	const apart = 200 * time.Millisecond // clocks are read before and after a request
	time.Sleep(apart)
	ts.Setenv("MOMENT", time.Now().UTC().Format(time.RFC3339Nano))
	time.Sleep(apart)
}

// cmdResume runs afterimage resume.
func cmdResume(ts *testscript.TestScript, _ bool, _ []string) {
	r := rigOf(ts)
	out, err := exec.Command(r.binary, "resume", "-f", r.manifestDir()).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	ts.Check(err)
}

const originals = `apiVersion: v1
kind: Namespace
metadata:
  name: orig
  labels:
    scenario: orig
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: orig
spec:
  replicas: 2
  selector:
    matchLabels:
      app: web
  template:
    metadata:
      labels:
        app: web
    spec:
      containers:
        - name: web
          image: registry.example/web:1
`

const withBucket = `apiVersion: v1
kind: Secret
metadata:
  name: bucket-credentials
stringData:
  accessKeyID: %[2]s
  secretAccessKey: %[3]s
---
apiVersion: assets.astronetes.io/v1alpha1
kind: Bucket
metadata:
  name: originals
spec:
  generic:
    endpoint: %[1]s
    name: originals
    secretName: bucket-credentials
---
apiVersion: automation.astronetes.io/v1alpha1
kind: LiveSynchronization
metadata:
  name: orig
spec:
  plugin: kubernetes-objects-to-kubernetes
  config:
    sourceName: source
    destinationName: destination
    bucketName: originals
    replication:
      forceNamespaceCreation: true
      resources:
        - group: apps
          version: v1
          resource: deployments
          filters:
            namespaceSelector:
              matchLabels:
                scenario: orig
          transformation:
            patch:
              - op: replace
                path: /spec/replicas
                value: 0
          recoveryProcess:
            fromOriginal:
              enabled: true
`

// TestRecoverOriginal: a LiveSynchronization fills its bucket, and a recovery with
// the source gone restores the original from it; with the bucket gone too, from
// the log, and says so.
func TestRecoverOriginal(t *testing.T) {
	needsServers(t)
	store := testenv.StartS3(t)
	store.CreateBucket("originals")
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
	must(r.source.apply(originals, "user"))
	must(r.writeManifests(fmt.Sprintf(withBucket, store.Addr(), testcluster.S3AccessKey, testcluster.S3SecretKey)))
	must(r.start())
	b, err := bucket.New(bucket.Options{Endpoint: store.Addr(), Name: "originals", AccessKeyID: testcluster.S3AccessKey, SecretAccessKey: testcluster.S3SecretKey})
	must(err)
	key := topology.Key{Group: "apps", Version: "v1", Resource: "deployments", Namespace: "orig", Name: "web"}
	must(eventually(patience, func() error {
		_, err := b.Get(t.Context(), bucket.Path("default", "orig", key))
		return err
	}))
	replicas := func(n string) error {
		return r.destination.has("deployments.apps", "orig/web", []string{"/spec/replicas=" + n})
	}
	must(eventually(patience, func() error { return replicas("0") }))
	r.source.cluster.down()
	r.kill()

	recovered := func() string {
		t.Helper()
		out, err := exec.Command(r.binary, "recover", "-f", r.manifestDir(), "--data-dir", r.dataDir()).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		must(replicas("2"))
		return string(out)
	}
	if out := recovered(); !strings.Contains(out, "1 restored") || !strings.Contains(out, "originals from the bucket") || strings.Contains(out, "cannot be read") {
		t.Errorf("from the bucket:\n%s", out)
	}
	store.Stop()
	must(r.destination.delete("deployments.apps", "orig/web"))
	if out := recovered(); !strings.Contains(out, "1 restored") || !strings.Contains(out, "the bucket cannot be read") {
		t.Errorf("with the bucket lost:\n%s", out)
	}
	out, err := exec.Command(r.binary, "resume", "-f", r.manifestDir()).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	r.source.cluster.up()

	// Source, log and destination lost: a new, empty cluster, from the bucket alone.
	store.Start()
	must(os.RemoveAll(r.dataDir()))
	empty := testenv.StartCluster(t, testenv.WithName("empty"))
	rehearse := exec.Command(r.binary, "rehearse", "-f", r.manifestDir(), "--from", "bucket", "--data-dir", r.dataDir(), "--into-kubeconfig", empty.Kubeconfig())
	if out, err := rehearse.CombinedOutput(); err != nil || !strings.Contains(string(out), "1 restored") || !strings.Contains(string(out), "forecast of a recovery: ") {
		t.Errorf("rehearsing into another cluster: %v\n%s", err, out)
	}
	itself := exec.Command(r.binary, "rehearse", "-f", r.manifestDir(), "--from", "bucket", "--data-dir", r.dataDir(), "--into-kubeconfig", filepath.Join(r.dir, "destination.kubeconfig"))
	if out, err := itself.CombinedOutput(); err == nil || !strings.Contains(string(out), "the destination itself") {
		t.Errorf("rehearsing into the destination: %v\n%s", err, out)
	}
	must(testcluster.WriteKubeconfig(filepath.Join(r.dir, "destination.kubeconfig"), "destination", empty.RESTConfig()))
	lostDestination := r.destination
	r.destination, err = newSide(&reached{Cluster: empty.Cluster})
	must(err)
	if out := recovered(); !strings.Contains(out, "1 restored") || !strings.Contains(out, "read from the bucket") || !strings.Contains(out, "there is no log") {
		t.Errorf("from the bucket alone:\n%s", out)
	}
	if out := recovered(); !strings.Contains(out, "0 restored, 0 patched, 1 unchanged") {
		t.Errorf("from the bucket alone, again:\n%s", out)
	}
	// What is damaged is named, and the rest goes on.
	damaged := bucket.Path("default", "orig", key) + "-2"
	must(os.WriteFile(store.File("originals", damaged), []byte("{"), 0o600))
	out, err = exec.Command(r.binary, "recover", "-f", r.manifestDir(), "--data-dir", r.dataDir(), "--from", "bucket").CombinedOutput()
	if err == nil || !strings.Contains(string(out), damaged) || !strings.Contains(string(out), "1 unchanged") {
		t.Errorf("with a damaged original: %v\n%s", err, out)
	}
	r.destination = lostDestination
}

// TestSampleWithBucket runs sample 07 as it is written, but for the name of the
// bucket it leaves open: its patches recover. With fromOriginal added its originals do.
func TestSampleWithBucket(t *testing.T) {
	needsServers(t)
	store := testenv.StartS3(t)
	store.CreateBucket("originals")
	source, destination := clusters(t)
	r, err := newRig(t.TempDir(), afterimage(t), source, destination)
	must(t, err)
	t.Cleanup(func() { r.close(t.Failed(), t.Log) })
	content, err := config.Samples.ReadFile("samples/07-livesynchronization-bucket.yaml")
	must(t, err)
	sample := strings.ReplaceAll(string(content), "<bucket_object_name>", "originals")
	assets, _, ok := strings.Cut(fmt.Sprintf(withBucket, store.Addr(), testcluster.S3AccessKey, testcluster.S3SecretKey), "apiVersion: automation")
	if !ok {
		t.Fatal("no assets")
	}
	for _, ns := range [][2]string{{"sample07-one", "pre"}, {"sample07-two", "pre-second"}} {
		must(t, r.source.apply(strings.NewReplacer("scenario: orig", "env: "+ns[1], "name: orig", "name: "+ns[0], "namespace: orig", "namespace: "+ns[0]).Replace(originals), "user"))
		must(t, r.destination.apply(fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: %s\n", ns[0]), "user"))
	}
	has := func(n string) {
		t.Helper()
		for _, ns := range []string{"sample07-one", "sample07-two"} {
			must(t, eventually(patience, func() error { return r.destination.has("deployments.apps", ns+"/web", []string{"/spec/replicas=" + n}) }))
		}
	}
	b, err := bucket.New(bucket.Options{Endpoint: store.Addr(), Name: "originals", AccessKeyID: testcluster.S3AccessKey, SecretAccessKey: testcluster.S3SecretKey})
	must(t, err)
	run := func(command string) {
		t.Helper()
		args := []string{command, "-f", r.manifestDir()}
		if command == "recover" {
			args = append(args, "--data-dir", r.dataDir())
		}
		if out, err := exec.Command(r.binary, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
	}
	must(t, r.writeManifests(assets+sample))
	must(t, r.start())
	has("0")
	must(t, eventually(patience, func() error {
		_, err := b.Get(t.Context(), "default/livesynchronization-sample/apps-v1-deployments/sample07-one.web")
		return err
	}))
	run("recover")
	has("1")
	run("resume")
	has("0")
	fromOriginal := strings.ReplaceAll(sample, "            fromPatch:\n              - op: replace\n                path: /spec/replicas\n                value: 1\n", "            fromOriginal:\n              enabled: true\n")
	if fromOriginal == sample {
		t.Fatal("the sample has no fromPatch to replace")
	}
	must(t, r.writeManifests(assets+fromOriginal))
	run("recover")
	has("2")
	run("resume")
	has("0")
}
