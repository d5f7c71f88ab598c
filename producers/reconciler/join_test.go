package reconciler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/afterimage-dr/afterimage/internal/kube"
)

// paths lists paths in pages of size n; at a path called "!" the page fails.
func paths(n int, ordered bool, list ...string) *cursor {
	return &cursor{ordered: ordered, list: func(_ context.Context, o kube.ListOptions) (kube.Page, error) {
		from := 0
		if o.Continue != "" {
			fmt.Sscan(o.Continue, &from)
		}
		to := min(from+n, len(list))
		var page kube.Page
		for _, p := range list[from:to] {
			if p == "!" {
				return kube.Page{}, errors.New("the page failed")
			}
			ns, name, _ := strings.Cut(p, "/")
			page.Items = append(page.Items, json.RawMessage(fmt.Sprintf(`{"metadata":{"namespace":%q,"name":%q}}`, ns, name)))
		}
		if to < len(list) {
			page.Continue = fmt.Sprint(to)
		}
		return page, nil
	}}
}

func TestJoin(t *testing.T) {
	for name, tc := range map[string]struct {
		destination, source []string
		want                []string
		err                 string
	}{
		"equal":                   {[]string{"a/x", "a/y"}, []string{"a/x", "a/y"}, nil, ""},
		"only in the destination": {[]string{"a/w", "a/x", "a/y", "b/z"}, []string{"a/x"}, []string{"a/w", "a/y", "b/z"}, ""},
		"only in the source":      {[]string{"a/y"}, []string{"a/x", "a/y", "a/z"}, nil, ""},
		"empty source":            {[]string{"a/x", "a/y"}, nil, []string{"a/x", "a/y"}, ""},
		"empty destination":       {nil, []string{"a/x"}, nil, ""},
		"cluster-scoped":          {[]string{"/a", "/b"}, []string{"/b"}, []string{"/a"}, ""},
		"etcd's order of names":   {[]string{"a-b/x", "a/x"}, []string{"a-b/x", "a/w", "a/x"}, nil, ""},
		"source fails":            {[]string{"a/x", "a/y"}, []string{"a/w", "!"}, nil, "source: the page failed"},
		"source fails later":      {[]string{"a/a", "a/y"}, []string{"a/w", "a/x", "!"}, nil, "source: the page failed"},
		"destination fails":       {[]string{"a/x", "!"}, []string{"a/w"}, nil, "destination: the page failed"},
		"source out of order":     {[]string{"b/x", "c/x"}, []string{"b/x", "a/w", "c/x"}, nil, "source: " + errOrder.Error()},
		"destination repeats":     {[]string{"b/x", "b/x"}, []string{"b/x"}, nil, "destination: " + errOrder.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			err := join(t.Context(), paths(1, true, tc.destination...), paths(2, true, tc.source...), func(entry) bool { return true },
				func(e entry) { got = append(got, e.path) })
			if tc.err != "" {
				if err == nil || err.Error() != tc.err {
					t.Fatalf("got error %v, want %s", err, tc.err)
				}
				return // what was found before the error is thrown away
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("orphans (-want +got):\n%s", diff)
			}
		})
	}
}

// Both joins find exactly the wanted entries that the source lacks, however the
// listings are paged.
func TestJoinModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := rapid.MapOfN(rapid.StringMatching(`[ab-]{1,2}/[a-c.-]{1,3}`), rapid.Bool(), 0, 40)
		destination, source := set.Draw(t, "destination"), set.Draw(t, "source")
		var want []string
		for path, wanted := range destination {
			if _, ok := source[path]; wanted && !ok {
				want = append(want, path)
			}
		}
		slices.Sort(want)
		d, s := slices.Sorted(maps.Keys(destination)), slices.Sorted(maps.Keys(source))
		check := func(how string, join joiner, d, s []string, ordered bool) {
			var got []string
			err := join(context.Background(), paths(rapid.IntRange(1, 9).Draw(t, "page"), ordered, d...), paths(rapid.IntRange(1, 9).Draw(t, "page"), ordered, s...),
				func(e entry) bool { return destination[e.path] }, func(e entry) { got = append(got, e.path) })
			slices.Sort(got)
			if err != nil || !slices.Equal(got, want) {
				t.Fatalf("%s: got %v, %v; want %v", how, got, err, want)
			}
		}
		check("in order", join, d, s, true)
		check("through a set", joinSet, rapid.Permutation(d).Draw(t, "d"), rapid.Permutation(s).Draw(t, "s"), false)
	})
}

func TestPasses(t *testing.T) {
	r := &Reconciler{opts: Options{MaxRequests: 100}}
	r.opts.setDefaults()
	r.log = r.opts.Logger
	for name, tc := range map[string]struct {
		owned, orphans int
		confirm        string
		want           bool
	}{
		"few":                  {100, 100, "", true}, // the eventslistener's breaker sees all of them
		"many, less than half": {1000, 400, "", true},
		"more than half":       {1000, 600, "", false},
		"confirmed":            {1000, 600, "core/v1/configmaps=600", true},
		"confirmed more":       {1000, 600, "core/v1/configmaps=700", true},
		"confirmed fewer":      {1000, 600, "core/v1/configmaps=500", false},
		"confirmed another":    {1000, 600, "core/v1/secrets=600", false},
		"confirmed what not":   {1000, 600, "yes", false},
	} {
		t.Run(name, func(t *testing.T) {
			p := &pass{term: &term{Reconciler: r}}
			p.settings.ConfirmPrune = tc.confirm
			got := p.passes(&tally{served: served{name: "core/v1/configmaps"}, owned: tc.owned, orphans: tc.orphans})
			if got != tc.want || got == (p.blocked != "") {
				t.Errorf("got %v (%q), want %v", got, p.blocked, tc.want)
			}
		})
	}
}
