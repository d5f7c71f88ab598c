package synchronization

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/afterimage-dr/afterimage/internal/faultproxy"
	"github.com/afterimage-dr/afterimage/internal/fence"
	"github.com/afterimage-dr/afterimage/internal/manifest"
	"github.com/afterimage-dr/afterimage/internal/pipeline"
	"github.com/afterimage-dr/afterimage/internal/testcluster"
	"github.com/afterimage-dr/afterimage/internal/testenv"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// childVariable names the folder of a rig whose pass this binary is to run, as a
// process of its own that can be killed.
const childVariable = "AFTERIMAGE_TEST_PASS"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		os.Exit(child(dir))
	}
	testenv.Main(m)
}

var (
	configMaps  = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	limitRanges = schema.GroupVersionResource{Version: "v1", Resource: "limitranges"}
	secrets     = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	namespaces  = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	leases      = schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}
)

// kubernetesRig is a Synchronization of one namespace between the shared clusters, each
// behind a proxy that sees the requests.
type kubernetesRig struct {
	t                       *testing.T
	dir, namespace          string
	run                     *v1alpha1.Synchronization
	source, destination     *faultproxy.HTTP
	atSource, atDestination *dynamic.DynamicClient
}

// newKubernetesRig makes one whose run covers the resources of a namespace of its own.
func newKubernetesRig(t *testing.T, resources ...schema.GroupVersionResource) *kubernetesRig {
	t.Helper()
	t.Parallel()
	source, destination := testenv.Pair(t)
	r := &kubernetesRig{
		t: t, dir: t.TempDir(), namespace: strings.ToLower(strings.ReplaceAll(t.Name(), "_", "-")),
		source: source.Proxy(faultproxy.WithTLS()), destination: destination.Proxy(faultproxy.WithTLS()),
	}
	r.atSource, r.atDestination = r.client(source.RESTConfig()), r.client(destination.RESTConfig())
	r.apply(r.atSource, namespaces, "", r.namespace, nil)
	for name, p := range map[string]*faultproxy.HTTP{"source": r.source, "destination": r.destination} {
		if err := testcluster.WriteKubeconfig(filepath.Join(r.dir, name+".kubeconfig"), name, p.RESTConfig()); err != nil {
			t.Fatal(err)
		}
	}
	r.run = &v1alpha1.Synchronization{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: r.namespace + "-x7f2p", GenerateName: r.namespace + "-"}}
	r.run.Spec.Plugin = v1alpha1.PluginKubernetes
	c := &r.run.Spec.Config
	c.SourceName, c.DestinationName = "source", "destination"
	c.Replication.ForceNamespaceCreation = true
	for _, gvr := range resources {
		c.Replication.Resources = append(c.Replication.Resources, v1alpha1.Resource{
			Group: gvr.Group, Version: gvr.Version, Resource: gvr.Resource,
			Filters: &v1alpha1.Filters{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": r.namespace}}},
		})
	}
	r.write("")
	return r
}

const assets = `apiVersion: assets.astronetes.io/v1alpha1
kind: KubernetesCluster
metadata: {name: source}
spec: {kubeconfigFile: ../source.kubeconfig}
---
apiVersion: assets.astronetes.io/v1alpha1
kind: KubernetesCluster
metadata: {name: destination}
spec: {kubeconfigFile: ../destination.kubeconfig}
---
apiVersion: automation.astronetes.io/v1alpha1
kind: LiveSynchronization
metadata: {name: %s}
spec:
  plugin: kubernetes-objects-to-kubernetes
  config:
    sourceName: source
    destinationName: destination
    replication: {resources: [{version: v1, resource: services}]}
`

