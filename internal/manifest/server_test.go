package manifest

import (
	"io/fs"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/afterimage-dr/afterimage/internal/testenv"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/operator/config"
)

// server is a real API server with our CRDs.
type server struct {
	t      *testing.T
	client dynamic.Interface
}

func startServer(t *testing.T) *server {
	t.Helper()
	client, err := dynamic.NewForConfig(testenv.StartCluster(t).RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, client: client}
	files, err := fs.Glob(config.CRDs, "crd/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	crds := client.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	for _, file := range files {
		data, err := config.CRDs.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var crd unstructured.Unstructured
		if err := yaml.Unmarshal(data, &crd.Object); err != nil {
			t.Fatal(err)
		}
		if _, err := crds.Create(t.Context(), &crd, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict}); err != nil {
			t.Fatalf("%s: the API server refuses the CRD: %v", file, err)
		}
	}
	return s
}

var resources = map[string]schema.GroupVersionResource{
	kindSecret:                       {Version: "v1", Resource: "secrets"},
	v1alpha1.KindKubernetesCluster:   v1alpha1.AssetsGroupVersion.WithResource("kubernetesclusters"),
	v1alpha1.KindBucket:              v1alpha1.AssetsGroupVersion.WithResource("buckets"),
	v1alpha1.KindDatabase:            v1alpha1.AssetsGroupVersion.WithResource("databases"),
	v1alpha1.KindZookeeper:           v1alpha1.AssetsGroupVersion.WithResource("zookeepers"),
	v1alpha1.KindLiveSynchronization: v1alpha1.AutomationGroupVersion.WithResource("livesynchronizations"),
	v1alpha1.KindSynchronization:     v1alpha1.AutomationGroupVersion.WithResource("synchronizations"),
	v1alpha1.KindSynchronizationPlan: v1alpha1.AutomationGroupVersion.WithResource("synchronizationplans"),
	v1alpha1.KindRecovery:            v1alpha1.AutomationGroupVersion.WithResource("recoveries"),
}

// create asks the server to create the object, without keeping it, as kubectl
// apply does: unknown fields are refused. A 404 is a CRD not served yet.
func (s *server) create(d *document) error {
	s.t.Helper()
	object := &unstructured.Unstructured{Object: runtime.DeepCopyJSON(d.object)}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		_, err := s.client.Resource(resources[d.kind]).Namespace("default").Create(s.t.Context(), object,
			metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict})
		if !apierrors.IsNotFound(err) || time.Now().After(end) {
			return err
		}
	}
}

// TestRunsCannotBeChanged: the API server refuses any change of the spec of what
// runs once, and takes the others.
func TestRunsCannotBeChanged(t *testing.T) {
	s := startServer(t)
	for text, patches := range map[string]map[string]string{
		recovery(inlineWithout("") + "  pointInTime: 2026-01-01T00:00:00.5Z\n"): {
			`{"spec":{"dryRun":true}}`:                          "create another Recovery",
			`{"spec":{"pointInTime":null}}`:                     "create another Recovery",
			`{"spec":{"config":{"destinationName":"another"}}}`: "create another Recovery",
			`{"spec":{"config":{"replication":{"resources":[{"version":"v1","resource":"configmaps"}]}}}}`:                                                                                                      "create another Recovery",
			`{"spec":{"config":{"replication":{"resources":[{"group":"apps","version":"v1","resource":"deployments","recoveryProcess":{"fromPatch":[{"op":"replace","path":"/spec/replicas","value":2}]}}]}}}}`: "create another Recovery",
			`{"metadata":{"labels":{"a":"b"}}}`: "",
		},
		zkOnce("once", "zk-a", "zk-b", "/once"): {
			`{"spec":{"config":{"rootPath":"/"}}}`:              "create another Synchronization",
			`{"spec":{"config":{"createRoutePath":true}}}`:      "create another Synchronization",
			`{"spec":{"backoffLimit":null}}`:                    "", // the default is what it has
			`{"spec":{"backoffLimit":6}}`:                       "create another Synchronization",
			`{"metadata":{"annotations":{"example.com/a":""}}}`: "",
		},
	} {
		docs, errs := parse("r", []byte(text))
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		d := docs[0]
		if err := s.create(d); err != nil { // and waits until the kind is served
			t.Fatal(err)
		}
		client := s.client.Resource(resources[d.kind]).Namespace("default")
		if _, err := client.Create(t.Context(), &unstructured.Unstructured{Object: d.object}, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict}); err != nil {
			t.Fatal(err)
		}
		for patch, want := range patches {
			_, err := client.Patch(t.Context(), d.name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
			switch {
			case want == "" && err != nil:
				t.Errorf("%s: %s: %v", d.kind, patch, err)
			case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
				t.Errorf("%s: %s: got %v; want an error with %q", d.kind, patch, err, want)
			}
		}
	}
}

// TestARealAPIServerRefusesTheSame: what is wrong with a document by itself is
// wrong for an API server with our CRDs too, and nothing else is.
func TestARealAPIServerRefusesTheSame(t *testing.T) {
	s := startServer(t)
	for _, name := range []string{"00-clusters.yaml", "01-livesynchronization.yaml", "02-name-selector.yaml", "03-name-selector-exclude.yaml", "04-object-selector.yaml", "05-bucket-gcs.yaml", "06-bucket-s3.yaml", "07-livesynchronization-bucket.yaml", "08-resync-period.yaml", "09-zookeeper-once.yaml", "10-zookeeper-plan.yaml", "11-recovery.yaml", "12-recovery-inline.yaml", "13-databases.yaml", "14-live-zookeeper.yaml"} {
		docs, errs := parse(name, []byte(sample(t, name)))
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		for _, d := range docs {
			if err := s.create(d); err != nil {
				t.Errorf("sample %s must apply unchanged: %v", name, err)
			}
		}
	}
	// Found by us alone, for a reason.
	oursOnly := map[string]string{
		"period of an eon":             "no schema bounds a duration",
		"inline period of an eon":      "no schema bounds a duration",
		"session of an eon":            "no schema bounds a duration",
		"plan with a period of an eon": "no schema bounds a duration",
		"no name":                      "a generated name is of no use in a file",
		"plan with a generated name":   "a generated name is of no use in a file",
	}
	compared := 0
	for name, tc := range allBad(t) {
		text := tc.file
		if tc.old != "" {
			text = breakOnce(good(), tc.old, tc.new)
		}
		docs, _ := parse(name, []byte(text))
		for _, d := range docs {
			if _, known := resources[d.kind]; !known || d.apiVersion != supported[d.kind] || d.namespace != defaultNamespace {
				continue
			}
			theirs := s.create(d)
			_, ours := read(d)
			compared++
			switch {
			case theirs == nil && len(ours) > 0 && oursOnly[name] == "":
				t.Errorf("%s: %s: refused by us alone: %v", name, d.kind, ours)
			case theirs != nil && len(ours) > 0 && oursOnly[name] != "":
				t.Errorf("%s: %s: refused by the API server too: %v", name, d.kind, theirs)
			case theirs != nil && len(ours) == 0:
				t.Errorf("%s: %s: refused by the API server alone: %v", name, d.kind, theirs)
			}
		}
	}
	if compared < 300 {
		t.Errorf("only %d documents compared", compared)
	}
}
