package topology

import (
	"strings"
	"testing"
)

// recovering compiles one entry with a recoveryProcess.
func recovering(t testing.TB, group, resource, process string) *Recovery {
	t.Helper()
	r, err := CompileRecovery(configOf(t, `{"resources":[{"group":"`+group+`","version":"v1","resource":"`+resource+`","recoveryProcess":`+process+`}]}`))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRecoveryOfEntries(t *testing.T) {
	r, err := CompileRecovery(configOf(t, `{"resources":[
		{"version":"v1","resource":"configmaps"},
		{"version":"v1","resource":"secrets","recoveryProcess":{}},
		{"version":"v1","resource":"services","recoveryProcess":{"fromOriginal":{"enabled":true}}},
		{"version":"v1","resource":"pods","recoveryProcess":{"fromOriginal":{},"fromPatch":[{"op":"remove","path":"/spec/x"}]}},
		{"group":"apps","version":"v1","resource":"deployments","recoveryProcess":{"fromOriginal":{"enabled":true},"fromPatch":[{"op":"replace","path":"/spec/replicas","value":1}]}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range map[int]struct{ original, patch bool }{
		-1: {}, 0: {}, 1: {}, 2: {original: true}, 3: {patch: true}, 4: {original: true, patch: true}, 5: {},
	} {
		if r.FromOriginal(i) != want.original || r.HasPatch(i) != want.patch || (r.PatchHash(i) != "") != want.patch {
			t.Errorf("entry %d: original %v, patch %v, hash %q; want %+v", i, r.FromOriginal(i), r.HasPatch(i), r.PatchHash(i), want)
		}
		if !want.patch {
			if got, err := r.Patch(i, Key{}, Live, []byte("{}")); err != nil || string(got) != "{}" {
				t.Errorf("entry %d: %s, %v; want the body as it is", i, got, err)
			}
		}
	}
}

func TestRecoveryPatches(t *testing.T) {
	const service = `{"apiVersion":"v1","kind":"Service","metadata":{"name":"a","namespace":"ns","uid":"u"},"spec":{"clusterIP":"10.0.0.1","ports":[{"port":80}]},"status":{"loadBalancer":{}}}`
	const copied = `{"apiVersion":"v1","kind":"Service","metadata":{"name":"a","namespace":"ns"},"spec":{"ports":[{"port":80}]}}`
	cases := map[string]struct {
		reason  string
		form    Form
		process string
		want    string // the body, or a part of the error if it begins with !
	}{
		"remove of an assigned field, live": {
			"the destination assigned it: it is there to be removed", Live, `{"fromPatch":[{"op":"remove","path":"/spec/clusterIP"}]}`,
			strings.Replace(service, `"clusterIP":"10.0.0.1",`, "", 1),
		},
		"remove of an assigned field, copied": {
			"it is not copied: done already", Copied, `{"fromPatch":[{"op":"remove","path":"/spec/clusterIP"}]}`, copied,
		},
		"replace of an assigned field, copied": {
			"it is put there", Copied, `{"fromPatch":[{"op":"replace","path":"/spec/clusterIP","value":"None"}]}`,
			strings.Replace(copied, `]}}`, `],"clusterIP":"None"}}`, 1),
		},
		"replace of a missing field, live": {
			"what is not there cannot be replaced", Live, `{"fromPatch":[{"op":"replace","path":"/spec/healthCheckNodePort","value":1}]}`, "!healthCheckNodePort",
		},
		"remove of status, live": {
			"the live object has one", Live, `{"fromPatch":[{"op":"remove","path":"/status/loadBalancer"}]}`,
			strings.Replace(service, `{"loadBalancer":{}}`, "{}", 1),
		},
		"remove of what is missing, live":          {"is an error", Live, `{"fromPatch":[{"op":"remove","path":"/metadata/finalizers"}]}`, "!finalizers"},
		"remove of what is missing, live, skipped": {"with the option it is none", Live, `{"patchOptions":{"skipIfNotFoundOnDelete":true},"fromPatch":[{"op":"remove","path":"/metadata/finalizers"}]}`, service},
		"wholly or not at all":                     {"the first operation is not kept", Live, `{"fromPatch":[{"op":"add","path":"/spec/x","value":1},{"op":"remove","path":"/none"}]}`, "!none"},
		"rename, live":                             {"it would be another object", Live, `{"fromPatch":[{"op":"replace","path":"/metadata/name","value":"b"}]}`, "!metadata.name"},
		"rename, copied":                           {"it would be another object", Copied, `{"fromPatch":[{"op":"replace","path":"/metadata/namespace","value":"b"}]}`, "!metadata.namespace"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			in := service
			if tc.form == Copied {
				in = copied
			}
			got, err := recovering(t, "", "services", tc.process).Patch(0, Key{Version: "v1", Resource: "services", Namespace: "ns", Name: "a"}, tc.form, []byte(in))
			if part, failing := strings.CutPrefix(tc.want, "!"); failing {
				if err == nil || got != nil || !strings.Contains(err.Error(), part) {
					t.Errorf("%s: got %s, %v; want an error with %q", tc.reason, got, err, part)
				}
				return
			}
			if err != nil || string(got) != tc.want {
				t.Errorf("%s:\n got %s, %v\nwant %s", tc.reason, got, err, tc.want)
			}
		})
	}
}

func TestPatchHashNamesThePatch(t *testing.T) {
	hash := func(process string) string { return recovering(t, "", "services", process).PatchHash(0) }
	one := hash(`{"fromPatch":[{"op":"remove","path":"/spec/clusterIP"},{"op":"add","path":"/spec/x","value":{"a":1}}]}`)
	for name, tc := range map[string]struct {
		process string
		same    bool
	}{
		"spaces":          {`{"fromPatch":[{"op":"remove","path":"/spec/clusterIP"},{"op":"add","path":"/spec/x","value":{ "a": 1 }}]}`, true},
		"delete = remove": {`{"fromPatch":[{"op":"delete","path":"/spec/clusterIP"},{"op":"add","path":"/spec/x","value":{"a":1}}]}`, true},
		"fromOriginal":    {`{"fromOriginal":{"enabled":true},"fromPatch":[{"op":"remove","path":"/spec/clusterIP"},{"op":"add","path":"/spec/x","value":{"a":1}}]}`, true},
		"value":           {`{"fromPatch":[{"op":"remove","path":"/spec/clusterIP"},{"op":"add","path":"/spec/x","value":{"a":2}}]}`, false},
		"order":           {`{"fromPatch":[{"op":"add","path":"/spec/x","value":{"a":1}},{"op":"remove","path":"/spec/clusterIP"}]}`, false},
		"not copied":      {`{"fromPatch":[{"op":"add","path":"/spec/x","value":{"a":1}}]}`, false},
		"options":         {`{"patchOptions":{"skipIfNotFoundOnDelete":true},"fromPatch":[{"op":"remove","path":"/spec/clusterIP"},{"op":"add","path":"/spec/x","value":{"a":1}}]}`, false},
	} {
		if got := hash(tc.process); (got == one) != tc.same {
			t.Errorf("%s: hash %s beside %s; want the same: %v", name, got, one, tc.same)
		}
	}
}

func TestCompileRecoveryNamesTheField(t *testing.T) {
	for patch, want := range map[string]string{
		`{"op":"move","path":"/a"}`:    "spec.config.replication.resources[1].recoveryProcess.fromPatch[0].op",
		`{"op":"add","path":"/a"}`:     "spec.config.replication.resources[1].recoveryProcess.fromPatch[0].value",
		`{"op":"remove","path":"a.b"}`: "spec.config.replication.resources[1].recoveryProcess.fromPatch[0].path",
	} {
		_, err := CompileRecovery(configOf(t, `{"resources":[{"version":"v1","resource":"pods"},{"version":"v1","resource":"configmaps","recoveryProcess":{"fromPatch":[`+patch+`]}}]}`))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v; want %s", patch, err, want)
		}
	}
}

// TestOriginalIsApplyWithoutTheTransformation: the same scope, the same copied form.
func TestOriginalIsApplyWithoutTheTransformation(t *testing.T) {
	const deployment = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"ns","uid":"u","annotations":{"deployment.kubernetes.io/revision":"3"}},"spec":{"replicas":3},"status":{}}`
	r := compile(t, `{"resources":[{"group":"apps","version":"v1","resource":"deployments","filters":{"nameSelector":{"excludeRegex":["no.*"]}},"transformation":{"patch":[{"op":"replace","path":"/spec/replicas","value":0}]}}]}`)
	plain := compile(t, `{"resources":[{"group":"apps","version":"v1","resource":"deployments","filters":{"nameSelector":{"excludeRegex":["no.*"]}}}]}`)
	for name, rec := range map[string]*Record{
		"in scope":  record("apps/v1/deployments/ns/web", deployment),
		"filtered":  record("apps/v1/deployments/ns/none", deployment),
		"uncovered": record("apps/v1/statefulsets/ns/web", deployment),
		"skipped":   record("apps/v1/deployments/kube-system/web", deployment),
		"no object": record("apps/v1/deployments/ns/web", `[]`),
		"deleted":   {Key: "apps/v1/deployments/ns/web", Kind: Object, Op: Delete},
	} {
		got, want := r.Original(rec), plain.Apply(rec)
		if string(got.Body) != string(want.Body) || got.InScope != want.InScope || got.Entry != want.Entry || got.Skip != want.Skip || got.Hash != want.Hash || (got.Err == nil) != (want.Err == nil) {
			t.Errorf("%s: %+v; want %+v", name, got, want)
		}
	}
	rec := record("apps/v1/deployments/ns/web", deployment)
	if got := string(r.Original(rec).Body); !strings.Contains(got, `"replicas":3`) || strings.Contains(got, "revision") {
		t.Errorf("original is %s", got)
	}
	if got := string(r.Apply(rec).Body); !strings.Contains(got, `"replicas":0`) {
		t.Errorf("desired is %s", got)
	}
}
