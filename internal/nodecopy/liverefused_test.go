package nodecopy

import (
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
)

// A node that cannot be read is counted soon after it was made, and copied soon after it
// can be read. What comes below a node that is not taken is not copied without it.
func TestLiveRefusedLater(t *testing.T) {
	e := newEnv(t)
	must(t, e.source.conn.AddAuth("digest", []byte("admin:admin")))
	for _, p := range []string{"/test", "/test/open", "/test/hidden"} {
		e.source.put(p, "v")
	}
	// Everybody may read it and make children, but sees no passwords.
	e.source.restrict("/test/hidden", append(digest("admin"), zk.WorldACL(zk.PermRead|zk.PermCreate)...))
	l := e.live(func(o *LiveOptions) { o.Rules.CopyACL = true })
	failures := func(want ...string) func() bool {
		return func() bool {
			got := l.Status().Standing.Failures
			if len(got) != len(want) || l.Status().Standing.Failed != int64(len(want)) {
				return false
			}
			for i, f := range got {
				if f.Path != want[i] {
					return false
				}
			}
			return l.Status().Source.Ready
		}
	}
	e.eventually(20*time.Second, "one node is refused", failures("/test/hidden"))
	e.source.put("/test/hidden/below", "x")
	e.source.put("/test/open/below", "x")
	e.eventually(10*time.Second, "the other one's child", func() bool { _, ok := e.destination.get("/test/open/below"); return ok })
	time.Sleep(time.Second)
	if _, ok := e.destination.get("/test/hidden/below"); ok || !failures("/test/hidden")() {
		t.Errorf("a child of a node that is not taken: copied %t, failures %+v", ok, l.Status().Standing.Failures)
	}
	_, err := e.source.conn.Create(e.source.chroot+"/test/locked", nil, 0, digest("admin"))
	must(t, err)
	e.eventually(30*time.Second, "another node is refused", failures("/test/hidden", "/test/locked"))
	e.source.restrict("/test/hidden", zk.WorldACL(zk.PermAll))
	e.source.put("/test/hidden", "shown") // no watch tells of a list
	e.eventually(30*time.Second, "it is copied with what is below it", func() bool {
		_, ok := e.destination.get("/test/hidden/below")
		return ok && failures("/test/locked")()
	})
}
