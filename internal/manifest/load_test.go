package manifest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"sigs.k8s.io/yaml"

	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

func TestLoadReadsFilesDirectoriesAndStdin(t *testing.T) {
	parts := strings.SplitN(good(), "---\n", 3)
	asJSON, err := yaml.YAMLToJSON([]byte(parts[1]))
	if err != nil {
		t.Fatal(err)
	}
	dir := write(t, map[string]string{"a.yml": parts[0], "b.json": string(asJSON), "notes.txt": "not a manifest", ".hidden.yaml": "nor: this"})
	single := write(t, map[string]string{"rest.txt": parts[2]}) // a file is read whatever its name
	cases := map[string][]string{
		"a directory and a file": {dir, filepath.Join(single, "rest.txt")},
		"a file given twice":     {dir, filepath.Join(single, "rest.txt"), filepath.Join(single, ".", "rest.txt")},
		"standard input":         {Stdin, dir},
	}
	for name, paths := range cases {
		t.Run(name, func(t *testing.T) {
			set, err := Load(paths, WithStdin([]byte(parts[2])))
			if err != nil {
				t.Fatal(err)
			}
			if len(set.Secrets) != 3 || len(set.Clusters) != 2 || len(set.Buckets) != 1 || len(set.LiveSynchronizations) != 1 {
				t.Errorf("%d secrets, %d clusters, %d buckets, %d LiveSynchronizations", len(set.Secrets), len(set.Clusters), len(set.Buckets), len(set.LiveSynchronizations))
			}
		})
	}
}

func TestLoadRefusesPathsItCannotUse(t *testing.T) {
	empty := t.TempDir()
	cases := map[string]struct {
		paths []string
		want  string
	}{
		"none":            {nil, "expected at least one file or directory"},
		"missing":         {[]string{filepath.Join(empty, "none.yaml")}, "none.yaml: expected a file or directory: no such file or directory"},
		"empty directory": {[]string{empty}, "expected at least one *.yaml, *.yml or *.json file"},
		"only assets":     {[]string{write(t, map[string]string{"a.yaml": clusterSecrets()})}, "expected at least one LiveSynchronization, Synchronization, SynchronizationPlan or Recovery; there is none"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if _, err := Load(tc.paths); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v; want %q", err, tc.want)
			}
		})
	}
}

func TestLoadReadsListsAndSeveralMarkers(t *testing.T) {
	text := "--- # first\n" + strings.ReplaceAll(good(), "---\n", "...\n---\n") + "\n---\n---\n"
	if _, err := Load([]string{Stdin}, WithStdin([]byte(text))); err != nil {
		t.Errorf("document markers: %v", err)
	}
	if _, err := Load([]string{Stdin}, WithStdin([]byte("\xef\xbb\xbf"+strings.ReplaceAll(good(), "\n", "\r\n")))); err != nil {
		t.Errorf("a file from another editor: %v", err)
	}
	var items []string
	for _, doc := range strings.Split(good(), "---\n") {
		items = append(items, "- "+strings.TrimSpace(strings.ReplaceAll(doc, "\n", "\n  ")))
	}
	list := "apiVersion: v1\nkind: List\nitems:\n" + strings.Join(items, "\n") + "\n"
	if _, err := Load([]string{Stdin}, WithStdin([]byte(list))); err != nil {
		t.Errorf("a List: %v", err)
	}
	_, err := Load([]string{Stdin}, WithStdin([]byte(strings.Replace(list, "suspend: false", "suspend: 5", 1))))
	var all Errors
	if !errors.As(err, &all) || all[0].Field != "spec.suspend" || !strings.Contains(strings.Split(list, "\n")[all[0].Line-1], "suspend:") {
		t.Errorf("an error within a List names the line of the field: %v", err)
	}
}

// TestErrorsNameTheLine: the line of an error is that of the field.
func TestErrorsNameTheLine(t *testing.T) {
	text := "\n# a comment\n" + strings.Replace(good(), "destinationName: destination", "destinationName: nowhere", 1)
	_, err := Load([]string{Stdin}, WithStdin([]byte(text)))
	var all Errors
	if !errors.As(err, &all) || len(all) != 1 {
		t.Fatalf("want one error, got %v", err)
	}
	if line := strings.Split(text, "\n")[all[0].Line-1]; !strings.Contains(line, "destinationName: nowhere") {
		t.Errorf("line %d is %q", all[0].Line, line)
	}
	if want := fmt.Sprintf("<stdin>:%d: document 7: LiveSynchronization default/standby: spec.config.destinationName: Not found", all[0].Line); !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %q; want the prefix %q", err, want)
	}
}

func TestLoadSaysEverythingAtOnce(t *testing.T) {
	text := strings.NewReplacer("suspend: false", "suspend: 5", "endpoint: localhost:9000", "endpoint: ''", "resyncPeriod: 30m", "resyncPeriod: soon").Replace(good())
	_, err := Load([]string{Stdin}, WithStdin([]byte(text)))
	var all Errors
	if !errors.As(err, &all) {
		t.Fatal(err)
	}
	var got []string
	for _, e := range all {
		got = append(got, e.Field)
	}
	if diff := cmp.Diff([]string{"spec.generic.endpoint", "spec.suspend", "spec.config.replication.resyncPeriod"}, got); diff != "" {
		t.Errorf("in the order of the lines: -want +got:\n%s", diff)
	}
}

