package manifest

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var secretFields = []string{"apiVersion", "kind", "metadata", "type", "immutable", "data", "stringData"}

// secret reads a Secret as the API server would: stringData wins over data.
// Errors never hold a value of it.
func secret(d *document) (*corev1.Secret, Errors) {
	var errs Errors
	add := func(path, detail string) { errs = append(errs, d.errorAt(path, detail)) }

	for _, key := range slices.Sorted(maps.Keys(d.object)) {
		if !slices.Contains(secretFields, key) {
			add(key, unknownAmong(key, slices.Clone(secretFields)))
		}
	}
	out := &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Namespace: d.namespace, Name: d.name},
		Type:       corev1.SecretTypeOpaque,
		Data:       map[string][]byte{},
	}
	if t, ok := d.object["type"]; ok {
		s, ok := t.(string)
		if !ok {
			add("type", "expected a string, got "+jsonType(t))
		}
		out.Type = corev1.SecretType(s)
	}
	if v, ok := d.object["immutable"]; ok {
		if _, ok := v.(bool); !ok {
			add("immutable", "expected a boolean, got "+jsonType(v))
		}
	}
	read := func(name string, decode func(string) ([]byte, error), expected string) {
		path := field.NewPath(name)
		values, ok := d.object[name].(map[string]any)
		if d.object[name] != nil && !ok {
			add(name, "expected a mapping of strings, got "+jsonType(d.object[name]))
		}
		for _, key := range slices.Sorted(maps.Keys(values)) {
			at := path.Key(key).String()
			if msgs := validation.IsConfigMapKey(key); len(msgs) > 0 {
				add(at, "expected a valid key of a Secret: "+msgs[0])
			}
			s, ok := values[key].(string)
			if !ok {
				add(at, fmt.Sprintf("expected a string, got %s (the value is not shown)", jsonType(values[key])))
				continue
			}
			b, err := decode(s)
			if err != nil {
				add(at, expected+" (the value is not shown)")
				continue
			}
			out.Data[key] = b
		}
	}
	read("data", base64.StdEncoding.DecodeString, "expected base64; a plain string belongs in stringData")
	read("stringData", func(s string) ([]byte, error) { return []byte(s), nil }, "")
	return out, errs
}
