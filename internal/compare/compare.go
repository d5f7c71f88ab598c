package compare

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

// What is wrong with an object.
const (
	Missing = "missing" // it should be at the destination and is not
	Extra   = "extra"   // Afterimage wrote it, and it should not be there (any more)
	Differs = "differs" // it is there, otherwise than it should be
	Held    = "held"    // what it should be cannot be computed (a patch fails)
)

// Difference is one object that is not as it should be.
type Difference struct {
	Key  topology.Key
	What string
	// Fields that differ, with both values (not those of Secrets).
	Fields []string
}

// String is the difference in one line.
func (d Difference) String() string {
	s := d.What + " " + d.Key.String()
	if len(d.Fields) > 0 {
		s += fmt.Sprint(" ", d.Fields)
	}
	return s
}

// Report of a comparison.
type Report struct {
	// Objects that should be at the destination, by resource.
	Objects map[schema.GroupVersionResource]int
	// Namespaces that were compared because they are created by force.
	Namespaces int
	// Differences in the order of their keys; none: equal.
	Differences []Difference
	Took        time.Duration
}

// Total of the objects compared.
func (r *Report) Total() int {
	n := r.Namespaces
	for _, k := range r.Objects {
		n += k
	}
	return n
}

// Equal tells whether the destination is as it should be.
func (r *Report) Equal() bool { return len(r.Differences) == 0 }

// side is one cluster.
type side struct {
	client     dynamic.Interface
	uid        string
	namespaces map[string]*unstructured.Unstructured
}

// Run compares two clusters under a configuration whose resources are named in
// the plural. Both must be at rest: what changes meanwhile is a difference.
func Run(ctx context.Context, source, destination *rest.Config, config topology.Config) (*Report, error) {
	began := time.Now()
	from, err := connect(ctx, source)
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	to, err := connect(ctx, destination)
	if err != nil {
		return nil, fmt.Errorf("destination: %w", err)
	}
	config.SourceUID, config.DestinationUID = from.uid, to.uid
	rules, err := topology.Compile(config)
	if err != nil {
		return nil, err
	}
	r := &Report{Objects: map[schema.GroupVersionResource]int{}}
	needed := map[string]bool{}
	for _, gvr := range resources(config) {
		if err := r.resource(ctx, gvr, rules, from, to, needed); err != nil {
			return nil, fmt.Errorf("%s: %w", gvr, err)
		}
	}
	if config.Replication.ForceNamespaceCreation {
		r.forced(needed, from, to)
	}
	slices.SortFunc(r.Differences, func(a, b Difference) int {
		return slices.Compare([]string{a.Key.String()}, []string{b.Key.String()})
	})
	r.Took = time.Since(began)
	return r, nil
}

func connect(ctx context.Context, c *rest.Config) (*side, error) {
	c = rest.CopyConfig(c)
	c.QPS = -1
	client, err := dynamic.NewForConfig(c)
	if err != nil {
		return nil, err
	}
	s := &side{client: client, namespaces: map[string]*unstructured.Unstructured{}}
	all, err := s.list(ctx, schema.GroupVersionResource{Version: "v1", Resource: "namespaces"})
	if err != nil {
		return nil, err
	}
	for _, ns := range all {
		s.namespaces[ns.GetName()] = ns
	}
	s.uid = string(s.namespaces[metav1.NamespaceSystem].GetUID())
	return s, nil
}

func (s *side) list(ctx context.Context, gvr schema.GroupVersionResource) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	o := metav1.ListOptions{Limit: 500}
	for {
		page, err := s.client.Resource(gvr).List(ctx, o)
		if apierrors.IsNotFound(err) {
			return nil, nil // not served: there are none
		}
		if err != nil {
			return nil, err
		}
		for i := range page.Items {
			out = append(out, &page.Items[i])
		}
		if o.Continue = page.GetContinue(); o.Continue == "" {
			return out, nil
		}
	}
}