func TestErrorsHoldNoSecret(t *testing.T) {
	text := strings.NewReplacer("not-a-real-token", "hunter2", "accessKeyID: id", "accessKeyID: [hunter2]", "current-context: main", "current-context: other").Replace(good())
	_, err := Load([]string{Stdin}, WithStdin([]byte(text)))
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("an error must show no secret: %v", err)
	}
}

func TestEveryPatchValueIsKept(t *testing.T) {
	for _, value := range []string{"null", "0", "false", `""`, "[]", "{}", `{"a":null}`, "9007199254740993", "1.5"} {
		text := strings.Replace(good(), "value: 0", "value: "+value, 1)
		set, err := Load([]string{Stdin}, WithStdin([]byte(text)))
		if err != nil {
			t.Errorf("%s: %v", value, err)
			continue
		}
		op := set.LiveSynchronizations[0].Spec.Config.Replication.Resources[0].Transformation.Patch[0]
		if raw, ok := op.RawValue(); !ok || string(raw) != value {
			t.Errorf("value %s became %s, %v", value, raw, ok)
		}
	}
}

func TestSettingsFor(t *testing.T) {
	text := strings.NewReplacer(
		"      resyncPeriod: 30m\n", "",
		"name: standby", "name: standby\n  annotations: {afterimage.io/confirm-prune: token, audit.astronetes.io/last-update-username: jane}",
	).Replace(good())
	cases := map[string]struct {
		reason string
		text   string
		want   time.Duration
	}{
		"default":      {"nobody says", text, time.Hour},
		"outer":        {"it is accepted beside replication", strings.Replace(text, "bucketName: originals", "bucketName: originals\n    resyncPeriod: 5m", 1), 5 * time.Minute},
		"inner wins":   {"the one in replication wins", strings.Replace(good(), "bucketName: originals", "bucketName: originals\n    resyncPeriod: 5m", 1), 30 * time.Minute},
		"never":        {"0s is no default", strings.Replace(good(), "30m", "0s", 1), 0},
		"inner 0 wins": {"0s is said too", strings.Replace(strings.Replace(good(), "30m", "0s", 1), "bucketName: originals", "bucketName: originals\n    resyncPeriod: 5m", 1), 0},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			set, err := Load([]string{Stdin}, WithStdin([]byte(tc.text)))
			if err != nil {
				t.Fatal(err)
			}
			if got := set.SettingsFor(set.LiveSynchronizations[0]).ResyncPeriod; got != tc.want {
				t.Errorf("%s: resyncPeriod = %s; want %s", tc.reason, got, tc.want)
			}
		})
	}
	set, err := Load([]string{Stdin}, WithStdin([]byte(text)))
	if err != nil {
		t.Fatal(err)
	}
	got := set.SettingsFor(set.LiveSynchronizations[0])
	if got.Config.Namespace != "default" || got.Config.Name != "standby" || len(got.Config.Replication.Resources) != 1 {
		t.Errorf("config of %s/%s with %d resources", got.Config.Namespace, got.Config.Name, len(got.Config.Replication.Resources))
	}
	got.Config.Namespace, got.Config.Name, got.Config.Replication = "", "", v1alpha1.Replication{}
	want := settings.Settings{
		ResyncPeriod:       time.Hour,
		ConcurrentTasks:    map[string]int{"eventslistener": 8, "processor": 4, "synchronizer": 16, "reconciler": 4, "archiver": 32},
		Source:             settings.Asset{Name: "source", Namespace: "default"},
		Destination:        settings.Asset{Name: "destination", Namespace: "default"},
		Bucket:             settings.Asset{Name: "originals", Namespace: "default"},
		LastUpdateUsername: "jane",
		ConfirmPrune:       "token",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestRESTConfig(t *testing.T) {
	cases := map[string]struct {
		old, new string
		opts     []Option
		host     string
		qps      float32
		burst    int
	}{
		"default":        {host: "https://source.example:6443", qps: -1},
		"qps":            {old: "secretName: source-kubeconfig", new: "secretName: source-kubeconfig\n  qps: 20", host: "https://source.example:6443", qps: 20, burst: 40},
		"qps and burst":  {old: "secretName: source-kubeconfig", new: "secretName: source-kubeconfig\n  qps: 20\n  burst: 25", host: "https://source.example:6443", qps: 20, burst: 25},
		"key kubeconfig": {old: "kubeconfig.yaml: |", new: "kubeconfig: |", host: "https://source.example:6443", qps: -1},
		"key value":      {old: "kubeconfig.yaml: |", new: "value: |", host: "https://source.example:6443", qps: -1},
		"exec allowed":   {old: "user: {token: not-a-real-token}", new: "user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: sh, interactiveMode: Never}}", opts: []Option{AllowKubeconfigExec()}, host: "https://source.example:6443", qps: -1},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			set, err := Load([]string{Stdin}, append(tc.opts, WithStdin([]byte(strings.Replace(good(), tc.old, tc.new, 1))))...)
			if err != nil {
				t.Fatal(err)
			}
			cfg, err := set.RESTConfig(set.Source(set.LiveSynchronizations[0]))
			if err != nil {
				t.Fatal(err)
			}
			if cfg.Host != tc.host || cfg.QPS != tc.qps || cfg.Burst != tc.burst {
				t.Errorf("host %s, qps %v, burst %d; want %s, %v, %d", cfg.Host, cfg.QPS, cfg.Burst, tc.host, tc.qps, tc.burst)
			}
		})
	}
}

