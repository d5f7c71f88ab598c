package bucket

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/afterimage-dr/afterimage/topology"
)

// stamped is an original with every part of a stamp, and the body given.
func stamped(body string) Original {
	return Original{
		Key:                  topology.Key{Group: "apps", Version: "v1", Resource: "deployments", Namespace: "n", Name: "o"},
		LiveSynchronization:  "dr/pre",
		Version:              topology.Version{Epoch: 3, RV: "12", NamespaceRV: "5"},
		UID:                  "u",
		NamespaceLabels:      map[string]string{"b": "2", "a": "<1>"},
		NamespaceAnnotations: map[string]string{"x": "y"},
		SyncedAt:             time.Unix(1700000000, 123456789).UTC(),
		Body:                 []byte(body),
	}
}

func TestContentRoundTrip(t *testing.T) {
	for reason, body := range map[string]string{
		"no annotations":                                  `{"kind":"X","metadata":{"name":"o"}}`,
		"an empty map is not none":                        `{"metadata":{"annotations":{},"name":"o"}}`,
		"null is not none":                                `{"metadata":{"annotations":null,"name":"o"}}`,
		"annotations of the user's":                       `{"metadata":{"annotations":{"a":"1","z":"2"},"name":"o"}}`,
		"unicode, escaped and not":                        `{"data":{"k":"äöü \u00e4 日本 \ud83d\ude00 😀"},"metadata":{"annotations":{"ä":"\u2028é"}}}`,
		"numbers keep their digits":                       `{"metadata":{},"spec":{"big":9007199254740993123,"e":1E400,"f":1.10,"z":-0}}`,
		"HTML characters, escaped and not":                `{"metadata":{"annotations":{"a":"<b>&\u003c"}},"spec":{"x":"<>&\u0026"}}`,
		"the order of a body is its own":                  `{"metadata":{},"spec":{"z":1,"a":{"y":[],"b":null}}}`,
		"a copy made by another Afterimage (A to B to C)": `{"metadata":{"annotations":{"afterimage.io/content-hash":"h","afterimage.io/key":"k","afterimage.io/live-synchronization":"other/one","afterimage.io/source-cluster":"s","afterimage.io/source-uid":"old","afterimage.io/version":"1.2.3.4","mine":"1"},"labels":{"afterimage.io/owner":"h"}}}`,
		"applied from a bucket by hand":                   `{"metadata":{"annotations":{"afterimage.io/key":"k","afterimage.io/original-annotations":"absent","afterimage.io/synced-at":"t"}}}`,
		"only our own names":                              `{"metadata":{"annotations":{"afterimage.io/version":"v"}}}`,
		"ignored objects keep saying so":                  `{"metadata":{"annotations":{"afterimage.io/ignore":"false"}}}`,
	} {
		o := stamped(body)
		content, err := o.Content()
		if err != nil {
			t.Errorf("%s: %v", reason, err)
			continue
		}
		got, err := decode(content)
		if err != nil {
			t.Errorf("%s: %v\n%s", reason, err, content)
			continue
		}
		if diff := cmp.Diff(o, got); diff != "" {
			t.Errorf("%s: %s\nfrom %s", reason, diff, content)
		}
		if string(got.Body) != body {
			t.Errorf("%s:\n got %s\nwant %s", reason, got.Body, body)
		}
		again, err := got.Content()
		if err != nil || !bytes.Equal(content, again) {
			t.Errorf("%s: stored again it is other bytes (%v):\n%s\n%s", reason, err, content, again)
		}
		for _, name := range []string{"live-synchronization", "source-uid", "source-resource-version", "synced-at"} {
			if !strings.Contains(string(content), `"afterimage.io/`+name+`":`) {
				t.Errorf("%s: no annotation %s in %s", reason, name, content)
			}
		}
	}
}

