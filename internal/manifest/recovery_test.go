package manifest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

func TestRecoverySamplesLoad(t *testing.T) {
	bucket := strings.Replace(sample(t, "05-bucket-gcs.yaml"), "<bucket_name>", "originals", 1)
	clusters := clusterSecrets() + "---\n" + sample(t, "00-clusters.yaml")
	sourceGone := secretWith("destination-kubeconfig", "kubeconfig.yaml", kubeconfig("https://destination.example:6443")) +
		"---\n" + strings.Split(sample(t, "00-clusters.yaml"), "---\n")[1]
	cases := map[string]struct {
		reason string
		files  map[string]string
		want   Target
		bucket bool
		from   string
	}{
		"by its name": {
			reason: "the configuration is that of the LiveSynchronization",
			files:  map[string]string{"a.yaml": clusters, "b.yaml": sample(t, "01-livesynchronization.yaml"), "c.yaml": sample(t, "11-recovery.yaml")},
			want:   Target{LiveSynchronization: types.NamespacedName{Namespace: "default", Name: "livesynchronization-sample"}},
		},
		"inline": {
			reason: "neither a LiveSynchronization nor the source is needed",
			files:  map[string]string{"a.yaml": sourceGone, "b.yaml": bucket, "c.yaml": sample(t, "12-recovery-inline.yaml")},
			want:   Target{LiveSynchronization: types.NamespacedName{Namespace: "dr-config", Name: "livesynchronization-sample"}},
			bucket: true,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			set, err := Load([]string{write(t, tc.files)})
			if err != nil {
				t.Fatalf("%s: %v", tc.reason, err)
			}
			if len(set.Recoveries) != 1 {
				t.Fatalf("%s: %d Recoveries", tc.reason, len(set.Recoveries))
			}
			r := set.Recoveries[0]
			got := set.ConfigOf(r)
			if r.Spec.From != v1alpha1.RecoverFromAuto {
				t.Errorf("from = %q; want auto", r.Spec.From)
			}
			if diff := cmp.Diff(tc.want.LiveSynchronization, got.LiveSynchronization); diff != "" {
				t.Errorf("%s: -want +got:\n%s", tc.reason, diff)
			}
			rc, err := set.RESTConfig(got.Destination)
			if err != nil || rc.Host != "https://destination.example:6443" {
				t.Errorf("%s: destination %v, %v", tc.reason, rc, err)
			}
			if (got.Bucket != nil) != tc.bucket {
				t.Errorf("%s: bucket %v; want one: %v", tc.reason, got.Bucket, tc.bucket)
			}
			c := got.Compute()
			if first := c.Replication.Resources[0]; c.Name != "livesynchronization-sample" || first.Resource != "deployments" || len(first.RecoveryProcess.FromPatch) != 1 {
				t.Errorf("%s: computes with %+v", tc.reason, c)
			}
		})
	}
}

// TestTargetOf: a recovery that no manifest asks for works on the same.
func TestTargetOf(t *testing.T) {
	set, err := Load([]string{Stdin}, WithStdin([]byte(good()+"---\n"+recovery(ofStandby))))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(set.ConfigOf(set.Recoveries[0]), set.TargetOf(set.LiveSynchronizations[0])); diff != "" {
		t.Errorf("-Recovery +LiveSynchronization:\n%s", diff)
	}
	if got := set.TargetOf(set.LiveSynchronizations[0]); got.Bucket == nil || got.Bucket.Name != "originals" {
		t.Errorf("bucket %v; want originals", got.Bucket)
	}
}

// TestARecoveryOfALiveSynchronizationWithoutABucket reads the log.
func TestARecoveryOfALiveSynchronizationWithoutABucket(t *testing.T) {
	text := strings.Replace(good(), "    bucketName: originals\n", "", 1)
	text = strings.Replace(text, "fromOriginal: {enabled: true}", "fromOriginal: {}", 1) + "---\n"
	for from, want := range map[string]string{"log": "", "auto": "", "bucket": "spec.from: expected log or auto: LiveSynchronization standby has no bucketName"} {
		_, err := Load([]string{Stdin}, WithStdin([]byte(text+recovery(ofStandby+"  from: "+from+"\n"))))
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", from, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: got %v; want %s", from, err, want)
		}
	}
}

// TestPointInTime: fractions and zones are kept.
func TestPointInTime(t *testing.T) {
	for in, want := range map[string]string{
		"2026-01-01T00:00:00Z":                "2026-01-01T00:00:00Z",
		"2026-01-01T02:00:00.123456789+02:00": "2026-01-01T00:00:00.123456789Z",
	} {
		set, err := Load([]string{Stdin}, WithStdin([]byte(good()+"---\n"+recovery(ofStandby+"  pointInTime: "+in+"\n"))))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		at, err := set.Recoveries[0].Spec.At()
		if got := at.UTC().Format("2006-01-02T15:04:05.999999999Z07:00"); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", in, got, err, want)
		}
	}
}
