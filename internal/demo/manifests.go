package demo

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/afterimage-dr/afterimage/internal/testcluster"
	"github.com/afterimage-dr/afterimage/operator/config"
)

// everythingElse replicates what the document's first sample does not: one
// LiveSynchronization per namespace may use a cluster, so it has its own.
const everythingElse = `# Everything beside the Deployments, in the namespaces marked for disaster recovery.
apiVersion: assets.astronetes.io/v1alpha1
kind: KubernetesCluster
metadata:
  name: source
  namespace: everything-else
spec:
  kubeconfigFile: %[1]s
---
apiVersion: assets.astronetes.io/v1alpha1
kind: KubernetesCluster
metadata:
  name: destination
  namespace: everything-else
spec:
  kubeconfigFile: %[2]s
---
apiVersion: automation.astronetes.io/v1alpha1
kind: LiveSynchronization
metadata:
  name: everything-else
  namespace: everything-else
spec:
  plugin: kubernetes-objects-to-kubernetes
  config:
    sourceName: source
    destinationName: destination
    replication:
      resyncPeriod: 1m
      forceNamespaceCreation: true
      resources:
%[3]s`

// elsewhere are the resources everythingElse covers.
var elsewhere = []struct{ group, version, resource string }{
	{"", "v1", "namespaces"},
	{"", "v1", "configmaps"},
	{"", "v1", "secrets"},
	{"", "v1", "services"},
	{"", "v1", "serviceaccounts"},
	{"rbac.authorization.k8s.io", "v1", "roles"},
	{"rbac.authorization.k8s.io", "v1", "rolebindings"},
}

// writeManifests writes what afterimage run is given: the document's samples 00
// and 01 as they are, the Secrets they need, and everythingElse.
func (d *demo) writeManifests() (string, error) {
	for name, c := range map[string]*testcluster.Cluster{"source": d.source, "destination": d.destination} {
		if _, err := c.WriteKubeconfig(d.kubeconfig(name)); err != nil {
			return "", err
		}
	}
	dir := filepath.Join(d.dir, "manifests")
	return dir, writeManifests(dir, map[string]string{"source": d.kubeconfig("source"), "destination": d.kubeconfig("destination")})
}

// writeManifests writes them for two kubeconfig files.
func writeManifests(dir string, kubeconfigs map[string]string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("writing manifests: %w", err)
	}
	files := map[string]string{}
	for name, path := range kubeconfigs {
		content, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("writing manifests: %w", err)
		}
		files["secret-"+name+".yaml"] = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: " + name + "-kubeconfig\nstringData:\n  kubeconfig.yaml: |\n" + indent(string(content), "    ")
	}
	for _, sample := range []string{"00-clusters.yaml", "01-livesynchronization.yaml"} {
		content, err := config.Samples.ReadFile("samples/" + sample)
		if err != nil {
			return fmt.Errorf("writing manifests: %w", err)
		}
		files[sample] = string(content)
	}
	files["everything-else.yaml"] = fmt.Sprintf(everythingElse, kubeconfigs["source"], kubeconfigs["destination"], entries())
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return fmt.Errorf("writing manifests: %w", err)
		}
	}
	return nil
}

func entries() string {
	var b strings.Builder
	for _, e := range elsewhere {
		_, _ = fmt.Fprintf(&b, "        - group: %q\n          version: %s\n          resource: %s\n          filters:\n            namespaceSelector:\n              matchLabels:\n                disaster-recovery: enabled\n", e.group, e.version, e.resource)
	}
	return b.String()
}

func indent(s, by string) string {
	return by + strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n"+by) + "\n"
}