func TestKubeconfigFileIsRelativeToItsManifest(t *testing.T) {
	text := strings.Replace(good(), "secretName: source-kubeconfig", "kubeconfigFile: keys/source", 1)
	dir := write(t, map[string]string{"all.yaml": text})
	if err := os.Mkdir(filepath.Join(dir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "keys", "token"), "secret")
	put(t, filepath.Join(dir, "keys", "source"), strings.Replace(kubeconfig("https://file.example"), "token: not-a-real-token", "tokenFile: token", 1))
	set, err := Load([]string{filepath.Join(dir, "all.yaml")})
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := set.RESTConfig(set.Source(set.LiveSynchronizations[0]))
	if err != nil || cfg.Host != "https://file.example" || cfg.BearerTokenFile != filepath.Join(dir, "keys", "token") {
		t.Errorf("host %s, token file %s, %v", cfg.Host, cfg.BearerTokenFile, err)
	}
}

func TestTwoNamespacesMayShareClusters(t *testing.T) {
	other := strings.ReplaceAll(good(), "metadata:\n", "metadata:\n  namespace: other\n")
	if _, err := Load([]string{write(t, map[string]string{"a.yaml": good(), "b.yaml": other})}); err != nil {
		t.Error(err)
	}
}

// TestEveryPatternHasWords: an error about a pattern of ours says in words what
// was expected, whatever is added to the kinds.
func TestEveryPatternHasWords(t *testing.T) {
	all, err := schemas()
	if err != nil {
		t.Fatal(err)
	}
	var walk func(path string, s *schema.Structural)
	walk = func(path string, s *schema.Structural) {
		if s.ValueValidation != nil && s.ValueValidation.Pattern != "" && patternWords[s.ValueValidation.Pattern] == "" {
			t.Errorf("%s: no words for %s", path, s.ValueValidation.Pattern)
		}
		for name, p := range s.Properties {
			walk(path+"."+name, &p)
		}
		if s.Items != nil {
			walk(path+"[]", s.Items)
		}
		if s.AdditionalProperties != nil && s.AdditionalProperties.Structural != nil {
			walk(path+"[*]", s.AdditionalProperties.Structural)
		}
	}
	for kind, s := range all {
		spec := s.structural.Properties["spec"] // nobody writes a status
		walk(kind, &spec)
	}
	for pattern := range patternWords {
		if _, err := regexp.Compile(pattern); err != nil {
			t.Error(err)
		}
	}
}

// TestSyntaxErrorsNameTheLineOfTheFile, also in a later document.
func TestSyntaxErrorsNameTheLineOfTheFile(t *testing.T) {
	text := good() + "---\nkind: Secret\nmetadata: {name: [}\n"
	_, err := Load([]string{Stdin}, WithStdin([]byte(text)))
	var all Errors
	if !errors.As(err, &all) || !strings.Contains(all[0].Detail, "expected valid YAML") {
		t.Fatalf("want a syntax error, got %v", err)
	}
	// The YAML library counts lines from 0 in errors of its parser and from 1 in
	// those of its scanner.
	if want := strings.Count(text, "\n"); all[0].Line != want && all[0].Line != want-1 {
		t.Errorf("line %d; want %d: %v", all[0].Line, want, err)
	}
	text = good() + "---\nkind: Secret\nkind: Secret\n"
	_, err = Load([]string{Stdin}, WithStdin([]byte(text)))
	last := strings.Count(text, "\n")
	if want := fmt.Sprintf("<stdin>:%d: document 8: Secret: kind: expected each field once: it stands in line %d already", last, last-1); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v; want %q", err, want)
	}
}

// TestManyDocuments: a file of thousands of documents is read in linear time.
func TestManyDocuments(t *testing.T) {
	var b strings.Builder
	b.WriteString(good())
	for i := range 5000 {
		fmt.Fprintf(&b, "---\napiVersion: v1\nkind: Secret\nmetadata: {name: s-%d}\n", i)
	}
	set, err := Load([]string{Stdin}, WithStdin([]byte(b.String())))
	if err != nil || len(set.Secrets) != 5003 {
		t.Fatalf("%v", err)
	}
}