// write writes the manifests, with a LiveSynchronization that is not run, and the run.
func (r *kubernetesRig) write(live string) {
	r.t.Helper()
	if live == "" {
		live = "other"
	}
	run, err := json.Marshal(r.run)
	if err != nil {
		r.t.Fatal(err)
	}
	for name, content := range map[string][]byte{"manifests/all.yaml": fmt.Appendf(nil, assets, live), "run.json": run} {
		file := filepath.Join(r.dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			r.t.Fatal(err)
		}
		if err := os.WriteFile(file, content, 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
}

// bucket has the originals stored in an S3 server.
func (r *kubernetesRig) bucket(s3 *testenv.S3) {
	r.t.Helper()
	s3.CreateBucket("originals")
	r.run.Spec.Config.BucketName = "originals"
	r.write("")
	content := fmt.Sprintf(`apiVersion: v1
kind: Secret
metadata: {name: bucket-credentials}
stringData: {accessKeyID: %s, secretAccessKey: %s}
---
apiVersion: assets.astronetes.io/v1alpha1
kind: Bucket
metadata: {name: originals}
spec: {generic: {endpoint: "%s", name: originals, secretName: bucket-credentials}}
`, s3.AccessKey, s3.SecretKey, s3.Endpoint)
	if err := os.WriteFile(filepath.Join(r.dir, "manifests", "bucket.yaml"), []byte(content), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// pass makes one attempt in this process.
func (r *kubernetesRig) pass() (Outcome, error) {
	r.t.Helper()
	var log buffer
	began := time.Now()
	out, err := attempt(r.dir, &log, nil)
	r.t.Logf("a pass took %s: %+v, error: %v", time.Since(began).Round(10*time.Millisecond), out.Result, err)
	r.t.Cleanup(func() {
		if r.t.Failed() {
			r.t.Logf("log of a pass:\n%s", log.String())
		}
	})
	return out, err
}

// attempt makes one attempt of the rig in a folder.
func attempt(dir string, log *buffer, progress func(v1alpha1.SynchronizationResult)) (Outcome, error) {
	ctx, cancel := context.WithCancel(context.Background())
	set, err := manifest.Load([]string{filepath.Join(dir, "manifests")})
	if err != nil {
		cancel()
		return Outcome{}, err
	}
	p, err := pipeline.Start(ctx, pipeline.Options{DataDir: filepath.Join(dir, "data"), Output: log, Version: "test"}, nil)
	if err != nil {
		cancel()
		return Outcome{}, err
	}
	defer func() {
		cancel()
		_ = p.Wait()
	}()
	var run v1alpha1.Synchronization
	content, err := os.ReadFile(filepath.Join(dir, "run.json"))
	if err == nil {
		err = json.Unmarshal(content, &run)
	}
	if err != nil {
		return Outcome{}, err
	}
	attempt, err := Kubernetes(KubernetesOptions{Pipeline: p, Patience: 4 * time.Second, Grace: 2 * time.Second})(set, &run)
	if err != nil {
		return Outcome{}, Permanent(err)
	}
	return attempt(ctx, progress)
}

// child runs a pass and says on standard output how far it is.
func child(dir string) int {
	var log buffer
	_, err := attempt(dir, &log, func(r v1alpha1.SynchronizationResult) { fmt.Println(r.Created) })
	if err != nil {
		fmt.Fprintln(os.Stderr, err, log.String())
		return 1
	}
	return 0
}

// want checks what a pass has counted.
func (r *kubernetesRig) want(out Outcome, want v1alpha1.SynchronizationResult) {
	r.t.Helper()
	if out.Result != want {
		r.t.Errorf("the pass counted %+v, want %+v; failures: %+v", out.Result, want, out.Failures)
	}
}

// apply makes an object, or gives it another content.
func (r *kubernetesRig) apply(at *dynamic.DynamicClient, gvr schema.GroupVersionResource, namespace, name string, content map[string]any) {
	r.t.Helper()
	kinds := map[string]string{"configmaps": "ConfigMap", "limitranges": "LimitRange", "namespaces": "Namespace", "secrets": "Secret", "leases": "Lease"}
	o := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": gvr.GroupVersion().String(), "kind": kinds[gvr.Resource], "metadata": map[string]any{"name": name},
	}}
	for k, v := range content {
		o.Object[k] = v
	}
	if _, err := at.Resource(gvr).Namespace(namespace).Apply(context.Background(), name, o, metav1.ApplyOptions{FieldManager: "test", Force: true}); err != nil {
		r.t.Fatal(err)
	}
}

// configMap makes one in the source.
func (r *kubernetesRig) configMap(name, content string) {
	r.t.Helper()
	r.apply(r.atSource, configMaps, r.namespace, name, map[string]any{"data": map[string]any{"content": content}})
}

func (r *kubernetesRig) remove(at *dynamic.DynamicClient, gvr schema.GroupVersionResource, name string) {
	r.t.Helper()
	if err := at.Resource(gvr).Namespace(r.namespace).Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil {
		r.t.Fatal(err)
	}
}

// content of a ConfigMap at the destination; "" if there is none.
func (r *kubernetesRig) content(name string) string {
	r.t.Helper()
	o, err := r.atDestination.Resource(configMaps).Namespace(r.namespace).Get(context.Background(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return ""
	}
	if err != nil {
		r.t.Fatal(err)
	}
	s, _, _ := unstructured.NestedString(o.Object, "data", "content")
	return s
}

// writes are those to the destination since its proxy forgot, but for the fence's.
func (r *kubernetesRig) writes() []faultproxy.Request {
	m := faultproxy.Writes()
	m.Request = func(q *faultproxy.Request) bool { return q.Namespace != fence.Namespace }
	return r.destination.Requests(m)
}

// names of a resource's objects at the destination.
func (r *kubernetesRig) names(gvr schema.GroupVersionResource) map[string]bool {
	r.t.Helper()
	list, err := r.atDestination.Resource(gvr).Namespace(r.namespace).List(context.Background(), metav1.ListOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	names := map[string]bool{}
	for i := range list.Items {
		names[list.Items[i].GetName()] = true
	}
	return names
}

func (r *kubernetesRig) client(c *rest.Config) *dynamic.DynamicClient {
	r.t.Helper()
	c = rest.CopyConfig(c)
	c.QPS = -1
	d, err := dynamic.NewForConfig(c)
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

// buffer is a bytes.Buffer for several writers.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
