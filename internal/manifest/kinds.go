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
	v1alpha1.KindDatabase:            v1alpha1.AssetsGroupVersion.String(),
	v1alpha1.KindZookeeper:           v1alpha1.AssetsGroupVersion.String(),
	v1alpha1.KindLiveSynchronization: v1alpha1.AutomationGroupVersion.String(),
	v1alpha1.KindSynchronization:     v1alpha1.AutomationGroupVersion.String(),
	v1alpha1.KindSynchronizationPlan: v1alpha1.AutomationGroupVersion.String(),
	v1alpha1.KindRecovery:            v1alpha1.AutomationGroupVersion.String(),
}

// item is an accepted document and what became of it.
type item struct {
	*document
	key types.NamespacedName

	cluster  *v1alpha1.KubernetesCluster
	bucket   *v1alpha1.Bucket
	database *v1alpha1.Database // also of a Zookeeper
	secret   *corev1.Secret
	live     *v1alpha1.LiveSynchronization
	run      *v1alpha1.Synchronization
	plan     *v1alpha1.SynchronizationPlan
	recovery *v1alpha1.Recovery
}

// namedAs is the kind whose names it has.
func (it *item) namedAs() string {
	if it.kind == v1alpha1.KindZookeeper {
		return v1alpha1.KindDatabase
	}
	return it.kind
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
	if err := generateName(d); err != nil {
		return nil, Errors{err}
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
	var err error
	switch it.kind {
	case v1alpha1.KindKubernetesCluster:
		it.cluster, err = decoded[v1alpha1.KubernetesCluster](it)
	case v1alpha1.KindBucket:
		it.bucket, err = decoded[v1alpha1.Bucket](it)
	case v1alpha1.KindDatabase:
		it.database, err = decoded[v1alpha1.Database](it)
	case v1alpha1.KindZookeeper:
		var alias *v1alpha1.Zookeeper
		if alias, err = decoded[v1alpha1.Zookeeper](it); err == nil {
			it.database = alias.Database()
		}
	case v1alpha1.KindLiveSynchronization:
		it.live, err = decoded[v1alpha1.LiveSynchronization](it)
	case v1alpha1.KindSynchronization:
		it.run, err = decoded[v1alpha1.Synchronization](it)
	case v1alpha1.KindSynchronizationPlan:
		it.plan, err = decoded[v1alpha1.SynchronizationPlan](it)
	case v1alpha1.KindRecovery:
		it.recovery, err = decoded[v1alpha1.Recovery](it)
	}
	if err != nil {
		var inField interface{ FieldPath() string }
		if errors.As(err, &inField) {
			return Errors{it.errorAt(inField.FieldPath(), "expected another value: "+err.Error())}
		}
		return Errors{it.errorAt("", "expected a valid "+it.kind+": "+err.Error())}
	}
	return nil
}

// decoded is the item as its type; nil where there is an error.
func decoded[T any](it *item) (*T, error) {
	into := new(T)
	if err := kjson.UnmarshalCaseSensitivePreserveInts(it.json(), into); err != nil {
		return nil, err
	}
	return into, nil
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
	version, ok := supported[d.kind]
	switch {
	case ok && version == d.apiVersion:
		return nil
	case ok:
		return Errors{d.errorAt("apiVersion", fmt.Sprintf("Unsupported value: %q: expected %s for kind %s", d.apiVersion, version, d.kind))}
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
