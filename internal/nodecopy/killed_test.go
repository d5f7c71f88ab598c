package nodecopy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/afterimage-dr/afterimage/internal/ensemble"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/internal/testenv"
	"github.com/afterimage-dr/afterimage/topology"
)

// killedChild names the log folder, and what else the child process has to know.
const killedChild = "NODECOPY_KILLED_CHILD"

// TestKilledChild is the process that TestKilled kills.
func TestKilledChild(t *testing.T) {
	told := strings.Split(os.Getenv(killedChild), ",")
	if len(told) != 3 {
		t.Skip("for TestKilled")
	}
	broker, err := stream.StartEmbedded(told[0])
	must(t, err)
	log, err := stream.NewClient(broker.Dial(), "child")
	must(t, err)
	_, err = Run(context.Background(), optionsOf(log, told[1], told[2], "child"))
	must(t, err)
	log.Close()
	must(t, broker.Close())
}

func optionsOf(log *stream.Client, source, destination, incarnation string) Options {
	return Options{
		Log: log, Embedded: true, Topics: topology.NodeTopics("default", "source", "destination", "/test"), InstanceID: "test",
		Source: ensemble.Options{Servers: []string{source}}, Destination: ensemble.Options{Servers: []string{destination}},
		CreateRoot: true, Patience: 20 * time.Second, Rules: topology.NodeRules{Root: "/test"}, Incarnation: incarnation, Session: 2 * time.Second,
	}
}

// A process that is killed at any moment is followed by one that ends what it began.
func TestKilled(t *testing.T) {
	from := testenv.StartZooKeeper(t)
	to := testenv.StartZooKeeper(t, testenv.WithZooKeeperProxy())
	to.Proxy.Bandwidth(1_000_000)
	source, destination := connect(t, []string{from.Addr()}, ""), connect(t, []string{to.ZooKeeper.Addr()}, "")
	e := &env{T: t, source: source, destination: destination}
	r := rand.New(rand.NewPCG(21, 22))
	paths := source.grow("/test", 4000, 300, r)
	dir := filepath.Join(t.TempDir(), "log")
	kills := 0
	for i := range 4 {
		child := exec.Command(os.Args[0], "-test.run=^TestKilledChild$") //nolint:gosec // this test itself
		child.Env = append(os.Environ(), killedChild+"="+strings.Join([]string{dir, from.Addr(), to.Addr()}, ","))
		var said strings.Builder
		child.Stdout, child.Stderr = &said, &said
		must(t, child.Start())
		time.Sleep(time.Duration(300+r.IntN(1200)) * time.Millisecond)
		must(t, child.Process.Kill())
		if child.Wait() != nil {
			kills++
		}
		if strings.Contains(said.String(), "FAIL") {
			t.Errorf("child %d: %s", i, said.String())
		}
		for _, p := range paths[1:] {
			if r.IntN(10) == 0 {
				source.put(p, fmt.Sprint("changed", i))
			}
		}
	}
	if kills < 2 {
		t.Errorf("%d were killed, want most", kills)
	}
	to.Proxy.Bandwidth(0)
	broker, err := stream.StartEmbedded(dir)
	must(t, err)
	t.Cleanup(func() { must(t, broker.Close()) })
	log, err := stream.NewClient(broker.Dial(), "test")
	must(t, err)
	t.Cleanup(log.Close)
	result, err := Run(t.Context(), optionsOf(log, from.Addr(), to.Addr(), "last"))
	must(t, err)
	if !result.Complete() || result.Deleted != 0 {
		t.Errorf("%+v", result)
	}
	e.equal()
	// What the log holds by now is the source: it is equal without it as well.
	destination.remove(paths[5])
	o := optionsOf(log, "127.0.0.1:1", to.Addr(), "from the log")
	o.FromLog = true
	result, err = Run(t.Context(), o)
	must(t, err)
	if !result.Complete() {
		t.Errorf("%+v", result)
	}
	e.equal()
}
