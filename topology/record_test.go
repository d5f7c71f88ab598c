package topology

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
)

func full() Record {
	return Record{
		Key: "core/v1/configmaps/ns/a", Kind: Object, Op: Update,
		Version: Version{Epoch: 5, RV: "12.a", NamespaceRV: "7", Generation: 9}, UID: "u",
		NamespaceLabels: map[string]string{"a": "1", "b": "<&>"}, NamespaceAnnotations: map[string]string{"c": "d"},
		ObservedAt: time.Unix(5, 6).UTC(), VerifiedAt: time.Unix(7, 8).UTC(), Hash: "h",
		Managers: []Manager{{Name: "kubectl", Operation: "Update", Time: "2026-01-01T00:00:00Z"}},
		Inferred: true, Requested: true, Repair: true, Writer: "w", Reason: "why", Entry: -1, Body: []byte(`{"a":1}`),
	}
}

func TestRecordRoundTrip(t *testing.T) {
	cases := map[string]Record{
		"everything":       full(),
		"nothing":          {Key: "core/v1/configmaps/ns/a", Kind: Object},
		"delete":           {Key: "core/v1/configmaps/ns/a", Kind: Object, Op: Delete, Version: Version{RV: "1"}},
		"empty stamp":      {Key: "core/v1/configmaps/ns/a", Kind: Object, NamespaceLabels: map[string]string{}},
		"heartbeat":        {Key: ControlKey(Heartbeat, ""), Kind: Heartbeat, VerifiedAt: time.Unix(7, 8).UTC()},
		"listed":           {Key: ControlKey(Listed, "core/v1/configmaps"), Kind: Listed, Body: []byte("{}")},
		"before the epoch": {Key: "core/v1/configmaps/ns/a", Kind: Object, ObservedAt: time.Unix(-5, 0).UTC()},
	}
	for name, want := range cases {
		t.Run(name, func(t *testing.T) {
			k := want.Encode("topic", 3)
			if k.Topic != "topic" || k.Partition != 3 || string(k.Key) != want.Key {
				t.Errorf("%+v", k)
			}
			k.Offset, k.LeaderEpoch, k.Timestamp = 11, 2, time.Unix(9, 0)
			want.Topic, want.Partition, want.Offset, want.LeaderEpoch, want.AppendedAt = "topic", 3, 11, 2, time.Unix(9, 0)
			got, err := Decode(k)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if (want.Body == nil) != (k.Value == nil) {
				t.Error("a tombstone's value must be null, and nothing else's")
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	set := func(name, value string) func(*kgo.Record) {
		return func(k *kgo.Record) {
			for i := range k.Headers {
				if k.Headers[i].Key == name {
					k.Headers[i].Value = []byte(value)
					return
				}
			}
			k.Headers = append(k.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
		}
	}
	cases := map[string]struct {
		change func(*kgo.Record)
		want   string
	}{
		"alien":            {func(k *kgo.Record) { k.Headers = nil }, "not a record of Afterimage"},
		"newer schema":     {set("schema", "2"), "upgrade"},
		"schema":           {set("schema", "x"), "schema"},
		"version":          {set("version", "1.2"), "version"},
		"moment":           {set("observed-at", "yesterday"), "observed-at"},
		"verified":         {set("verified-at", "x"), "verified-at"},
		"labels":           {set("namespace-labels", "{"), "namespace-labels"},
		"annotations":      {set("namespace-annotations", "[]"), "namespace-annotations"},
		"managers":         {set("managers", "{}"), "managers"},
		"entry":            {set("entry", "first"), "entry"},
		"key":              {func(k *kgo.Record) { k.Key = []byte("a/b") }, "key"},
		"no key":           {func(k *kgo.Record) { k.Key = nil }, "key"},
		"control key":      {func(k *kgo.Record) { k.Key = []byte("!heartbeat") }, "does not fit"},
		"object as marker": {set("kind", "heartbeat"), "does not fit"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			r := full()
			k := r.Encode("topic", 3)
			k.Offset = 11
			tc.change(k)
			_, err := Decode(k)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "topic/3@11") {
				t.Errorf("error %v, want one that names topic/3@11 and %q", err, tc.want)
			}
		})
	}
}

func TestDecodeIgnoresWhatItDoesNotKnow(t *testing.T) {
	r := full()
	k := r.Encode("topic", 3)
	k.Headers = append(k.Headers, kgo.RecordHeader{Key: "trace", Value: []byte("x")})
	if _, err := Decode(k); err != nil {
		t.Errorf("a header added later must not stop an older reader: %v", err)
	}
}

// FuzzDecode: no record makes Decode panic, and what it accepts says the same
// when it is encoded again.
func FuzzDecode(f *testing.F) {
	for name := range map[string]bool{"version": true, "kind": true, "schema": true, "namespace-labels": true, "observed-at": true, "managers": true, "entry": true, "inferred": true} {
		f.Add("core/v1/configmaps/ns/a", name, []byte("1"), "op", []byte("update"), []byte(`{}`))
	}
	f.Add("!heartbeat", "kind", []byte("heartbeat"), "verified-at", []byte("12"), []byte(nil))
	f.Add("core/v1/configmaps/ns/a", "namespace-labels", []byte(`{"a":"b"}`), "version", []byte("1.2.3.4"), []byte(`x`))
	f.Fuzz(func(t *testing.T, key, h1 string, v1 []byte, h2 string, v2, body []byte) {
		k := &kgo.Record{Topic: "t", Key: []byte(key), Value: body, Headers: []kgo.RecordHeader{
			{Key: "schema", Value: []byte("1")}, {Key: h1, Value: v1}, {Key: h2, Value: v2},
		}}
		r, err := Decode(k)
		if err != nil {
			return
		}
		again, err := Decode(r.Encode("t", 0))
		if err != nil {
			t.Fatalf("%+v was accepted, and not once encoded again: %v", r, err)
		}
		for _, s := range []string{string(v1), string(v2)} {
			if !utf8.ValidString(s) {
				return // JSON has no such strings; Kubernetes has none either
			}
		}
		// An empty map of managers and none say the same.
		if len(r.Managers) == 0 {
			r.Managers = nil
		}
		if diff := cmp.Diff(r, again); diff != "" {
			t.Error(diff)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	r := full()
	k := r.Encode("topic", 3)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(k); err != nil {
			b.Fatal(err)
		}
	}
}
