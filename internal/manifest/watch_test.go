package manifest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// watched runs Watch over paths and gives what it reports.
type watched struct {
	t       *testing.T
	reports chan report
}

type report struct {
	set *Set
	err error
}

func watch(t *testing.T, paths ...string) *watched {
	t.Helper()
	set, err := Load(paths)
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{t: t, reports: make(chan report, 100)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		Watch(ctx, paths, set, func(s *Set, err error) { w.reports <- report{s, err} })
	}()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

func (w *watched) next() report {
	w.t.Helper()
	select {
	case r := <-w.reports:
		return r
	case <-time.After(15 * time.Second):
		w.t.Fatal("nothing reported")
		return report{}
	}
}

// suspended waits for a good set and checks its suspend.
func (w *watched) suspended(want bool) {
	w.t.Helper()
	r := w.next()
	if r.err != nil {
		w.t.Fatalf("want a good set, got: %v", r.err)
	}
	if got := r.set.LiveSynchronizations[0].Spec.Suspend; got != want {
		w.t.Fatalf("suspend = %v; want %v", got, want)
	}
}

func (w *watched) refused(want string) {
	w.t.Helper()
	r := w.next()
	if r.err == nil || r.set != nil || !strings.Contains(r.err.Error(), want) {
		w.t.Fatalf("want an error with %q, got: %v", want, r.err)
	}
}

// quiet checks that nothing is reported over more than one look.
func (w *watched) quiet() {
	w.t.Helper()
	select {
	case r := <-w.reports:
		w.t.Fatalf("want nothing reported, got: %v %v", r.set, r.err)
	case <-time.After(pollPeriod + 2*debounce):
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

var suspended = strings.Replace(good(), "suspend: false", "suspend: true", 1)

func TestWatchFollowsGoodChangesAndKeepsTheLastGoodSet(t *testing.T) {
	dir := write(t, map[string]string{"all.yaml": good()})
	file := filepath.Join(dir, "all.yaml")
	w := watch(t, dir)

	put(t, file, suspended)
	w.suspended(true)

	put(t, file, strings.Replace(good(), "sourceName: source", "sourcename: source", 1)) // invalid
	w.refused("did you mean sourceName?")
	put(t, file, good()[:len(good())/2]) // half-written
	w.refused(file)
	put(t, file, "") // empty
	w.refused("the file is empty")
	if err := os.Remove(file); err != nil { // vanished
		t.Fatal(err)
	}
	w.refused("expected at least one")

	put(t, file, suspended) // as it was: status can clear the error
	w.suspended(true)
	put(t, file, "# a comment\n"+suspended) // says nothing new
	w.quiet()
}

func TestWatchKeepsALiveSynchronizationThatIsTakenAway(t *testing.T) {
	dir := write(t, map[string]string{"all.yaml": good(), "z.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: z}\n"})
	w := watch(t, dir)
	put(t, filepath.Join(dir, "all.yaml"), clusterSecrets()+"---\n"+second("other", "a", "b", "")+"---\n"+sample(t, "00-clusters.yaml"))
	w.refused("Not found")
	put(t, filepath.Join(dir, "all.yaml"), clusterSecrets()+"---\n"+second("other", "source", "destination", "")+"---\n"+sample(t, "00-clusters.yaml"))
	w.refused("LiveSynchronization default/standby: expected it to stay among the manifests")
}

func TestWatchSeesAReplacedFile(t *testing.T) {
	dir := write(t, map[string]string{"all.yaml": good()})
	w := watch(t, filepath.Join(dir, "all.yaml"))
	for i, text := range []string{suspended, good(), suspended} { // as an editor saves: a new file renamed over the old
		put(t, filepath.Join(dir, ".all.yaml.swp"), text)
		if err := os.Rename(filepath.Join(dir, ".all.yaml.swp"), filepath.Join(dir, "all.yaml")); err != nil {
			t.Fatal(err)
		}
		w.suspended(i%2 == 0)
	}
}

func TestWatchSeesASwappedSymlink(t *testing.T) {
	// A ConfigMap volume: all.yaml -> ..data/all.yaml, ..data -> ..1; an update
	// writes ..2 and swaps ..data.
	dir := t.TempDir()
	version := func(name, text string) {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(dir, name, "all.yaml"), text)
		if err := os.Symlink(name, filepath.Join(dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version("..1", good())
	if err := os.Symlink(filepath.Join("..data", "all.yaml"), filepath.Join(dir, "all.yaml")); err != nil {
		t.Fatal(err)
	}
	w := watch(t, dir)
	version("..2", suspended)
	w.suspended(true)
	if err := os.RemoveAll(filepath.Join(dir, "..1")); err != nil {
		t.Fatal(err)
	}
	version("..3", good())
	w.suspended(false)
}

func TestWatchSeesAKubeconfigFile(t *testing.T) {
	text := strings.Replace(good(), "secretName: source-kubeconfig", "kubeconfigFile: source.kubeconfig", 1)
	dir := write(t, map[string]string{"all.yaml": text, "source.kubeconfig": kubeconfig("https://one.example")})
	w := watch(t, dir)
	put(t, filepath.Join(dir, "source.kubeconfig"), kubeconfig("https://two.example"))
	r := w.next()
	if r.err != nil {
		t.Fatal(r.err)
	}
	cfg, err := r.set.RESTConfig(r.set.Source(r.set.LiveSynchronizations[0]))
	if err != nil || cfg.Host != "https://two.example" {
		t.Errorf("host = %v, %v; want https://two.example", cfg, err)
	}
	put(t, filepath.Join(dir, "source.kubeconfig"), "{")
	w.refused("expected a kubeconfig")
	put(t, filepath.Join(dir, "source.kubeconfig"), kubeconfig("https://two.example"))
	w.suspended(false)
}

func TestWatchSeesAChangeMadeBeforeItBegan(t *testing.T) {
	file := filepath.Join(write(t, map[string]string{"all.yaml": good()}), "all.yaml")
	set, err := Load([]string{file})
	if err != nil {
		t.Fatal(err)
	}
	put(t, file, suspended)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	got := false
	Watch(ctx, []string{file}, set, func(s *Set, err error) {
		got = err == nil && s.LiveSynchronizations[0].Spec.Suspend
		cancel()
	})
	if !got {
		t.Error("a change between Load and Watch was lost")
	}
}

// TestWatchRefusesAChangedRecovery: it runs once. It may be taken away, and
// others may come.
func TestWatchRefusesAChangedRecovery(t *testing.T) {
	dir := write(t, map[string]string{"all.yaml": good(), "r.yaml": recovery(ofStandby)})
	w := watch(t, dir)
	file := filepath.Join(dir, "r.yaml")
	put(t, file, recovery(ofStandby+"  dryRun: true\n"))
	w.refused("Recovery default/recover: spec: cannot be changed")
	put(t, file, recovery(ofStandby)+"---\n"+strings.Replace(recovery(ofStandby+"  dryRun: true\n"), "name: recover", "name: another", 1))
	if r := w.next(); r.err != nil || len(r.set.Recoveries) != 2 {
		t.Fatalf("want a good set with two Recoveries, got: %v", r.err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if r := w.next(); r.err != nil || len(r.set.Recoveries) != 0 {
		t.Fatalf("want a good set without Recoveries, got: %v", r.err)
	}
}

// TestWatchRefusesAChangedSynchronization: it runs once too. A plan may change.
func TestWatchRefusesAChangedSynchronization(t *testing.T) {
	dir := write(t, map[string]string{"all.yaml": goodNodes})
	w := watch(t, dir)
	file := filepath.Join(dir, "all.yaml")
	put(t, file, nodes("backoffLimit: 2", "backoffLimit: 1"))
	w.refused("Synchronization default/once: spec: cannot be changed, because a synchronization runs once")
	put(t, file, nodes("15 * * * *", "30 * * * *"))
	if r := w.next(); r.err != nil || r.set.SynchronizationPlans[0].Spec.Schedule != "30 * * * *" {
		t.Fatalf("want a good set with the new schedule, got: %v", r.err)
	}
}
