package v1alpha1

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"
)

func TestPatchOperationKeepsEveryValue(t *testing.T) {
	cases := map[string]struct {
		reason string
		in     string
		want   string
		isSet  bool
	}{
		"absent":  {reason: "no value is no value", in: `{"op":"remove","path":"/a"}`},
		"null":    {reason: "an explicit null is a value", in: `{"op":"add","path":"/a","value":null}`, want: "null", isSet: true},
		"zero":    {reason: "0 is a value", in: `{"op":"add","path":"/a","value":0}`, want: "0", isSet: true},
		"false":   {reason: "false is a value", in: `{"op":"add","path":"/a","value":false}`, want: "false", isSet: true},
		"empty":   {reason: "the empty string is a value", in: `{"op":"add","path":"/a","value":""}`, want: `""`, isSet: true},
		"object":  {reason: "objects are kept as they are", in: `{"op":"add","path":"/a","value":{"b":[1,"2",null]}}`, want: `{"b":[1,"2",null]}`, isSet: true},
		"big int": {reason: "no float rounds it", in: `{"op":"add","path":"/a","value":9007199254740993}`, want: "9007199254740993", isSet: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var p PatchOperation
			if err := json.Unmarshal([]byte(tc.in), &p); err != nil {
				t.Fatal(err)
			}
			for round := range 2 { // again after a round trip
				raw, ok := p.RawValue()
				if ok != tc.isSet || string(raw) != tc.want {
					t.Errorf("%s: round %d: RawValue() = %q, %v; want %q, %v", tc.reason, round, raw, ok, tc.want, tc.isSet)
				}
				out, err := json.Marshal(p)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tc.in, string(out)); diff != "" {
					t.Errorf("%s: round %d: -want +got:\n%s", tc.reason, round, diff)
				}
				p = PatchOperation{}
				if err := json.Unmarshal(out, &p); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestPatchOperationFromUnstructured(t *testing.T) {
	in := map[string]any{"patch": []any{map[string]any{"op": "add", "path": "/a", "value": nil}}}
	var out Transformation
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(in, &out); err != nil {
		t.Fatal(err)
	}
	if raw, ok := out.Patch[0].RawValue(); !ok || string(raw) != "null" {
		t.Errorf("RawValue() = %q, %v; want null, true: the dynamic client's converter must keep it too", raw, ok)
	}
}
