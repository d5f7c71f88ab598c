package topology

import (
	"encoding/json"
	"strings"
	"testing"
)

func patching(t testing.TB, gvr, patch, options string) *Rules {
	t.Helper()
	parts := strings.Split(gvr, "/")
	group := parts[0]
	if group == "core" {
		group = ""
	}
	if options == "" {
		options = "{}"
	}
	return compile(t, `{"resources":[{"group":"`+group+`","version":"`+parts[1]+`","resource":"`+parts[2]+`","transformation":{"patchOptions":`+options+`,"patch":`+patch+`}}]}`)
}

func TestPatches(t *testing.T) {
	const body = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"ns","labels":{"x/y":"1"}},"data":{"k":"<v>","list":[1,2,3]},"spec":{"replicas":3}}`
	const head = `{"apiVersion":"v1","data":{"k":"<v>","list":[1,2,3]},"kind":"ConfigMap","metadata":{"labels":{"x/y":"1"},"name":"a","namespace":"ns"},"spec":`
	const skip = `{"skipIfNotFoundOnDelete":true}`
	cases := map[string]struct {
		reason, patch, options string
		want                   string // the body, or a part of the error if it begins with !
	}{
		"replace":              {"the document's", `[{"op":"replace","path":"/spec/replicas","value":0}]`, "", head + `{"replicas":0}}`},
		"value types":          {"a number in a string stays a string", `[{"op":"replace","path":"/spec/replicas","value":"0"}]`, "", head + `{"replicas":"0"}}`},
		"false":                {"false is a value", `[{"op":"add","path":"/spec/x","value":false}]`, "", head + `{"replicas":3,"x":false}}`},
		"empty":                {"an empty string is a value", `[{"op":"add","path":"/spec/x","value":""}]`, "", head + `{"replicas":3,"x":""}}`},
		"null":                 {"null is a value", `[{"op":"replace","path":"/spec/replicas","value":null}]`, "", head + `{"replicas":null}}`},
		"big integer":          {"no float in between", `[{"op":"add","path":"/spec/x","value":9007199254740993123}]`, "", head + `{"replicas":3,"x":9007199254740993123}}`},
		"decimal":              {"digits stay as they are", `[{"op":"add","path":"/spec/x","value":1.50}]`, "", head + `{"replicas":3,"x":1.50}}`},
		"markup":               {"no escaping of HTML", `[{"op":"add","path":"/spec/x","value":"<a&b>"}]`, "", head + `{"replicas":3,"x":"<a&b>"}}`},
		"remove":               {"", `[{"op":"remove","path":"/spec/replicas"}]`, "", head + `{}}`},
		"delete is remove":     {"", `[{"op":"delete","path":"/spec/replicas"}]`, "", head + `{}}`},
		"value of a remove":    {"is ignored", `[{"op":"remove","path":"/spec/replicas","value":1}]`, "", head + `{}}`},
		"in order":             {"", `[{"op":"add","path":"/spec/x","value":1},{"op":"replace","path":"/spec/x","value":2}]`, "", head + `{"replicas":3,"x":2}}`},
		"missing":              {"is an error", `[{"op":"remove","path":"/spec/none"}]`, "", "!none"},
		"missing skipped":      {"with the option it is none", `[{"op":"remove","path":"/spec/none"}]`, skip, head + `{"replicas":3}}`},
		"missing parent":       {"with the option it is none", `[{"op":"remove","path":"/spec/none/deep"}]`, skip, head + `{"replicas":3}}`},
		"missing index":        {"with the option it is none", `[{"op":"remove","path":"/data/list/9"}]`, skip, head + `{"replicas":3}}`},
		"option is for remove": {"a replace of nothing stays an error", `[{"op":"replace","path":"/spec/none","value":1}]`, skip, "!none"},
		"parent missing":       {"add makes no parents", `[{"op":"add","path":"/none/x","value":1}]`, "", "!none"},
		"atomic":               {"nothing of a failing patch is kept", `[{"op":"replace","path":"/spec/replicas","value":0},{"op":"remove","path":"/none"}]`, "", "!none"},
		"negative index":       {"is no index", `[{"op":"remove","path":"/data/list/-1"}]`, "", "!"},
		"rename":               {"would be another object", `[{"op":"replace","path":"/metadata/name","value":"b"}]`, "", "!metadata.name"},
		"same name":            {"renames nothing", `[{"op":"replace","path":"/metadata/name","value":"a"}]`, "", head + `{"replicas":3}}`},
		"other kind":           {"would be another object", `[{"op":"replace","path":"/kind","value":"Secret"}]`, "", "!kind"},
		"metadata":             {"would be another object", `[{"op":"replace","path":"/metadata","value":{}}]`, "", "!metadata"},
		"escaped":              {"~1 is a slash", `[{"op":"replace","path":"/metadata/labels/x~1y","value":"2"}]`, "", strings.Replace(head, `"x/y":"1"`, `"x/y":"2"`, 1) + `{"replicas":3}}`},
		"never copied":         {"gone already", `[{"op":"remove","path":"/metadata/finalizers"},{"op":"remove","path":"/status/x"},{"op":"remove","path":"/metadata/annotations/afterimage.io~1owner"}]`, "", head + `{"replicas":3}}`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			rec := record("core/v1/configmaps/ns/a", body)
			got := patching(t, "core/v1/configmaps", tc.patch, tc.options).Apply(rec)
			if want, bad := strings.CutPrefix(tc.want, "!"); bad {
				if got.Err == nil || !strings.Contains(got.Err.Error(), want) || !got.InScope || got.Body != nil {
					t.Errorf("%s: %+v, want an error with %q", tc.reason, got, want)
				}
			} else if got.Err != nil || !sameJSON(t, got.Body, []byte(tc.want)) {
				t.Errorf("%s: %v\n got %s\nwant %s", tc.reason, got.Err, got.Body, tc.want)
			}
			if string(rec.Body) != body {
				t.Error("the record was changed")
			}
		})
	}
}

func TestPatchOfWhatIsNotCopied(t *testing.T) {
	const service = `{"kind":"Service","metadata":{"name":"a","namespace":"ns","finalizers":["x/y"]},"spec":{"clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1"],"ports":[{"port":80,"nodePort":30080}]}}`
	cases := map[string]struct{ patch, want string }{
		"a remove of what is gone": {
			`[{"op":"remove","path":"/spec/clusterIP"},{"op":"remove","path":"/spec/ports/0/nodePort"},{"op":"remove","path":"/metadata/finalizers"}]`,
			`{"kind":"Service","metadata":{"name":"a","namespace":"ns"},"spec":{"ports":[{"port":80}]}}`,
		},
		"what is put there stays": {
			`[{"op":"replace","path":"/spec/clusterIP","value":"10.9.9.9"},{"op":"replace","path":"/spec/ports/0/nodePort","value":31000},{"op":"replace","path":"/metadata/finalizers","value":["z/z"]}]`,
			`{"kind":"Service","metadata":{"name":"a","namespace":"ns","finalizers":["z/z"]},"spec":{"clusterIP":"10.9.9.9","ports":[{"port":80,"nodePort":31000}]}}`,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := patching(t, "core/v1/services", tc.patch, "").Apply(record("core/v1/services/ns/a", service))
			if got.Err != nil || !sameJSON(t, got.Body, []byte(tc.want)) {
				t.Errorf("%v\n got %s\nwant %s", got.Err, got.Body, tc.want)
			}
		})
	}
}

func FuzzPatch(f *testing.F) {
	f.Add("replace", "/spec/replicas", `0`, `{"metadata":{"name":"a"},"spec":{"replicas":3}}`, false)
	f.Add("remove", "/spec/list/0", ``, `{"metadata":{"name":"a"},"spec":{"list":[1]}}`, true)
	f.Add("add", "/spec/list/-", `{"a":null}`, `{"metadata":{"name":"a"},"spec":{"list":[]}}`, false)
	f.Add("delete", "/metadata/name", ``, `{"metadata":{"name":"a"}}`, false)
	f.Add("add", "/", `1`, `{"metadata":{"name":"a"}}`, false)
	f.Add("add", "/a~1b/~0", `"x"`, `{"metadata":{"name":"a"},"a/b":{}}`, false)
	f.Fuzz(func(t *testing.T, op, path, value, body string, skip bool) {
		var c Config
		raw, err := json.Marshal(map[string]any{"op": op, "path": path, "value": json.RawMessage(orNull(value))})
		if err != nil {
			return
		}
		option := ""
		if skip {
			option = `,"patchOptions":{"skipIfNotFoundOnDelete":true}`
		}
		if json.Unmarshal([]byte(`{"resources":[{"version":"v1","resource":"configmaps","transformation":{"patch":[`+string(raw)+`]`+option+`}}]}`), &c.Replication) != nil {
			return
		}
		rules, err := Compile(c)
		if err != nil {
			return
		}
		rec := record("core/v1/configmaps/ns/a", body)
		one, two := rules.Apply(rec), rules.Apply(rec)
		if one.Hash != two.Hash || string(one.Body) != string(two.Body) || (one.Err == nil) != (two.Err == nil) {
			t.Fatalf("not a function of the record: %+v, %+v", one, two)
		}
		if one.Err == nil && one.InScope && !json.Valid(one.Body) {
			t.Fatalf("body %q is not JSON", one.Body)
		}
		if string(rec.Body) != body {
			t.Fatal("the record was changed")
		}
	})
}

func FuzzFilter(f *testing.F) {
	f.Add("config.*", "*.test", "config-1")
	f.Add("a)(b", "[", "ab")
	f.Add("*", "?", "x")
	f.Add("(?i)A", "a|b", "a")
	f.Fuzz(func(t *testing.T, include, exclude, name string) {
		in, err := CompileName(include)
		if err != nil {
			return
		}
		ex, err := CompileName(exclude)
		if err != nil {
			return
		}
		fl := filter{include: []NamePattern{in}, exclude: []NamePattern{ex}}
		want := in.Match(name) && !ex.Match(name)
		if got := fl.matches(Key{Name: name}, &object{}, nil); got != want {
			t.Errorf("regex %q, excludeRegex %q, name %q: %v", include, exclude, name, got)
		}
	})
}

func orNull(s string) string {
	if s == "" || !json.Valid([]byte(s)) {
		return "null"
	}
	return s
}

// sameJSON compares JSON; numbers by their digits.
func sameJSON(t testing.TB, a, b []byte) bool {
	t.Helper()
	decode := func(raw []byte) string {
		d := json.NewDecoder(strings.NewReader(string(raw)))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
		out, _ := json.Marshal(v)
		return string(out)
	}
	return decode(a) == decode(b)
}
