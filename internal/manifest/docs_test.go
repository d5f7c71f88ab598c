package manifest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// fenced returns the YAML blocks of a page.
func fenced(t *testing.T, page string) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", page))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, block := range strings.Split(string(data), "```yaml\n")[1:] {
		text, _, _ := strings.Cut(block, "```")
		out = append(out, text)
	}
	return out
}

// TestTheReadmeIsRight: what it tells a newcomer to write loads, and its patches
// of Jobs and CronJobs fit in where it says.
func TestTheReadmeIsRight(t *testing.T) {
	blocks := fenced(t, "README.md")
	if len(blocks) != 3 {
		t.Fatalf("%d YAML blocks; want 3", len(blocks))
	}
	dir := write(t, map[string]string{
		"source.kubeconfig":      kubeconfig("https://source.example"),
		"destination.kubeconfig": kubeconfig("https://destination.example"),
		"standby.yaml":           blocks[0] + blocks[1] + blocks[2],
	})
	set, err := Load([]string{dir})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range set.LiveSynchronizations[0].Spec.Config.Replication.Resources {
		got = append(got, r.Resource)
	}
	if diff := cmp.Diff([]string{"deployments", "configmaps", "cronjobs", "jobs"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestTheZooKeeperPageIsRight: what it shows first loads.
func TestTheZooKeeperPageIsRight(t *testing.T) {
	blocks := fenced(t, "docs/zookeeper.md")
	if len(blocks) != 1 {
		t.Fatalf("%d YAML blocks; want 1", len(blocks))
	}
	set, err := Load([]string{write(t, map[string]string{"config.yaml": blocks[0]})})
	if err != nil {
		t.Fatal(err)
	}
	if len(set.Synchronizations) != 1 || set.Synchronizations[0].Spec.Config.Root() != "/app/config" {
		t.Errorf("Synchronizations: %+v", set.Synchronizations)
	}
}

// TestConfigurationPageNamesEveryField of the kinds.
func TestConfigurationPageNamesEveryField(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	all, err := schemas()
	if err != nil {
		t.Fatal(err)
	}
	for kind, paths := range map[string][]string{
		v1alpha1.AssetsGroupVersion.String() + " " + v1alpha1.KindKubernetesCluster:       {"spec"},
		v1alpha1.AssetsGroupVersion.String() + " " + v1alpha1.KindBucket:                  {"spec", "spec.generic"},
		v1alpha1.AutomationGroupVersion.String() + " " + v1alpha1.KindLiveSynchronization: {"spec", "spec.config", "spec.config.observability", "spec.config.replication", "spec.config.replication.resources[0]", "spec.config.replication.resources[0].filters", "spec.config.replication.resources[0].filters.nameSelector", "spec.config.replication.resources[0].transformation", "spec.config.replication.resources[0].transformation.patch[0]", "spec.config.replication.resources[0].transformation.patchOptions", "spec.config.replication.resources[0].recoveryProcess", "spec.config.components", "spec.config.components.synchronizer"},
		v1alpha1.AutomationGroupVersion.String() + " " + v1alpha1.KindRecovery:            {"spec", "spec.config", "status", "status.summary", "status.failures[0]"},
		v1alpha1.AssetsGroupVersion.String() + " " + v1alpha1.KindDatabase:                {"spec", "spec.zookeeper", "spec.zookeeper.client", "spec.zookeeper.client.tls", "status"},
		v1alpha1.AutomationGroupVersion.String() + " " + v1alpha1.KindSynchronization:     {"spec", "spec.config", "status", "status.result", "status.failures[0]"},
		v1alpha1.AutomationGroupVersion.String() + " " + v1alpha1.KindSynchronizationPlan: {"spec", "spec.template", "spec.template.metadata", "status"},
	} {
		for _, path := range paths {
			p := all[kind].property(path)
			if p == nil || len(p.Properties) == 0 {
				t.Fatalf("%s has no %s", kind, path)
			}
			for name := range p.Properties {
				if !strings.Contains(string(page), name) {
					t.Errorf("docs/configuration.md lacks %s of %s.%s", name, kind, path)
				}
			}
		}
	}
}
