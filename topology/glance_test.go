package topology

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// A glance says what decoding the whole record says.
func TestGlanceIsWhatDecodeSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		appended := time.UnixMilli(1_700_000_000_000)
		r := Record{
			Key: "core/v1/configmaps/a/b", Kind: Object, Op: rapid.SampledFrom([]Op{Create, Update, Delete}).Draw(t, "op"),
			Version:         Version{Epoch: 1, RV: rapid.StringMatching(`[0-9a-z.]{1,8}`).Draw(t, "rv"), NamespaceRV: "7"},
			NamespaceLabels: map[string]string{"l": "v"},
		}
		if rapid.Bool().Draw(t, "body") {
			r.Body = []byte(`{}`)
		}
		if rapid.Bool().Draw(t, "observed") {
			r.ObservedAt = appended.Add(time.Duration(rapid.Int64Range(-5e9, 5e9).Draw(t, "early"))).UTC()
		}
		k := r.Encode("t", 0)
		k.Timestamp = appended
		g, err := GlanceAt(k)
		if err != nil {
			t.Fatal(err)
		}
		whole, err := Decode(k)
		if err != nil {
			t.Fatal(err)
		}
		got := []any{g.Kind, g.Deleted, string(g.Version), g.Moment, string(g.NamespaceLabels)}
		want := []any{whole.Kind, whole.Op == Delete || whole.Body == nil, whole.Version.String(), whole.Moment().UnixNano(), `{"l":"v"}`}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("a glance differs (-decoded +glance):\n%s", diff)
		}
	})
}

func TestMoment(t *testing.T) {
	appended := time.UnixMilli(1_700_000_000_000)
	for name, test := range map[string]struct {
		reason         string
		observed, want time.Time
	}{
		"seen":     {"a change that had to wait for the broker belongs to when it was seen", appended.Add(-time.Hour), appended.Add(-time.Hour)},
		"rounded":  {"brokers round down to milliseconds", appended.Add(500 * time.Microsecond), appended.Add(500 * time.Microsecond)},
		"skewed":   {"a clock that is fast is not believed", appended.Add(time.Second), appended},
		"unstated": {"without another the broker's time", time.Time{}, appended},
	} {
		t.Run(name, func(t *testing.T) {
			r := Record{ObservedAt: test.observed, AppendedAt: appended}
			if got := r.Moment(); !got.Equal(test.want) {
				t.Errorf("%s: %s, want %s", test.reason, got, test.want)
			}
		})
	}
}

func TestGlanceRefusesANewerSchema(t *testing.T) {
	k := &kgo.Record{Key: []byte("core/v1/configmaps/a/b"), Headers: []kgo.RecordHeader{{Key: "schema", Value: []byte("2")}}}
	_, err := GlanceAt(k)
	var newer *NewerSchemaError
	if !errors.As(err, &newer) || newer.Schema != 2 {
		t.Errorf("glance: %v", err)
	}
	if _, err := Decode(k); !errors.As(err, &newer) {
		t.Errorf("decode: %v", err)
	}
}

func TestTopicsOf(t *testing.T) {
	for _, name := range []string{"pre", "with.dots"} {
		want := TopicsFor("dr", name)
		got, ns, n, ok := TopicsOf(want.Changes)
		if !ok || got != want || ns != "dr" || n != name {
			t.Errorf("%s: %v %s/%s %v", want.Changes, got, ns, n, ok)
		}
	}
	for _, topic := range []string{"", "afterimage.dr.pre.desired", "other.dr.pre.changes", "afterimage.dr.changes", "afterimage..pre.changes"} {
		if _, _, _, ok := TopicsOf(topic); ok {
			t.Errorf("%q is taken for a changes topic", topic)
		}
	}
}
