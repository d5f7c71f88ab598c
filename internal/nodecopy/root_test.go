package nodecopy

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-zookeeper/zk"

	"github.com/afterimage-dr/afterimage/consumers/zookeeper"
	"github.com/afterimage-dr/afterimage/internal/testenv"
)

// A root that the destination lacks is made where that is asked for, with what is
// above it, and else an error that says so.
func TestRootOfDestination(t *testing.T) {
	e := newEnv(t)
	deep := func(o *Options) { o.Rules.Root = "/a/b/c" }
	for _, p := range []string{"/a", "/a/b", "/a/b/c", "/a/b/c/d", "/a/other"} {
		e.source.put(p, "v")
	}
	_, err := e.copy(deep, func(o *Options) { o.CreateRoot = false })
	var missing *zookeeper.RootMissingError
	if !errors.As(err, &missing) || !strings.Contains(err.Error(), "createRootPath") {
		t.Errorf("copy: %v", err)
	}
	if _, there := e.destination.get("/a"); there {
		t.Error("something was made")
	}
	e.destination.put("/a", "own")
	e.copied(deep)
	for p, want := range map[string]string{"/a": "own", "/a/b": "", "/a/b/c": "v", "/a/b/c/d": "v"} {
		if got, there := e.destination.get(p); !there || got != want {
			t.Errorf("%s: %q, %t", p, got, there)
		}
	}
	if _, there := e.destination.get("/a/other"); there {
		t.Error("a node outside of the root was copied")
	}
	e.copied(deep, func(o *Options) { o.CreateRoot = false })
	// What is above the root may not be made: that is said.
	e.destination.remove("/a/b")
	e.destination.restrict("/a", zk.WorldACL(zk.PermRead))
	if _, err := e.copy(deep); err == nil || !strings.Contains(err.Error(), "/a/b") || !strings.Contains(err.Error(), "not permitted") {
		t.Errorf("copy: %v", err)
	}
}

// The whole of an ensemble: what ZooKeeper keeps for itself, quotas among it, stays as
// it is on both sides.
func TestWholeEnsemble(t *testing.T) {
	from, to := testenv.StartZooKeeper(t), testenv.StartZooKeeper(t)
	e := newEnvOf(t, connect(t, []string{from.Addr()}, ""), connect(t, []string{to.Addr()}, ""))
	whole := func(o *Options) { o.Rules.Root = "/" }
	for _, p := range []string{"/a", "/a/b", "/zookeeper2", "/a/zookeeper"} {
		e.source.put(p, "v")
	}
	_, err := e.source.conn.Set("/", []byte("top"), -1)
	must(t, err)
	for s, quota := range map[*side]string{e.source: "/a", e.destination: "/own"} {
		s.put("/zookeeper/quota"+quota, "")
		s.put("/zookeeper/quota"+quota+"/zookeeper_limits", "count=100,bytes=-1")
		s.put("/zookeeper/quota"+quota+"/zookeeper_stats", "count=1,bytes=0")
	}
	e.destination.put("/own", "")
	before := e.destination.dump("/zookeeper", true)
	e.copied(whole)
	counts := []string{"/zookeeper/quota/own/zookeeper_stats"} // the server's own
	if d := diff(before, e.destination.dump("/zookeeper", true), counts); len(d) > 0 {
		t.Errorf("/zookeeper: %s", d)
	}
	if d := diff(e.source.dump("/", false), e.destination.dump("/", false), []string{"/zookeeper"}); len(d) > 0 {
		t.Error(d)
	}
	if r := e.copied(whole); r.Created+r.Updated+r.Deleted != 0 {
		t.Errorf("again: %+v", r)
	}
}
