package compare

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestDifferences(t *testing.T) {
	configmaps := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	services := schema.GroupVersionResource{Version: "v1", Resource: "services"}
	secrets := schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	for name, c := range map[string]struct {
		gvr                  schema.GroupVersionResource
		want, have, original string
		fields               []string
	}{
		"equal but for the server's and our own fields": {
			gvr:  configmaps,
			want: `{"metadata":{"name":"a","labels":{"x":"y"}},"data":{"k":"v"}}`,
			have: `{"metadata":{"name":"a","uid":"1","resourceVersion":"2","labels":{"x":"y","afterimage.io/owner":"o"},"annotations":{"afterimage.io/key":"k"},"managedFields":[{}]},"data":{"k":"v"},"status":{"a":1}}`,
		},
		"a value differs": {
			gvr: configmaps, want: `{"data":{"k":"v","n":1}}`, have: `{"data":{"k":"w","n":1}}`,
			fields: []string{`data.k: want "v", have "w"`},
		},
		"a type differs":     {gvr: configmaps, want: `{"spec":{"n":1}}`, have: `{"spec":{"n":"1"}}`, fields: []string{`spec.n: want 1, have "1"`}},
		"a field is missing": {gvr: configmaps, want: `{"data":{"k":"v"}}`, have: `{}`, fields: []string{`data.k: want "v", have nothing`}},
		"a field that was removed in the source is still there": {
			gvr: configmaps, want: `{"data":{"k":"v"}}`, have: `{"data":{"k":"v","old":"x"}}`, original: `{"data":{"k":"v"}}`,
			fields: []string{`data.old: want nothing, have "x"`},
		},
		"a label of another's is there": {
			gvr: configmaps, want: `{"metadata":{"name":"a"}}`, have: `{"metadata":{"name":"a","labels":{"x":"y"}}}`,
			fields: []string{`metadata.labels.x: want nothing, have "y"`},
		},
		"an address of its own": {
			gvr: services, want: `{"spec":{"ports":[{"port":1}]}}`, have: `{"spec":{"clusterIP":"10.0.0.2","ports":[{"port":1,"nodePort":30000}]}}`,
			original: `{"spec":{"clusterIP":"10.0.0.1","ports":[{"port":1}]}}`,
		},
		"a default in place of what a patch removed": {
			gvr: configmaps, want: `{"spec":{}}`, have: `{"spec":{"strategy":{"type":"RollingUpdate"}}}`, original: `{"spec":{"strategy":{"type":"Recreate"}}}`,
		},
		"empty is absent": {gvr: configmaps, want: `{"data":{},"metadata":{"annotations":null}}`, have: `{}`},
		"a list of another length": {
			gvr: configmaps, want: `{"l":[1,2]}`, have: `{"l":[1]}`, fields: []string{"l: want [1,2], have [1]"},
		},
		"a list's element": {gvr: configmaps, want: `{"l":[{"a":1}]}`, have: `{"l":[{"a":2}]}`, fields: []string{"l[0].a: want 1, have 2"}},
		"big integers are not rounded": {
			gvr: configmaps, want: `{"n":9007199254740993}`, have: `{"n":9007199254740992}`, fields: []string{"n: want 9007199254740993, have 9007199254740992"},
		},
		"nor what kubectl last applied":  {gvr: secrets, want: `{"metadata":{"annotations":{"l":"{data:{p:aHVudGVyMg==}}"}}}`, have: `{"metadata":{"annotations":{"l":"x"}}}`, fields: []string{"metadata.annotations.l: differs"}},
		"a Secret's values are not told": {gvr: secrets, want: `{"data":{"password":"aHVudGVyMg=="}}`, have: `{"data":{"password":"b3RoZXI="}}`, fields: []string{"data.password: differs"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := func(s string) map[string]any {
				if s == "" {
					return nil
				}
				m, err := decode([]byte(s))
				if err != nil {
					t.Fatal(err)
				}
				return m
			}
			got := differences(c.gvr, o(c.want), o(c.have), o(c.original))
			if diff := cmp.Diff(c.fields, got); diff != "" {
				t.Errorf("differing fields (-want +got):\n%s", diff)
			}
		})
	}
}
