package kube

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// object is what a server returns, in its order of fields.
const object = `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a\u00e9b","namespace":"ns","uid":"u-1",` +
	`"resourceVersion":"42","creationTimestamp":"2026-01-02T03:04:05Z","deletionTimestamp":"2026-01-02T03:04:06Z","labels":{"x":"y","q\"q":"\\"},` +
	`"annotations":{"none":null,"json":"{\"a\":[1,2]}"},"ownerReferences":[{"uid":"z"}],` +
	`"managedFields":[{"manager":"kubectl","operation":"Apply","apiVersion":"v1","time":"2026-01-02T03:04:05Z",` +
	`"fieldsType":"FieldsV1","fieldsV1":{"f:data":{"f:k":{}}}},{"manager":"m","operation":"Update","subresource":"status"}]},` +
	`"data":{"metadata":"not this one","n":"1"}}`

func TestMetaOf(t *testing.T) {
	got, err := MetaOf([]byte(object))
	if err != nil {
		t.Fatal(err)
	}
	// What encoding/json makes of the same bytes is the truth.
	var want struct {
		Metadata Meta `json:"metadata"`
	}
	if err := json.Unmarshal([]byte(object), &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Metadata, got); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	if got.Name != "aéb" || got.DeletionTimestamp == nil || !got.DeletionTimestamp.Equal(time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC)) {
		t.Errorf("got name %q and deletionTimestamp %v", got.Name, got.DeletionTimestamp)
	}
	if len(got.ManagedFields) != 2 || string(got.ManagedFields[0].FieldsV1) != `{"f:data":{"f:k":{}}}` {
		t.Errorf("got managedFields %v", got.ManagedFields)
	}
}

func TestMetaOfRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ object, want string }{
		"no metadata":      {`{"kind":"x"}`, "no metadata"},
		"null metadata":    {`{"metadata":null}`, "no metadata"},
		"array":            {`[]`, "want an object"},
		"metadata is text": {`{"metadata":"x"}`, "want an object"},
		"name is a number": {`{"metadata":{"name":5}}`, "name: want a string"},
		"label is object":  {`{"metadata":{"labels":{"a":{}}}}`, "labels: want a string"},
		"bad time":         {`{"metadata":{"deletionTimestamp":"yesterday"}}`, "deletionTimestamp"},
		"cut":              {object[:len(object)-9], "truncated"},
		"more behind":      {object + "x", "nothing more"},
		"empty":            {"", "truncated"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := MetaOf([]byte(tc.object)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestEveryCutIsSeen(t *testing.T) {
	for i := range object {
		if _, err := Split([]byte(object[:i])); err == nil {
			t.Fatalf("the first %d bytes of an object passed for a whole one", i)
		}
	}
}

func FuzzSplit(f *testing.F) {
	for _, s := range []string{
		object, `{}`, ` { "a" : [ 1 , -0.5e+3 , true , null , "\u00ff\n" ] , "a" : { } } `, `{"a":01}`, `{"a":1.}`, `{"a":"` + "\x01" + `"}`,
		`{"a":"\x"}`, `{"a":1,}`, `{"a" 1}`, `{"a":nul}`, `{"a":-}`, `{"a":1e}`, `[{}]`, `{"\u00`, "{\"\xff\":\"\xff\"}", `{"a":[1,]}`,
		strings.Repeat("[", 20000), `{"a":` + strings.Repeat("[", 9999) + strings.Repeat("]", 9999) + `}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := Split(b)
		var want map[string]json.RawMessage
		wantErr := json.Unmarshal(b, &want)
		if trimmed := strings.TrimLeft(string(b), " \t\r\n"); !strings.HasPrefix(trimmed, "{") {
			if err == nil {
				t.Fatalf("%q is no object and was taken", b)
			}
			return
		}
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: got %v, encoding/json says %v", b, err, wantErr)
		}
		if err != nil {
			return
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%q (-encoding/json +got):\n%s", b, diff)
		}
		_, _ = MetaOf(b) // must not panic
		_, _ = decodePage(b)
		_, _ = decodeFrame(b)
	})
}

func BenchmarkMetaOf(b *testing.B) {
	data := strings.Repeat("x", 3300)
	fields := `{"f:data":{".":{},` + strings.Repeat(`"f:some-key-name":{},`, 30) + `"f:z":{}},"f:metadata":{"f:labels":{"f:app":{}}}}`
	object := []byte(`{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"some-name","namespace":"some-namespace","uid":"7f9b2f0c-6e5a-4c5e-9f1f-2f8d3e1c0b11",` +
		`"resourceVersion":"123456","creationTimestamp":"2026-01-02T03:04:05Z","labels":{"app":"web","tier":"front","release":"r1"},` +
		`"annotations":{"a":"1","b":"2"},"managedFields":[{"manager":"kubectl","operation":"Apply","apiVersion":"v1","time":"2026-01-02T03:04:05Z",` +
		`"fieldsType":"FieldsV1","fieldsV1":` + fields + `}]},"data":{"k":"` + data + `"}}`)
	b.Run("MetaOf", func(b *testing.B) {
		b.SetBytes(int64(len(object)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := MetaOf(object); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding-json", func(b *testing.B) {
		b.SetBytes(int64(len(object)))
		b.ReportAllocs()
		for b.Loop() {
			var o struct {
				Metadata Meta `json:"metadata"`
			}
			if err := json.Unmarshal(object, &o); err != nil {
				b.Fatal(err)
			}
		}
	})
}
