package owned

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/topology"
)

// Change returns a JSON merge patch (RFC 7386) that turns an object which holds
// one form of what is desired into another, with the marks of its owner: only
// what differs between the two, so that what others own stays. It is for an
// object whose managedFields entry of ours is one of Update, as a create leaves
// it; an apply would leave what the other form lacks. Lists are replaced whole.
func (s *State) Change(owner topology.Owner, from []byte, pre Precondition) ([]byte, error) {
	var was, is map[string]any
	if err := decode(from, &was); err != nil {
		return nil, fmt.Errorf("standby form: %w", err)
	}
	if err := decode(s.Body, &is); err != nil {
		return nil, fmt.Errorf("desired object: %w", err)
	}
	patch := difference(was, is)
	for _, field := range [...]string{"apiVersion", "kind", "status"} {
		delete(patch, field)
	}
	meta, _ := patch["metadata"].(map[string]any)
	if meta == nil {
		meta = map[string]any{}
	}
	for _, field := range [...]string{"name", "namespace", "uid", "managedFields", "generation", "creationTimestamp", "selfLink"} {
		delete(meta, field)
	}
	set := func(name string, values map[string]any) {
		m, _ := meta[name].(map[string]any)
		if m == nil {
			m = map[string]any{}
		}
		for k, v := range values {
			m[k] = v
		}
		meta[name] = m
	}
	set("labels", map[string]any{topology.OwnerLabel: owner.Hash()})
	marks := map[string]any{}
	for _, p := range s.marks(owner) {
		marks[p.key] = p.value
	}
	set("annotations", marks)
	meta["resourceVersion"] = pre.ResourceVersion
	patch["metadata"] = meta
	return Marshal(patch)
}

// difference is the merge patch from one object to another.
func difference(was, is map[string]any) map[string]any {
	out := map[string]any{}
	for k := range was {
		if _, still := is[k]; !still {
			out[k] = nil
		}
	}
	for k, v := range is {
		w, had := was[k]
		wm, wasMap := w.(map[string]any)
		vm, isMap := v.(map[string]any)
		switch {
		case had && wasMap && isMap:
			if d := difference(wm, vm); len(d) > 0 {
				out[k] = d
			}
		case !had || !reflect.DeepEqual(w, v):
			out[k] = v
		}
	}
	return out
}

// Difference is the merge patch that turns one JSON object into another.
func Difference(was, is []byte) (map[string]any, error) {
	var a, b map[string]any
	if err := decode(was, &a); err != nil {
		return nil, err
	}
	if err := decode(is, &b); err != nil {
		return nil, err
	}
	return difference(a, b), nil
}

// PatchOp is an operation of a JSON patch with a string value.
type PatchOp struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value string `json:"value"`
}

// Migration returns a JSON patch that turns our managedFields entry from one of
// Update, which a create leaves, into one of Apply: an apply removes only the
// fields of its own entry, and without it a field removed in the source would stay
// for ever. (Creating by apply would spare this, at 1.6 times the cost of every
// create.)
//
// The patch is guarded by the uid and by what the entry is. Without the object (a
// nil m) our entry is guessed to be the first one; a wrong guess is refused as
// invalid, and the caller reads.
func Migration(m *kube.Meta, pre Precondition) ([]byte, error) {
	index := 0
	if m != nil {
		for i := range m.ManagedFields {
			if f := &m.ManagedFields[i]; f.Manager == topology.FieldManager && f.Subresource == "" && f.Operation == OperationUpdate {
				index = i
			}
		}
	}
	entry := fmt.Sprintf("/metadata/managedFields/%d/", index)
	return json.Marshal([]PatchOp{
		{"test", "/metadata/uid", pre.UID},
		{"test", "/metadata/resourceVersion", pre.ResourceVersion},
		{"test", entry + "manager", topology.FieldManager},
		{"test", entry + "operation", OperationUpdate},
		{"replace", entry + "operation", OperationApply},
	})
}
