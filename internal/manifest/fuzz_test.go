package manifest

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/afterimage-dr/afterimage/operator/config"
)

// FuzzLoad: whatever the bytes, Load does not panic; each error names the file
// and says something; and what is accepted is accepted again, and means the
// same, after it is written out from its typed form.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(good()))
	entries, err := config.Samples.ReadDir("samples")
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range entries {
		f.Add([]byte(clusterSecrets() + "---\n" + sample(f, "00-clusters.yaml") + "---\n" + sample(f, e.Name())))
	}
	for _, tc := range allBad(f) {
		if tc.old != "" {
			f.Add([]byte(breakOnce(good(), tc.old, tc.new)))
		} else {
			f.Add([]byte(tc.file))
		}
	}
	f.Add([]byte(good() + "---\n" + recovery(ofStandby+"  pointInTime: 2026-01-01T00:00:00.123Z\n")))
	f.Add([]byte(good() + "---\n" + recovery(inlineWithout(""))))
	f.Add([]byte(goodNodes))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("--- {}\n...\n---\n"))
	f.Add([]byte("{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[1,null,{}]}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if strings.Contains(string(data), "kubeconfigFile") {
			return // reads files of this machine
		}
		set, err := Load([]string{Stdin}, WithStdin(data))
		if err != nil {
			for _, line := range strings.Split(err.Error(), "\n") {
				if !strings.Contains(line, stdinName) && !strings.HasPrefix(line, "-: ") {
					t.Errorf("no file in %q", line)
				}
			}
			return
		}
		again, err := Load([]string{Stdin}, WithStdin(marshal(t, set)))
		if err != nil {
			t.Fatalf("accepted once, refused as written out:\n%v", err)
		}
		for _, pair := range [][2]any{
			{set.LiveSynchronizations, again.LiveSynchronizations},
			{set.Recoveries, again.Recoveries},
			{set.Clusters, again.Clusters},
			{set.Buckets, again.Buckets},
			{set.Secrets, again.Secrets},
			{set.Databases, again.Databases},
			{set.Synchronizations, again.Synchronizations},
			{set.SynchronizationPlans, again.SynchronizationPlans},
		} {
			if diff := cmp.Diff(pair[0], pair[1], cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("-first +second:\n%s", diff)
			}
		}
	})
}

// marshal writes a set out as a List.
func marshal(t *testing.T, set *Set) []byte {
	t.Helper()
	var items []any
	for _, s := range set.Secrets {
		items = append(items, map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": s.ObjectMeta, "type": s.Type, "data": s.Data})
	}
	for _, c := range set.Clusters {
		items = append(items, c)
	}
	for _, b := range set.Buckets {
		items = append(items, b)
	}
	for _, db := range set.Databases {
		items = append(items, db)
	}
	for _, s := range set.Synchronizations {
		items = append(items, s)
	}
	for _, p := range set.SynchronizationPlans {
		items = append(items, p)
	}
	for _, ls := range set.LiveSynchronizations {
		items = append(items, ls)
	}
	for _, r := range set.Recoveries {
		items = append(items, r)
	}
	b, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": items})
	if err != nil {
		t.Fatal(err)
	}
	return b
}
