package bucket

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/afterimage-dr/afterimage/topology"
)

func TestPath(t *testing.T) {
	for want, c := range map[string]struct {
		reason string
		key    topology.Key
	}{
		"dr-config/pre/apps-v1-deployments/test-namespace-one.helloworld": {
			"the documented example",
			topology.Key{Group: "apps", Version: "v1", Resource: "deployments", Namespace: "test-namespace-one", Name: "helloworld"},
		},
		"dr-config/pre/core-v1-services/shop.web": {
			"the core group has a name", topology.Key{Version: "v1", Resource: "services", Namespace: "shop", Name: "web"},
		},
		"dr-config/pre/core-v1-namespaces/shop": {
			"cluster-scoped: the name alone", topology.Key{Version: "v1", Resource: "namespaces", Name: "shop"},
		},
		"dr-config/pre/rbac.authorization.k8s.io-v1-clusterroles/system:a.b": {
			"names may have colons and dots", topology.Key{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles", Name: "system:a.b"},
		},
		"dr-config/pre/my-group.io-v1-things/a.b.c": {
			"a hyphen in a group is its own", topology.Key{Group: "my-group.io", Version: "v1", Resource: "things", Namespace: "a", Name: "b.c"},
		},
		"dr-config/pre/a-v1-v1~x/n.o": {
			"a hyphen in a resource would read as a separator", topology.Key{Group: "a", Version: "v1", Resource: "v1-x", Namespace: "n", Name: "o"},
		},
		"dr-config/pre/a-v1-v1-x/n.o": {
			"so this is another one", topology.Key{Group: "a-v1", Version: "v1", Resource: "x", Namespace: "n", Name: "o"},
		},
	} {
		if got := Path("dr-config", "pre", c.key); got != want {
			t.Errorf("%s: %q, want %q", c.reason, got, want)
		}
		l, err := ParsePath(want)
		if err != nil || l.Namespace != "dr-config" || l.Name != "pre" {
			t.Errorf("ParsePath(%q) = %+v, %v", want, l, err)
		}
		if key, ok := l.Key(c.key.Namespace != ""); !ok || key != c.key {
			t.Errorf("%q: key %+v, %v", want, key, ok)
		}
	}
	for _, path := range []string{"", "a", "a/b/c-v1-d", "a/b/c-v1-d/e/f", "a/b/c-v1-d/", "/b/c-v1-d/e", "a/b/v1-d/e", "a/b/-v1-d/e", "a/b/c--d/e", "a/b/c-v1-/e"} {
		if l, err := ParsePath(path); err == nil {
			t.Errorf("ParsePath(%q) = %+v, want an error", path, l)
		}
	}
	if _, ok := (Location{Object: "plain"}).Key(true); ok {
		t.Error("a name without a dot names a namespaced object")
	}
}

// keys as API servers have them: DNS labels that are short and alike, so that a
// path that is not injective is found out.
func keys() *rapid.Generator[topology.Key] {
	label := rapid.StringMatching(`[av1]([av1-]{0,3}[av1])?`)
	group := rapid.OneOf(rapid.Just(""), rapid.StringMatching(`[av1]([av1.-]{0,5}[av1])?`))
	// A name may hold anything but / and %.
	name := rapid.StringMatching(`[av1.:~ä-]{1,4}`)
	return rapid.Custom(func(t *rapid.T) topology.Key {
		key := topology.Key{Group: group.Draw(t, "group"), Version: label.Draw(t, "version"), Resource: label.Draw(t, "resource"), Name: name.Draw(t, "name")}
		// Whether a resource is namespaced is a function of the resource.
		if len(key.Resource)%2 == 0 {
			key.Namespace = label.Draw(t, "namespace")
		}
		return key
	})
}

func TestPathIsInjective(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := keys().Draw(t, "a"), keys().Draw(t, "b")
		if a != b && Path("n", "l", a) == Path("n", "l", b) {
			t.Fatalf("%+v and %+v share %s", a, b, Path("n", "l", a))
		}
		l, err := ParsePath(Path("n", "l", a))
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := l.Key(a.Namespace != ""); !ok || got != a {
			t.Fatalf("%+v → %s → %+v", a, Path("n", "l", a), got)
		}
	})
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"dr-config/pre/apps-v1-deployments/a.b", "a/b/core-v1-namespaces/c", "a/b/c-v1-d~e/f.g", "////", "a/b/---/c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := ParsePath(s)
		if err != nil {
			return
		}
		for _, namespaced := range []bool{true, false} {
			key, ok := l.Key(namespaced)
			if !ok {
				continue
			}
			path := Path(l.Namespace, l.Name, key)
			again, err := ParsePath(path)
			if err != nil {
				t.Fatalf("%q → %q: %v", s, path, err)
			}
			if got, ok := again.Key(namespaced); !ok || got != key {
				t.Errorf("%q: %+v → %q → %+v", s, key, path, got)
			}
		}
	})
}
