package manifest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/operator/config"
)

// kubeconfig is a usable one for a server.
func kubeconfig(server string) string {
	return `apiVersion: v1
kind: Config
current-context: main
contexts:
- name: main
  context: {cluster: main, user: main}
clusters:
- name: main
  cluster: {server: "` + server + `"}
users:
- name: main
  user: {token: not-a-real-token}
`
}

// secretWith is the manifest of a Secret that holds a kubeconfig.
func secretWith(name, key, config string) string {
	return "apiVersion: v1\nkind: Secret\nmetadata:\n  name: " + name + "\nstringData:\n  " + key + ": |\n" + indent(config, "    ")
}

func indent(s, by string) string {
	return by + strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n", "\n"+by) + "\n"
}

// clusterSecrets are the Secrets that the sample 00 refers to.
func clusterSecrets() string {
	return secretWith("source-kubeconfig", "kubeconfig.yaml", kubeconfig("https://source.example:6443")) +
		"---\n" + secretWith("destination-kubeconfig", "kubeconfig.yaml", kubeconfig("https://destination.example:6443"))
}

// write puts files into a new folder and returns it.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func sample(t testing.TB, name string) string {
	t.Helper()
	b, err := config.Samples.ReadFile("samples/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestSamplesLoadUnchanged(t *testing.T) {
	cases := map[string]struct {
		with         []string
		resyncPeriod time.Duration
		resources    int
	}{
		"01-livesynchronization.yaml":   {resyncPeriod: time.Hour, resources: 1},
		"02-name-selector.yaml":         {resyncPeriod: time.Hour, resources: 1},
		"03-name-selector-exclude.yaml": {resyncPeriod: time.Hour, resources: 1},
		"04-object-selector.yaml":       {resyncPeriod: time.Hour, resources: 1},
		"08-resync-period.yaml":         {resyncPeriod: 3*time.Hour + 25*time.Minute + 12*time.Second, resources: 1},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{"secrets.yaml": clusterSecrets(), "00-clusters.yaml": sample(t, "00-clusters.yaml"), name: sample(t, name)}
			set, err := Load([]string{write(t, files)})
			if err != nil {
				t.Fatal(err)
			}
			ls := set.LiveSynchronizations[0]
			s := set.SettingsFor(ls)
			if s.ResyncPeriod != tc.resyncPeriod || len(s.Config.Replication.Resources) != tc.resources {
				t.Errorf("resyncPeriod %s with %d resources; want %s with %d", s.ResyncPeriod, len(s.Config.Replication.Resources), tc.resyncPeriod, tc.resources)
			}
			got := map[string]string{}
			for _, c := range set.Clusters {
				rc, err := set.RESTConfig(c)
				if err != nil {
					t.Fatal(err)
				}
				got[c.Name] = rc.Host
			}
			want := map[string]string{"source": "https://source.example:6443", "destination": "https://destination.example:6443"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("servers: -want +got:\n%s", diff)
			}
		})
	}
}

// The samples of buckets hold placeholders, of which only the name of the Bucket
// object refers to something: no Bucket can have that name, in a cluster either.
func TestBucketSamplesLoad(t *testing.T) {
	base := map[string]string{"secrets.yaml": clusterSecrets(), "00.yaml": sample(t, "00-clusters.yaml")}
	for _, bucket := range []string{"05-bucket-gcs.yaml", "06-bucket-s3.yaml"} {
		t.Run(bucket, func(t *testing.T) {
			files := map[string]string{bucket: sample(t, bucket), "07.yaml": sample(t, "07-livesynchronization-bucket.yaml")}
			for k, v := range base {
				files[k] = v
			}
			_, err := Load([]string{write(t, files)})
			var all Errors
			if !errors.As(err, &all) || len(all) != 1 || all[0].Field != "spec.config.bucketName" || !strings.Contains(all[0].Detail, "there is gcp") {
				t.Fatalf("unchanged, the placeholder must be the only error: %v", err)
			}
			files["07.yaml"] = strings.Replace(files["07.yaml"], "<bucket_object_name>", "gcp", 1)
			set, err := Load([]string{write(t, files)})
			if err != nil {
				t.Fatal(err)
			}
			if n := len(set.LiveSynchronizations[0].Spec.Config.Replication.Resources); n != 5 || len(set.Buckets) != 1 {
				t.Errorf("%d resources and %d buckets; want 5 and 1", n, len(set.Buckets))
			}
		})
	}
}

// TestZooKeeperSamplesLoadUnchanged, each alone beside the two databases and all
// together.
func TestZooKeeperSamplesLoadUnchanged(t *testing.T) {
	names := []string{"09-zookeeper-once.yaml", "10-zookeeper-plan.yaml", "14-live-zookeeper.yaml"}
	all := map[string]string{"13.yaml": sample(t, "13-databases.yaml")}
	for _, name := range names {
		if _, err := Load([]string{write(t, map[string]string{"13.yaml": all["13.yaml"], name: sample(t, name)})}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		all[name] = sample(t, name)
	}
	set, err := Load([]string{write(t, all)})
	if err != nil {
		t.Fatal(err)
	}
	run, plan, live := set.Synchronizations[0], set.SynchronizationPlans[0], set.LiveSynchronizations[0]
	if !strings.HasPrefix(run.Name, "synchronize-zookeeper-") || run.Spec.Config.Root() != "/test" || !run.Spec.Config.CreatesRoot() {
		t.Errorf("Synchronization %s of %s, creates its root: %v", run.Name, run.Spec.Config.Root(), run.Spec.Config.CreatesRoot())
	}
	if plan.Spec.Schedule != "0 * * * *" || plan.Spec.Template.Spec.Config.CreatesRoot() {
		t.Errorf("plan %q, creates its root: %v", plan.Spec.Schedule, plan.Spec.Template.Spec.Config.CreatesRoot())
	}
	if live.Spec.PluginName() != v1alpha1.PluginZooKeeper || set.SettingsFor(live).ResyncPeriod != 15*time.Minute {
		t.Errorf("plugin %s, resyncPeriod %s", live.Spec.PluginName(), set.SettingsFor(live).ResyncPeriod)
	}
	if o := set.EnsembleOptions(set.Database("default", "zookeeper-destination")); len(o.Servers) != 3 || o.Username != "afterimage" {
		t.Errorf("%d servers, signs in as %q", len(o.Servers), o.Username)
	}
}
