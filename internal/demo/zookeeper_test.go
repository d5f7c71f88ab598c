package demo

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/afterimage-dr/afterimage/internal/manifest"
)

// The manifests of ZooKeeper must be such as afterimage takes, with the document's
// samples in them as they are.
func TestNodeManifestsAreValid(t *testing.T) {
	type names struct{ Runs, Plans, Live int }
	for name, c := range map[string]struct {
		samples []string
		own     string
		want    names
	}{
		"once":       {[]string{sampleOnce}, "", names{Runs: 1}},
		"by plan":    {[]string{samplePlan}, everyMinute, names{Plans: 2}},
		"live":       {nil, liveNodes, names{Live: 1}},
		"bring back": {nil, bringBack, names{Runs: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "manifests")
			own := map[string]string{}
			if c.own != "" {
				own["own.yaml"] = c.own
			}
			if err := writeNodeManifests(dir, "127.0.0.1:1", "127.0.0.1:2", c.samples, own); err != nil {
				t.Fatal(err)
			}
			set, err := manifest.Load([]string{dir})
			if err != nil {
				t.Fatal(err)
			}
			got := names{len(set.Synchronizations), len(set.SynchronizationPlans), len(set.LiveSynchronizations)}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What the demo says in the end is worth what its own comparison finds.
func TestNodeDifferences(t *testing.T) {
	source := map[string]znode{
		"/test": {[]byte("a"), "persistent"}, "/test/empty": {[]byte{}, "persistent"}, "/test/null": {nil, "persistent"},
		"/test/session": {[]byte("s"), "ephemeral"}, "/test/queue": {nil, "container"}, "/test/gone": {nil, "persistent"},
	}
	copied := map[string]znode{
		"/test": {[]byte("b"), "persistent"}, "/test/empty": {nil, "persistent"}, "/test/null": {nil, "persistent"},
		"/test/session": {[]byte("s"), "persistent"}, "/test/queue": {nil, "persistent"}, "/test/more": {nil, "persistent"},
	}
	want := []string{
		"/test/empty: other data, 0 bytes where the source has 0",
		"/test/gone: missing at the destination",
		"/test/more: only at the destination",
		"/test/queue: persistent, and not container",
		"/test: other data, 1 bytes where the source has 1",
	}
	if diff := cmp.Diff(want, differences(source, copied)); diff != "" {
		t.Error(diff)
	}
}

// Owners as servers give them.
func TestLifeOf(t *testing.T) {
	for owner, want := range map[int64]string{0: "persistent", 0x100a1b2c3d40001: "ephemeral", -1 << 63: "container", -1<<56 | 3600000: "TTL"} {
		if got := lifeOf(owner); got != want {
			t.Errorf("%#x is %s, want %s", owner, got, want)
		}
	}
}
