package compare

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/afterimage-dr/afterimage/topology"
)

// expectation is what the destination must hold of a source object: in is false
// where it must hold nothing, held says why it cannot be computed.
func expectation(rules *topology.Rules, key topology.Key, original *unstructured.Unstructured, from *side) (want map[string]any, held error, in bool, err error) {
	body := original.DeepCopy()
	unstructured.RemoveNestedField(body.Object, "status")
	unstructured.RemoveNestedField(body.Object, "metadata", "managedFields")
	raw, err := json.Marshal(body.Object)
	if err != nil {
		return nil, nil, false, err
	}
	rec := topology.Record{
		Key: key.String(), Kind: topology.Object, Op: topology.Update, UID: string(original.GetUID()), Body: raw,
		Version: topology.Version{RV: original.GetResourceVersion()},
	}
	if ns := from.namespaces[key.Namespace]; ns != nil {
		rec.NamespaceLabels, rec.NamespaceAnnotations = ns.GetLabels(), ns.GetAnnotations()
		rec.Version.NamespaceRV = ns.GetResourceVersion()
	}
	v := rules.Apply(&rec)
	if v.Err != nil || !v.InScope {
		return nil, v.Err, v.Err != nil, nil
	}
	want, err = decode(v.Body)
	return want, nil, true, err
}

// decode keeps numbers as they are written.
func decode(b []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var m map[string]any
	return m, d.Decode(&m)
}

// ours and the server's: never part of what is replicated.
var serverMetadata = []string{
	"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink",
	"deletionTimestamp", "deletionGracePeriodSeconds", "ownerReferences", "finalizers",
}

// assigned are fields which the destination's own controllers and admission set
// on objects whose source has none (a fresh Service, a bound claim).
var assigned = map[string][]string{
	"":                       {"metadata.annotations.deployment.kubernetes.io/revision"},
	"namespaces":             {"spec", "metadata.labels.kubernetes.io/metadata.name"},
	"serviceaccounts":        {"secrets", "imagePullSecrets"},
	"services":               {"spec.clusterIP", "spec.clusterIPs", "spec.ports[].nodePort", "spec.healthCheckNodePort"},
	"persistentvolumeclaims": {"spec.volumeName", "metadata.annotations.pv.kubernetes.io/bind-completed", "metadata.annotations.pv.kubernetes.io/bound-by-controller"},
	"jobs":                   {"spec.selector", "spec.template.metadata.labels"},
}

// comparison of one object.
type comparison struct {
	resource string
	secret   bool
	out      []string
}

// differences lists the fields in which have is not want. A field that have
// holds in addition is no difference where the server assigns it, or where the
// source has one and the rules left it out: the destination then set its own
// (an address, a default).
func differences(gvr schema.GroupVersionResource, want, have, original map[string]any) []string {
	c := &comparison{resource: gvr.Resource, secret: gvr.Group == "" && gvr.Resource == "secrets"}
	c.compare("", "", plain(want), plain(have), any(original))
	slices.Sort(c.out)
	return c.out
}

// plain is an object without what is the server's and ours.
func plain(o map[string]any) map[string]any {
	o = maps.Clone(o)
	delete(o, "status")
	meta, _ := o["metadata"].(map[string]any)
	if meta = maps.Clone(meta); meta == nil {
		meta = map[string]any{}
	}
	for _, f := range serverMetadata {
		delete(meta, f)
	}
	for _, f := range []string{"labels", "annotations"} {
		m, _ := meta[f].(map[string]any)
		m = maps.Clone(m)
		maps.DeleteFunc(m, func(k string, _ any) bool { return topology.IsMark(k) })
		meta[f] = m
	}
	o["metadata"] = meta
	return o
}

// compare walks both sides. path names the place for people, form is the same
// without indexes.
func (c *comparison) compare(path, form string, want, have, original any) {
	if empty(want) && empty(have) {
		return
	}
	switch w := want.(type) {
	case map[string]any:
		h, ok := have.(map[string]any)
		if !ok && have != nil {
			c.differ(path, want, have)
			return
		}
		o, _ := original.(map[string]any)
		c.maps(path, form, w, h, o)
	case []any:
		h, ok := have.([]any)
		if !ok || len(h) != len(w) {
			c.differ(path, want, have)
			return
		}
		o, _ := original.([]any)
		for i := range w {
			var was any
			if len(o) == len(w) {
				was = o[i]
			}
			c.compare(fmt.Sprintf("%s[%d]", path, i), form+"[]", w[i], h[i], was)
		}
	default:
		if text(want) != text(have) {
			c.differ(path, want, have)
		}
	}
}

func (c *comparison) maps(path, form string, want, have, original map[string]any) {
	for k, w := range want {
		c.compare(join(path, k), join(form, k), w, have[k], original[k])
	}
	for k, h := range have {
		if _, wanted := want[k]; wanted || empty(h) {
			continue
		}
		if _, was := original[k]; was || c.assigned(join(form, k)) {
			continue
		}
		c.differ(join(path, k), nil, h)
	}
}

func (c *comparison) assigned(form string) bool {
	return slices.Contains(assigned[""], form) || slices.Contains(assigned[c.resource], form)
}

func (c *comparison) differ(path string, want, have any) {
	// Also annotations of a Secret: kubectl keeps a copy of its data in one.
	if c.secret && !strings.HasPrefix(path, "metadata.labels.") {
		c.out = append(c.out, path+": differs")
		return
	}
	c.out = append(c.out, fmt.Sprintf("%s: want %s, have %s", path, short(want), short(have)))
}

func join(path, k string) string {
	if path == "" {
		return k
	}
	return path + "." + k
}

// empty tells whether a server may leave the value out.
func empty(v any) bool {
	switch x := v.(type) {
	case nil:
		return true
	case map[string]any:
		return len(x) == 0
	case []any:
		return len(x) == 0
	}
	return false
}

// text is one form for numbers of every type.
func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

const shortest = 80

func short(v any) string {
	if v == nil {
		return "nothing"
	}
	if s := text(v); len(s) <= shortest {
		return s
	}
	return text(v)[:shortest] + "…"
}
