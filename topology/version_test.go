package topology

import (
	"testing"

	"pgregory.net/rapid"
)

func TestVersionOrder(t *testing.T) {
	ordered := []Version{
		{},
		{RV: "9"},
		{RV: "10"}, // by number, not by text
		{RV: "10", NamespaceRV: "2"},
		{RV: "10", NamespaceRV: "11"},
		{RV: "10", NamespaceRV: "11", Generation: 1},
		{RV: "10", NamespaceRV: "11", Generation: 2},
		{RV: "11"},
		{RV: "99999999999999999999999"}, // resourceVersions have no limit
		{Epoch: 1, RV: "1"},             // a new epoch begins low
		{Epoch: 2},
	}
	for i, a := range ordered {
		for j, b := range ordered {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got, ok := a.Compare(b); got != want || !ok {
				t.Errorf("%s compared with %s: %d, %v; want %d", a, b, got, ok, want)
			}
			if a.Older(b) != (i < j) {
				t.Errorf("%s older than %s: %v", a, b, a.Older(b))
			}
		}
	}
}

func TestVersionsThatCannotBeCompared(t *testing.T) {
	a, b := Version{RV: "opaque"}, Version{RV: "12"}
	if _, ok := a.Compare(b); ok {
		t.Error("an opaque resourceVersion was compared")
	}
	if a.Older(b) || b.Older(a) {
		t.Error("what cannot be compared is not older")
	}
	if c, ok := a.Compare(a); c != 0 || !ok {
		t.Error("an opaque resourceVersion equals itself")
	}
	if !(Version{RV: "opaque"}).Older(Version{Epoch: 1, RV: "1"}) {
		t.Error("epochs can always be compared")
	}
	if c, ok := (Version{RV: "0"}).Compare(Version{}); c != 0 || !ok {
		t.Error("0 and nothing both say that nothing is known")
	}
}

func TestVersionText(t *testing.T) {
	for text, want := range map[string]Version{
		"0...0":         {},
		"5.12.7.9":      {Epoch: 5, RV: "12", NamespaceRV: "7", Generation: 9},
		"1.a%2Eb.%25.3": {Epoch: 1, RV: "a.b", NamespaceRV: "%", Generation: 3},
		"1.%252E.x.3":   {Epoch: 1, RV: "%2E", NamespaceRV: "x", Generation: 3},
		"-1.1..-2":      {Epoch: -1, RV: "1", Generation: -2},
	} {
		got, err := ParseVersion(text)
		if err != nil || got != want {
			t.Errorf("ParseVersion(%q) = %+v, %v; want %+v", text, got, err, want)
		}
		if want.String() != text {
			t.Errorf("%+v: %q, want %q", want, want, text)
		}
	}
	for _, text := range []string{"", "1", "1.2.3", "1.2.3.4.5", "x.2.3.4", "1.2.3.x", "+1.2.3.4", "01.2.3.4", "1.%2e.3.4", "1.%.3.4"} {
		if v, err := ParseVersion(text); err == nil {
			t.Errorf("ParseVersion(%q) = %+v, want an error", text, v)
		}
	}
}

func TestVersionTextIsInjective(t *testing.T) {
	gen := rapid.Custom(func(t *rapid.T) Version {
		rv := rapid.StringOf(rapid.SampledFrom([]rune("0129.%2E5ab")))
		return Version{Epoch: rapid.Int64().Draw(t, "epoch"), RV: rv.Draw(t, "rv"), NamespaceRV: rv.Draw(t, "namespace rv"), Generation: rapid.Int64().Draw(t, "generation")}
	})
	rapid.Check(t, func(t *rapid.T) {
		v := gen.Draw(t, "version")
		if got, err := ParseVersion(v.String()); err != nil || got != v {
			t.Fatalf("%+v → %q → %+v, %v", v, v, got, err)
		}
	})
}

func TestVersionOrderIsTotal(t *testing.T) {
	gen := rapid.Custom(func(t *rapid.T) Version {
		rv := rapid.SampledFrom([]string{"", "0", "1", "2", "10"})
		return Version{Epoch: rapid.Int64Range(0, 2).Draw(t, "epoch"), RV: rv.Draw(t, "rv"), NamespaceRV: rv.Draw(t, "namespace rv"), Generation: rapid.Int64Range(0, 2).Draw(t, "generation")}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := gen.Draw(t, "a"), gen.Draw(t, "b"), gen.Draw(t, "c")
		ab, _ := a.Compare(b)
		ba, _ := b.Compare(a)
		if ab != -ba {
			t.Fatalf("%s, %s: %d and %d", a, b, ab, ba)
		}
		bc, _ := b.Compare(c)
		if ac, _ := a.Compare(c); ab <= 0 && bc <= 0 && ac > 0 {
			t.Fatalf("%s ≤ %s ≤ %s, but %d", a, b, c, ac)
		}
	})
}

func FuzzVersion(f *testing.F) {
	for _, s := range []string{"0...0", "5.12.7.9", "1.a%2Eb.%25.3", "1.%.3.4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseVersion(s)
		if err == nil && v.String() != s {
			t.Errorf("ParseVersion(%q).String() = %q", s, v)
		}
	})
}
