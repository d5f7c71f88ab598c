package v1alpha1

import (
	"encoding/json"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// The operations of a patch.
const (
	PatchAdd     = "add"
	PatchReplace = "replace"
	PatchRemove  = "remove"
	// PatchDelete is the document's word for remove.
	PatchDelete = "delete"
)

// jsonNull is how an explicit null is kept in PatchOperation.Value.
var jsonNull = []byte("null")

// RawValue returns the JSON of the value and whether there is one. An explicit
// null is a value ("null", true); an absent one is none (nil, false).
func (p PatchOperation) RawValue() (json.RawMessage, bool) {
	switch {
	case p.Value == nil:
		return nil, false
	case len(p.Value.Raw) == 0:
		return jsonNull, true
	}
	return p.Value.Raw, true
}

// UnmarshalJSON decodes an operation. It exists because encoding/json turns an
// explicit null into a nil pointer, which would make "value: null" look like a
// value that was forgotten.
func (p *PatchOperation) UnmarshalJSON(data []byte) error {
	var in struct {
		Op    string          `json:"op"`
		Path  string          `json:"path"`
		Value json.RawMessage `json:"value"`
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	*p = PatchOperation{Op: in.Op, Path: in.Path}
	if in.Value != nil {
		p.Value = &apiextensionsv1.JSON{Raw: append([]byte(nil), in.Value...)}
	}
	return nil
}
