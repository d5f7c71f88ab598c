package topology

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// Form is what of an object a patch is applied to.
type Form int

const (
	// Copied is the object as it is copied ([Rules.Apply], [Rules.Original]):
	// without what only the cluster that holds it may assign.
	Copied Form = iota
	// Live is the object as the destination holds it, with all of that.
	Live
)

// patch is a compiled list of patch operations (RFC 6902), applied to objects in
// one form. The zero patch changes nothing.
type patch struct {
	operations jsonpatch.Patch
	options    *jsonpatch.ApplyOptions
	// touchesIdentity: an operation could rename the object.
	touchesIdentity bool
}

// compilePatch checks and compiles a patch for objects of a resource.
//
// A patch is written by somebody who looks at the object in a cluster. The copied
// form lacks what is never copied: a remove of such a field is done already, and
// a replace of it puts it there. The live form has these fields, and an operation
// means what it says.
func compilePatch(resource schema.GroupResource, form Form, ops []v1alpha1.PatchOperation, o v1alpha1.PatchOptions, at *field.Path) (patch, field.ErrorList) {
	var errs field.ErrorList
	p := patch{options: &jsonpatch.ApplyOptions{AllowMissingPathOnRemove: o.SkipIfNotFoundOnDelete}}
	for i := range ops {
		at := at.Index(i)
		op, err := compileOperation(&ops[i], at)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		pointer, _ := op.Path()
		missing := always
		if form == Copied {
			missing = copies(resource, pointer)
		}
		switch kind := op.Kind(); {
		case kind == "remove" && missing == never:
			continue
		case kind == "remove" && missing == sometimes && !o.SkipIfNotFoundOnDelete:
			// Put there first, it can be removed whether it was there or not.
			p.operations = append(p.operations, jsonpatch.Operation{"op": rawString("add"), "path": op["path"], "value": nil})
		case kind == "replace" && missing != always:
			op["op"] = rawString("add")
		}
		p.touchesIdentity = p.touchesIdentity || touchesIdentity(pointer)
		p.operations = append(p.operations, op)
	}
	return p, errs
}

func compileOperation(o *v1alpha1.PatchOperation, at *field.Path) (jsonpatch.Operation, *field.Error) {
	kind := o.Op
	if kind == "delete" {
		kind = "remove"
	}
	if kind != "add" && kind != "replace" && kind != "remove" {
		return nil, field.NotSupported(at.Child("op"), o.Op, []string{"add", "replace", "remove", "delete"})
	}
	if err := checkPointer(o.Path); err != nil {
		return nil, field.Invalid(at.Child("path"), o.Path, err.Error())
	}
	op := jsonpatch.Operation{"op": rawString(kind), "path": rawString(o.Path)}
	if kind == "remove" {
		return op, nil
	}
	value, ok := o.RawValue()
	if !ok {
		return nil, field.Required(at.Child("value"), "add and replace need a value (0, false, \"\" and null are values)")
	}
	if !json.Valid(value) {
		return nil, field.Invalid(at.Child("value"), string(value), "must be JSON")
	}
	op["value"] = &value
	return op, nil
}

// copying is whether the copied form holds a field that the object holds.
type copying int

const (
	always copying = iota
	sometimes
	never
)

// copies tells whether the copied form of an object of a resource holds the
// field a JSON pointer names.
func copies(resource schema.GroupResource, pointer string) copying {
	parts := strings.Split(strings.TrimPrefix(pointer, "/"), "/")
	for i := range parts {
		parts[i] = strings.ReplaceAll(strings.ReplaceAll(parts[i], "~1", "/"), "~0", "~")
	}
	rule := assignedBy[resource]
	inMetadata := func(depth int) bool { return parts[0] == "metadata" && len(parts) >= depth }
	switch {
	case parts[0] == "status",
		inMetadata(2) && slices.Contains(serverMetadata, parts[1]),
		inMetadata(3) && parts[1] == "annotations" && (IsMark(parts[2]) || slices.Contains(rule.annotations, parts[2])),
		inMetadata(3) && parts[1] == "labels" && (IsMark(parts[2]) || slices.Contains(rule.labels, parts[2])),
		slices.ContainsFunc(rule.fields, func(path []string) bool { return within(parts, path) }):
		return never
	case slices.ContainsFunc(rule.sometimes, func(path []string) bool { return len(parts) == len(path) && within(parts, path) }):
		return sometimes
	}
	return always
}

// within tells whether a path is, or lies below, one of the fields of a pattern.
func within(path, pattern []string) bool {
	if len(path) < len(pattern) {
		return false
	}
	for i, p := range pattern {
		if p != "*" && p != path[i] {
			return false
		}
	}
	return true
}

// checkPointer refuses what is no JSON pointer (RFC 6901) to a part of an object.
func checkPointer(s string) error {
	if !strings.HasPrefix(s, "/") {
		return fmt.Errorf("must be a JSON pointer: it begins with /")
	}
	for i := range len(s) {
		if s[i] == '~' && (i+1 == len(s) || s[i+1] != '0' && s[i+1] != '1') {
			return fmt.Errorf("must be a JSON pointer: ~ is written ~0, and / in a name ~1")
		}
	}
	return nil
}

func rawString(s string) *json.RawMessage {
	raw := json.RawMessage(marshal(s))
	return &raw
}

// touchesIdentity tells whether an operation at a path could change what the
// object is called.
func touchesIdentity(pointer string) bool {
	switch pointer {
	case "/metadata", "/metadata/name", "/metadata/namespace", "/kind", "/apiVersion":
		return true
	}
	return false
}

// apply patches a body, wholly or not at all.
func (p *patch) apply(key Key, body []byte) (out []byte, err error) {
	if len(p.operations) == 0 {
		return body, nil
	}
	// One object of an unforeseen shape must not stop the partition.
	defer func() {
		if r := recover(); r != nil {
			out, err = nil, fmt.Errorf("patch of %s: %v", key, r)
		}
	}()
	out, err = p.operations.ApplyWithOptions(body, p.options)
	if err != nil {
		return nil, fmt.Errorf("patch: %w", err)
	}
	if p.touchesIdentity {
		if err := sameIdentity(body, out); err != nil {
			return nil, fmt.Errorf("patch: %w", err)
		}
	}
	return out, nil
}

// sameIdentity refuses a patch that renames: the copy would be another object
// than the one its key speaks of.
func sameIdentity(before, after []byte) error {
	type identity struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
		} `json:"metadata"`
	}
	var a, b identity
	if err := json.Unmarshal(before, &a); err != nil {
		return err
	}
	if err := json.Unmarshal(after, &b); err != nil {
		return err
	}
	if a != b {
		return fmt.Errorf("must leave apiVersion, kind, metadata.name and metadata.namespace as they are")
	}
	return nil
}
