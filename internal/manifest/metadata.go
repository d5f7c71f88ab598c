package manifest

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"

	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// defaultNamespace is where an object without a namespace is, as for kubectl.
const defaultNamespace = "default"

// metadata checks the object's metadata and fills in the namespace.
func metadata(d *document) Errors {
	var errs Errors
	raw, ok := d.object["metadata"].(map[string]any)
	if !ok {
		detail := "Required value: expected a mapping with at least a name"
		if d.object["metadata"] != nil {
			detail = "expected a mapping with at least a name, got " + jsonType(d.object["metadata"])
		}
		return Errors{d.errorAt("metadata", detail)}
	}
	for _, name := range [...]string{"name", "namespace", "generateName"} {
		if v, ok := raw[name]; ok {
			if _, isString := v.(string); !isString {
				errs = append(errs, d.errorAt("metadata."+name, "expected a string, got "+jsonType(v)))
			}
		}
	}
	for _, name := range [...]string{"labels", "annotations"} {
		errs = append(errs, stringMap(d, "metadata."+name, raw[name])...)
	}
	if len(errs) > 0 {
		return errs
	}
	raw["namespace"] = d.namespace
	if d.name == "" {
		want := "expected a name (generateName is for a Synchronization: it names nothing that another manifest could refer to)"
		if d.kind == v1alpha1.KindSynchronization {
			want = "expected a name or a generateName"
		}
		return append(errs, d.errorAt("metadata.name", "Required value: "+want))
	}
	var meta metav1.ObjectMeta
	b, _ := json.Marshal(raw) // it came from JSON
	strict, err := kjson.UnmarshalStrict(b, &meta)
	if err != nil {
		return append(errs, d.errorAt("metadata", "expected the metadata of a Kubernetes object: "+err.Error()))
	}
	for _, s := range strict {
		path, detail := "metadata", "expected the metadata of a Kubernetes object: "+s.Error()
		var f kjson.FieldError
		if errors.As(s, &f) {
			path, detail = "metadata."+f.FieldPath(), "unknown field: expected a field of Kubernetes' ObjectMeta, such as name, namespace, labels or annotations"
		}
		errs = append(errs, d.errorAt(path, detail))
	}
	for _, e := range apivalidation.ValidateObjectMeta(&meta, true, apivalidation.NameIsDNSSubdomain, field.NewPath("metadata")) {
		errs = append(errs, d.errorAt(e.Field, e.ErrorBody()))
	}
	return errs
}

func stringMap(d *document, path string, v any) Errors {
	if v == nil {
		return nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		return Errors{d.errorAt(path, "expected a mapping of strings, got "+jsonType(v))}
	}
	var errs Errors
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if _, ok := m[key].(string); !ok {
			errs = append(errs, d.errorAt(path+"["+key+"]", "expected a string (in quotes), got "+jsonType(m[key])))
		}
	}
	return errs
}
