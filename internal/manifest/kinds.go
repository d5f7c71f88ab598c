package manifest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

const kindSecret = "Secret"

// supported are the kinds that are read, and the apiVersion of each.
var supported = map[string]string{
	kindSecret:                       "v1",
	v1alpha1.KindKubernetesCluster:   v1alpha1.AssetsGroupVersion.String(),
	v1alpha1.KindBucket:              v1alpha1.AssetsGroupVersion.String(),
	v1alpha1.KindLiveSynchronization: v1alpha1.AutomationGroupVersion.String(),
	v1alpha1.KindRecovery:            v1alpha1.AutomationGroupVersion.String(),
}

// later are kinds of Afterimage that this version does not run.
var later = []string{"Database", "Zookeeper", "Synchronization", "SynchronizationPlan"}

// item is an accepted document and what became of it.
type item struct {
	*document
	key types.NamespacedName

	cluster  *v1alpha1.KubernetesCluster
	bucket   *v1alpha1.Bucket
	secret   *corev1.Secret
	live     *v1alpha1.LiveSynchronization
	recovery *v1alpha1.Recovery
}

// read checks one document by itself and decodes it. The item is returned also
// where there are errors, as far as it has a kind and a name: others may refer
// to it, and must not be blamed for that.
func read(d *document) (*item, Errors) {
	if d.object == nil {
		return nil, Errors{d.errorAt(d.under, "expected a manifest (a mapping with apiVersion, kind, metadata and spec)")}
	}
	if errs := kindOf(d); len(errs) > 0 {
		return nil, errs
	}
	errs := metadata(d)
	it := &item{document: d, key: types.NamespacedName{Namespace: d.namespace, Name: d.name}}
	if d.kind == kindSecret {
		var more Errors
		it.secret, more = secret(d)
		return it, append(errs, more...)
	}
	all, err := schemas()
	if err != nil {
		return nil, append(errs, d.errorAt("", err.Error()))
	}
	s := all[d.apiVersion+" "+d.kind]
	unknown, found := s.check(d.object)
	for _, path := range unknown {
		if !strings.HasPrefix(path, "metadata.") { // said already
			errs = append(errs, d.errorAt(path, s.unknownField(path)))
		}
	}
	for _, e := range found {
		if !strings.HasPrefix(e.Field, "metadata") {
			errs = append(errs, d.errorAt(s.explain(e)))
		}
	}
	if len(errs) > 0 {
		return it, errs
	}
	return it, it.decodeTyped()
}

// decodeTyped fills in the typed object. What the schema accepted decodes,
// except durations, whose size no schema bounds.
func (it *item) decodeTyped() Errors {
	if errs := it.durations(); len(errs) > 0 {
		return errs
	}
	var into any
	switch it.kind {
	case v1alpha1.KindKubernetesCluster:
		it.cluster = &v1alpha1.KubernetesCluster{}
		into = it.cluster
	case v1alpha1.KindBucket:
		it.bucket = &v1alpha1.Bucket{}
		into = it.bucket
	case v1alpha1.KindLiveSynchronization:
		it.live = &v1alpha1.LiveSynchronization{}
		into = it.live
	case v1alpha1.KindRecovery:
		it.recovery = &v1alpha1.Recovery{}
		into = it.recovery
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(it.json(), into); err != nil {
		it.cluster, it.bucket, it.live, it.recovery = nil, nil, nil, nil
		var inField interface{ FieldPath() string }
		if errors.As(err, &inField) {
			return Errors{it.errorAt(inField.FieldPath(), "expected another value: "+err.Error())}
		}
		return Errors{it.errorAt("", "expected a valid "+it.kind+": "+err.Error())}
	}
	return nil
}

// kindOf checks that the document is of a kind this version reads.
func kindOf(d *document) Errors {
	names := slices.Sorted(maps.Keys(supported))
	want := "expected one of " + strings.Join(names, ", ")
	for _, name := range [...]string{"kind", "apiVersion"} {
		switch v := d.object[name].(type) {
		case string:
			if v == "" {
				return Errors{d.errorAt(name, "Required value: must not be empty")}
			}
		case nil:
			if name == "apiVersion" {
				want = "expected an API version such as " + v1alpha1.AutomationGroupVersion.String()
			}
			return Errors{d.errorAt(name, "Required value: "+want)}
		default:
			return Errors{d.errorAt(name, "expected a string, got "+jsonType(v))}
		}
	}
	group, _, _ := strings.Cut(d.apiVersion, "/")
	version, ok := supported[d.kind]
	switch {
	case ok && version == d.apiVersion:
		return nil
	case ok:
		return Errors{d.errorAt("apiVersion", fmt.Sprintf("Unsupported value: %q: expected %s for kind %s", d.apiVersion, version, d.kind))}
	case slices.Contains(later, d.kind) && strings.HasSuffix(group, ".astronetes.io"):
		return Errors{d.errorAt("kind", fmt.Sprintf("Unsupported value: %q is not supported by this version of afterimage run; %s", d.kind, want))}
	}
	return Errors{d.errorAt("kind", fmt.Sprintf("Unsupported value: %q is not a kind afterimage run reads; %s", d.kind, unknownKind(d.kind, names)))}
}

func unknownKind(kind string, names []string) string {
	return strings.TrimPrefix(unknownAmong(kind, names), "unknown field: ")
}

// fieldErrors puts the errors of Kubernetes' own checks into ours.
func (it *item) fieldErrors(list field.ErrorList) Errors {
	var errs Errors
	for _, e := range list {
		errs = append(errs, it.errorAt(e.Field, e.ErrorBody()))
	}
	return errs
}