// resources of a configuration, each once, in its order.
func resources(c topology.Config) []schema.GroupVersionResource {
	var out []schema.GroupVersionResource
	for _, e := range c.Replication.Resources {
		gvr := schema.GroupVersionResource{Group: e.Group, Version: e.Version, Resource: e.Resource}
		if !slices.Contains(out, gvr) {
			out = append(out, gvr)
		}
	}
	return out
}

func keyOf(gvr schema.GroupVersionResource, o *unstructured.Unstructured) topology.Key {
	return topology.Key{Group: gvr.Group, Version: gvr.Version, Resource: gvr.Resource, Namespace: o.GetNamespace(), Name: o.GetName()}
}

// resource compares all objects of one resource and notes the namespaces they need.
func (r *Report) resource(ctx context.Context, gvr schema.GroupVersionResource, rules *topology.Rules, from, to *side, needed map[string]bool) error {
	originals, err := from.list(ctx, gvr)
	if err != nil {
		return fmt.Errorf("listing the source: %w", err)
	}
	copies, err := to.list(ctx, gvr)
	if err != nil {
		return fmt.Errorf("listing the destination: %w", err)
	}
	there := map[topology.Key]*unstructured.Unstructured{}
	for _, c := range copies {
		there[keyOf(gvr, c)] = c
	}
	for _, original := range originals {
		key := keyOf(gvr, original)
		want, held, in, err := expectation(rules, key, original, from)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if !in {
			continue
		}
		r.Objects[gvr]++
		needed[key.Namespace] = true
		have := there[key]
		delete(there, key)
		switch {
		case held != nil:
			r.add(key, Held, held.Error())
		case have == nil:
			r.add(key, Missing)
		default:
			if fields := differences(gvr, want, have.Object, original.Object); len(fields) > 0 {
				r.add(key, Differs, fields...)
			}
		}
	}
	r.extras(gvr, rules.Config(), there)
	return nil
}

// extras are objects of ours that nothing in the source stands for.
func (r *Report) extras(gvr schema.GroupVersionResource, c topology.Config, there map[topology.Key]*unstructured.Unstructured) {
	policy := c.Replication.DeletionPolicy
	if policy == v1alpha1.DeletionPolicyOrphan || (policy == "" && gvr.Resource == "persistentvolumeclaims") {
		return // they are meant to stay
	}
	owner := topology.OwnerOf(c)
	for key, o := range there {
		marks := o.GetAnnotations()
		if is, ok := topology.OwnerIn(marks); ok && is == owner && marks[topology.AdoptedAnnotation] == "" {
			r.add(key, Extra)
		}
	}
}

// forced compares the namespaces that forceNamespaceCreation makes.
func (r *Report) forced(needed map[string]bool, from, to *side) {
	gvr := schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	for _, name := range slices.Sorted(maps.Keys(needed)) {
		original := from.namespaces[name]
		if name == "" || original == nil {
			continue
		}
		r.Namespaces++
		key := topology.Key{Version: "v1", Resource: "namespaces", Name: name}
		have := to.namespaces[name]
		if have == nil {
			r.add(key, Missing)
			continue
		}
		if _, ours := topology.OwnerIn(have.GetAnnotations()); !ours {
			continue // it was there before: it is not ours to change
		}
		want := map[string]any{"metadata": map[string]any{
			"name": name, "labels": anyMap(original.GetLabels()), "annotations": anyMap(original.GetAnnotations()),
		}}
		got := map[string]any{"metadata": map[string]any{
			"name": name, "labels": anyMap(have.GetLabels()), "annotations": anyMap(have.GetAnnotations()),
		}}
		if fields := differences(gvr, want, got, want); len(fields) > 0 {
			r.add(key, Differs, fields...)
		}
	}
}

func anyMap(m map[string]string) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		out[k] = v
	}
	return out
}

func (r *Report) add(key topology.Key, what string, fields ...string) {
	r.Differences = append(r.Differences, Difference{Key: key, What: what, Fields: fields})
}