func TestStampRoundTrip(t *testing.T) {
	for reason, change := range map[string]func(*Original){
		"all of it": func(*Original) {},
		"nothing but what must be": func(o *Original) {
			o.NamespaceLabels, o.NamespaceAnnotations, o.UID, o.SyncedAt = nil, nil, "", time.Time{}
		},
		"no labels are not unknown":     func(o *Original) { o.NamespaceLabels = map[string]string{} },
		"a cluster-scoped object":       func(o *Original) { o.Key.Namespace = "" },
		"the core group":                func(o *Original) { o.Key.Group = "" },
		"an opaque resourceVersion":     func(o *Original) { o.Version.RV = "a.b%ä" },
		"a name that is no ASCII":       func(o *Original) { o.Key.Name = "ä b" },
		"nothing known of the version":  func(o *Original) { o.Version = topology.Version{} },
		"a moment without a fraction":   func(o *Original) { o.SyncedAt = time.Unix(1700000000, 0).UTC() },
		"labels that need JSON escapes": func(o *Original) { o.NamespaceLabels = map[string]string{`"\`: "\u2028<&>"} },
	} {
		o := stamped(`{"metadata":{"name":"o"}}`)
		change(&o)
		content, err := o.Content()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decode(content); err != nil || cmp.Diff(o, got) != "" {
			t.Errorf("%s: %v\n%s", reason, err, cmp.Diff(o, got))
		}
		for name, value := range o.metadata(content) {
			for i := range len(value) {
				if value[i] <= ' ' || value[i] > '~' {
					t.Errorf("%s: metadata %s: %q cannot be a header", reason, name, value)
				}
			}
		}
		if text, err := fromASCII(o.metadata(content)[metaVersion]); err != nil || text != o.Version.String() {
			t.Errorf("%s: version %q, %v", reason, text, err)
		}
	}
}

func TestContentOfBadBodies(t *testing.T) {
	for _, body := range []string{``, `null`, `[]`, `{`, `{}`, `{"metadata":null}`, `{"metadata":[]}`, `{"metadata":{"annotations":[]}}`, `{"metadata":{"annotations":"x"}}`} {
		o := stamped(body)
		if content, err := o.Content(); err == nil {
			t.Errorf("%q gave %s", body, content)
		}
	}
}

func TestFromRecord(t *testing.T) {
	r := topology.Record{Key: "core/v1/configmaps/shop/a", Kind: topology.Object, Body: []byte(`{}`), AppendedAt: time.Unix(1, 0)}
	o, err := FromRecord(topology.Owner{LiveSynchronization: "dr/pre", SourceUID: "src"}, &r)
	if err != nil || o.Path != "dr/pre/core-v1-configmaps/shop.a" || o.LiveSynchronization != "dr/pre" || !o.SyncedAt.Equal(r.AppendedAt) {
		t.Errorf("%+v, %v", o, err)
	}
	for reason, r := range map[string]topology.Record{
		"a delete":         {Key: "core/v1/configmaps/shop/a", Kind: topology.Object},
		"a control record": {Key: "!heartbeat", Kind: topology.Heartbeat, Body: []byte(`{}`)},
		"a key that none":  {Key: "x", Kind: topology.Object, Body: []byte(`{}`)},
	} {
		if o, err := FromRecord(topology.Owner{LiveSynchronization: "dr/pre", SourceUID: "src"}, &r); err == nil {
			t.Errorf("%s gave %+v", reason, o)
		}
	}
}

// TestContentOfAnyBody draws canonical bodies: sorted, compact, without the
// escaping of HTML, as the log has them.
func TestContentOfAnyBody(t *testing.T) {
	names := rapid.OneOf(rapid.SampledFrom(append([]string{"a", "<b>", "ä"}, controlAnnotations...)), rapid.String())
	// Some control characters have two spellings, of which the encoder has one.
	annotations := rapid.MapOf(names, rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"absent", "null", "{}"})))
	rapid.Check(t, func(t *rapid.T) {
		meta := map[string]any{"name": rapid.String().Draw(t, "name")}
		switch rapid.IntRange(0, 3).Draw(t, "annotations are") {
		case 0:
		case 1:
			meta["annotations"] = nil
		default:
			meta["annotations"] = annotations.Draw(t, "annotations")
		}
		body := marshal(map[string]any{"metadata": meta, "spec": rapid.MapOf(rapid.String(), rapid.Int64()).Draw(t, "spec")})
		o := stamped(string(body))
		content, err := o.Content()
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(content) {
			t.Fatalf("not JSON: %s", content)
		}
		got, err := decode(content)
		if err != nil {
			t.Fatalf("%v: %s", err, content)
		}
		if diff := cmp.Diff(o, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzDecode(f *testing.F) {
	o := stamped(`{"metadata":{"name":"o"}}`)
	content, err := o.Content()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content)
	f.Add([]byte(`{"metadata":{"annotations":{"afterimage.io/original-annotations":"{}"}}}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		o, err := decode(content)
		if err != nil {
			return
		}
		again, err := o.Content()
		if err != nil {
			t.Fatalf("what was decoded cannot be stored: %v", err)
		}
		if back, err := decode(again); err != nil || cmp.Diff(o, back) != "" {
			t.Errorf("%v\n%s", err, cmp.Diff(o, back))
		}
	})
}
