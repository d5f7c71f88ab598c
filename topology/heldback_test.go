package topology

import (
	"strings"
	"testing"
)

const (
	mutating   = "admissionregistration.k8s.io/v1/mutatingwebhookconfigurations//hook"
	validating = "admissionregistration.k8s.io/v1/validatingwebhookconfigurations//hook"
	definition = "apiextensions.k8s.io/v1/customresourcedefinitions//things.example.com"
)

// blocking covers what can be held back.
func blocking(holdBack, transformation string) string {
	return `{` + holdBack + `"resources":[
		{"group":"admissionregistration.k8s.io","version":"v1","resource":"mutatingwebhookconfigurations"},
		{"group":"admissionregistration.k8s.io","version":"v1","resource":"validatingwebhookconfigurations"},
		{"group":"apiextensions.k8s.io","version":"v1","resource":"customresourcedefinitions"` + transformation + `},
		{"group":"example.com","version":"v1","resource":"mutatingwebhookconfigurations"}]}`
}

func TestHoldBackWebhooks(t *testing.T) {
	const (
		service = `{"metadata":{"name":"hook"},"webhooks":[{"name":"a","clientConfig":{}},{"name":"b","clientConfig":{"service":{"namespace":"ns","name":"s"}}}]}`
		url     = `{"metadata":{"name":"hook"},"webhooks":[{"name":"a","clientConfig":{"url":"https://a.example"}}]}`
		empty   = `{"metadata":{"name":"hook"},"webhooks":[]}`
		none    = `{"metadata":{"name":"hook"}}`
		odd     = `{"metadata":{"name":"hook"},"webhooks":{"a":1}}`
		crd     = `{"metadata":{"name":"things.example.com"},"spec":{"conversion":{"strategy":"Webhook","webhook":{"clientConfig":{"service":{"namespace":"ns","name":"s"}},"conversionReviewVersions":["v1"]}},"group":"example.com"}}`
		plain   = `{"metadata":{"name":"things.example.com"},"spec":{"conversion":{"strategy":"None"},"group":"example.com"}}`
		off     = `"holdBackWebhooks":false,`
	)
	cases := map[string]struct {
		reason   string
		holdBack string
		patch    string
		key      string
		in       string
		held     bool
		want     string // the body; "" where it is out of scope
	}{
		"service":               {"its Service has no endpoints", "", "", mutating, service, true, ""},
		"url":                   {"what is there may not answer the standby", "", "", validating, url, true, ""},
		"on":                    {"true is the default said aloud", `"holdBackWebhooks":true,`, "", validating, url, true, ""},
		"empty list":            {"asks nobody", "", "", mutating, empty, false, empty},
		"no list":               {"asks nobody", "", "", mutating, none, false, none},
		"odd":                   {"rather too late than never writable", "", "", mutating, odd, true, ""},
		"switched off":          {"the user says so", off, "", mutating, url, false, url},
		"of another group":      {"a custom resource of the same name is none", "", "", "example.com/v1/mutatingwebhookconfigurations//hook", url, false, url},
		"conversion":            {"the definition is needed, its webhook is not", "", "", definition, crd, true, plain},
		"conversion is none":    {"nothing to hold back", "", "", definition, plain, false, plain},
		"no conversion":         {"nothing to hold back", "", "", definition, `{"metadata":{"name":"things.example.com"},"spec":{"group":"example.com"}}`, false, `{"metadata":{"name":"things.example.com"},"spec":{"group":"example.com"}}`},
		"no spec":               {"nothing to hold back", "", "", definition, none, false, none},
		"conversion, off":       {"the user says so", off, "", definition, crd, false, crd},
		"conversion, patched":   {"a patch may speak of the webhook", "", `,"transformation":{"patch":[{"op":"remove","path":"/spec/conversion/webhook/clientConfig/service"},{"op":"add","path":"/spec/conversion/webhook/clientConfig/url","value":"https://a"}]}`, definition, crd, true, plain},
		"conversion, patched 2": {"a patch took it away: nothing is held back", "", `,"transformation":{"patch":[{"op":"replace","path":"/spec/conversion","value":{"strategy":"None"}}]}`, definition, crd, false, plain},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			r := compile(t, blocking(tc.holdBack, tc.patch))
			rec := record(tc.key, tc.in)
			got := r.Apply(rec)
			if got.Err != nil || got.HeldBack != tc.held || string(got.Body) != tc.want || got.InScope != (tc.want != "") || (got.Skip == SkipHeldBack) != (tc.want == "") {
				t.Errorf("%s: %+v with body %s; want held back: %v, body %s", tc.reason, got, got.Body, tc.held, tc.want)
			}
			if got.InScope && got.Hash == "" {
				t.Errorf("%s: no hash", tc.reason)
			}
			// A recovery releases all of it.
			if got := r.Original(rec); !got.InScope || got.HeldBack || got.Skip != "" || string(got.Body) != tc.in {
				t.Errorf("%s: original %+v with body %s; want %s", tc.reason, got, got.Body, tc.in)
			}
		})
	}
}

// TestOutOfScopeIsNotHeldBack: nothing waits for a recovery that no entry takes.
func TestOutOfScopeIsNotHeldBack(t *testing.T) {
	r := compile(t, strings.Replace(blocking("", ""), `"mutatingwebhookconfigurations"}`, `"mutatingwebhookconfigurations","filters":{"nameSelector":{"regex":["other"]}}}`, 1))
	body := `{"metadata":{"name":"hook"},"webhooks":[{"clientConfig":{"url":"https://a"}}]}`
	if got := r.Apply(record(mutating, body)); got.InScope || got.HeldBack || got.Skip != "" {
		t.Errorf("filtered: %+v", got)
	}
	ignored := strings.Replace(body, `"name":"hook"`, `"name":"hook","annotations":{"afterimage.io/ignore":"true"}`, 1)
	if got := r.Apply(record(validating, ignored)); got.InScope || got.HeldBack || got.Skip != SkipIgnored {
		t.Errorf("ignored: %+v", got)
	}
}

// TestHoldBackWebhooksIsAChangeOfTheConfiguration, so that everything is
// computed again.
func TestHoldBackWebhooksIsAChangeOfTheConfiguration(t *testing.T) {
	if configOf(t, blocking("", "")).Hash() == configOf(t, blocking(`"holdBackWebhooks":false,`, "")).Hash() {
		t.Error("the hash is the same")
	}
}

// TestWhatIsHeldBackHasAPrefix: who counts looks there alone.
func TestWhatIsHeldBackHasAPrefix(t *testing.T) {
	for _, key := range []string{mutating, validating, definition} {
		found := false
		for _, prefix := range HeldBackPrefixes() {
			found = found || strings.HasPrefix(key, prefix)
		}
		if !found {
			t.Errorf("%s has none of %v", key, HeldBackPrefixes())
		}
	}
}
