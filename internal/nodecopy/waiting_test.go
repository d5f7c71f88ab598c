package nodecopy

import (
	"testing"

	"github.com/go-zookeeper/zk"

	"github.com/afterimage-dr/afterimage/consumers/zookeeper"
)

// A node in the log whose parent is nowhere ends as a failure, beside nodes that are
// deleted or fail again and again: passes over the log end.
func TestParentNowhere(t *testing.T) {
	e := newEnv(t)
	for _, p := range []string{"/test", "/test/p", "/test/p/c", "/test/p/c/d", "/test/gone"} {
		e.source.put(p, "v")
	}
	e.copied()
	// The child stands in the log for ever: it is excluded when its parent ends.
	e.source.remove("/test/p")
	e.source.remove("/test/gone")
	r := e.copied(exclude("^/test/p/c$"))
	if r.Skipped != 1 {
		t.Errorf("skipped %d, want the parent of the excluded node", r.Skipped)
	}
	if _, there := e.destination.get("/test/p/c/d"); !there {
		t.Error("an excluded node was deleted")
	}
	e.destination.remove("/test/p")
	got, err := e.copy(fromLog)
	must(t, err)
	e.failures(got, map[string]string{"/test/p/c": zookeeper.ReasonParentMissing, "/test/p/c/d": zookeeper.ReasonParentMissing})
	// With the source, the log learns that they are gone, and nothing has failed.
	e.copied()
	e.equal()
}

// What could not be written in one copy and is not in the source any more is no
// failure of the next.
func TestFailureMended(t *testing.T) {
	e := newEnv(t)
	e.source.put("/test", "")
	e.source.put("/test/a", "")
	e.destination.put("/test", "")
	e.destination.conn.Create(e.destination.chroot+"/test/a", []byte("x"), 1, zk.WorldACL(zk.PermAll))
	r, err := e.copy()
	must(t, err)
	e.failures(r, map[string]string{"/test/a": zookeeper.ReasonMode})
	e.source.remove("/test/a")
	e.copied()
	e.equal()
}
