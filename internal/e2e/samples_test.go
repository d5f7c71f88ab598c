package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/afterimage-dr/afterimage/internal/testcluster"
	"github.com/afterimage-dr/afterimage/operator/config"
)

// TestSamples runs the documented samples as they are, each beside sample 00 and
// the Secrets it asks for, with the namespaces made at the destination beforehand.
func TestSamples(t *testing.T) {
	needsServers(t)
	const objects = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: sample-in, labels: {disaster-recovery: enabled}}
spec:
  replicas: 3
  strategy: {type: Recreate}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "example.invalid/web:1"}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: other, namespace: sample-out}
spec:
  replicas: 2
  selector: {matchLabels: {app: other}}
  template:
    metadata: {labels: {app: other}}
    spec: {containers: [{name: other, image: "example.invalid/other:1"}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: config-app, namespace: sample-in}
data: {a: b}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: app.test, namespace: sample-in}
data: {a: b}
`
	for file, want := range map[string]struct {
		has   [][]string
		lacks [][]string
	}{
		"01-livesynchronization.yaml": {
			has:   [][]string{{"deployments.apps", "sample-in/web", "/spec/replicas=0", "/spec/strategy/type=Recreate"}},
			lacks: [][]string{{"deployments.apps", "sample-out/other"}, {"configmaps", "sample-in/config-app"}},
		},
		"02-name-selector.yaml": {
			has:   [][]string{{"configmaps", "sample-in/config-app", "/data/a=b"}},
			lacks: [][]string{{"configmaps", "sample-in/app.test"}, {"deployments.apps", "sample-in/web"}},
		},
		"03-name-selector-exclude.yaml": {
			has:   [][]string{{"configmaps", "sample-in/config-app", "/data/a=b"}},
			lacks: [][]string{{"configmaps", "sample-in/app.test"}},
		},
		"04-object-selector.yaml": {
			has:   [][]string{{"deployments.apps", "sample-in/web", "/spec/replicas=3"}},
			lacks: [][]string{{"deployments.apps", "sample-out/other"}},
		},
		"08-resync-period.yaml": {
			has:   [][]string{{"deployments.apps", "sample-in/web", "/spec/replicas=0", "/spec/strategy/type=RollingUpdate"}, {"deployments.apps", "sample-out/other", "/spec/replicas=0"}},
			lacks: [][]string{{"configmaps", "sample-in/config-app"}},
		},
	} {
		t.Run(file, func(t *testing.T) {
			r := newSampleRig(t, file)
			must(t, r.source.apply(objects, "someone"))
			if err := r.start(); err != nil {
				t.Fatal(err)
			}
			for _, h := range want.has {
				must(t, eventually(patience, func() error { return r.destination.has(h[0], h[1], h[2:]) }))
			}
			for _, l := range want.lacks {
				must(t, throughout(2*time.Second, func() error { return inverted(r.destination.has(l[0], l[1], nil), l) }))
			}
			must(t, r.source.has("deployments.apps", "sample-in/web", []string{"/spec/replicas=3", "/spec/strategy/type=Recreate"}))
			must(t, r.stop())
		})
	}
}

func newSampleRig(t *testing.T, sample string) *rig {
	t.Helper()
	source, destination := clusters(t)
	r, err := newRig(t.TempDir(), afterimage(t), source, destination)
	must(t, err)
	t.Cleanup(func() { r.close(t.Failed(), func(a ...any) { t.Log(a...) }) })
	namespaces := `
apiVersion: v1
kind: Namespace
metadata: {name: sample-in, labels: {disaster-recovery: enabled}}
---
apiVersion: v1
kind: Namespace
metadata: {name: sample-out}
`
	must(t, r.source.apply(namespaces, "someone"))
	must(t, r.destination.apply(namespaces, "someone"))
	must(t, os.MkdirAll(r.manifestDir(), 0o755))
	for _, name := range []string{"00-clusters.yaml", sample} {
		b, err := config.Samples.ReadFile("samples/" + name)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(r.manifestDir(), name), b, 0o600))
	}
	for _, s := range []*clusterSide{r.source, r.destination} {
		kubeconfig, err := testcluster.Kubeconfig(s.cluster.Name(), s.cluster.throughProxy())
		must(t, err)
		secret, err := yaml.Marshal(corev1.Secret{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
			ObjectMeta: metav1.ObjectMeta{Name: s.cluster.Name() + "-kubeconfig"},
			Data:       map[string][]byte{"kubeconfig.yaml": kubeconfig},
		})
		must(t, err)
		must(t, os.WriteFile(filepath.Join(r.manifestDir(), s.cluster.Name()+"-secret.yaml"), secret, 0o600))
	}
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
