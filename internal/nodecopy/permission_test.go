package nodecopy

import (
	"testing"

	"github.com/go-zookeeper/zk"

	"github.com/afterimage-dr/afterimage/consumers/zookeeper"
)

func digest(user string) []zk.ACL { return zk.DigestACL(zk.PermAll, user, user) }

func (s *side) restrict(path string, acl []zk.ACL) {
	s.t.Helper()
	_, err := s.conn.SetACL(s.chroot+path, acl, -1)
	must(s.t, err)
}

// failures checks which nodes failed, and why.
func (e *env) failures(r *Result, want map[string]string) {
	e.Helper()
	if r == nil {
		e.Fatal("no result")
	}
	got := map[string]string{}
	for _, f := range r.Failures {
		got[f.Path] = f.Reason
		if f.Message == "" {
			e.Errorf("%s: no message", f.Path)
		}
	}
	for p, reason := range want {
		if got[p] != reason {
			e.Errorf("%s: reason %q, want %q", p, got[p], reason)
		}
	}
	if int(r.Failed) != len(want) || len(got) != len(want) {
		e.Errorf("failed %d: %+v; want %v", r.Failed, r.Failures, want)
	}
}

// Lists at the destination that forbid creation, change and reading are named, and
// stop nothing else, in the first copy as in those after it.
func TestDestinationForbids(t *testing.T) {
	e := newEnv(t)
	for _, p := range []string{"/test", "/test/a", "/test/a/b", "/test/a/b/c", "/test/a/b/d", "/test/deaf", "/test/blind", "/test/blind/x", "/test/z"} {
		e.source.put(p, "v")
	}
	e.destination.put("/test", "v")
	e.destination.put("/test/a", "v")
	e.destination.put("/test/deaf", "old")
	e.destination.put("/test/blind", "old")
	e.destination.put("/test/blind/x", "v")
	e.destination.restrict("/test/a", zk.WorldACL(zk.PermRead))
	e.destination.restrict("/test/deaf", zk.WorldACL(zk.PermRead))
	e.destination.restrict("/test/blind", digest("admin"))
	want := map[string]string{
		"/test/a/b": zookeeper.ReasonDenied, "/test/a/b/c": zookeeper.ReasonParentMissing, "/test/a/b/d": zookeeper.ReasonParentMissing,
		"/test/deaf": zookeeper.ReasonDenied, "/test/blind": zookeeper.ReasonDestinationRead,
	}
	for i := range 3 {
		r, err := e.copy()
		must(t, err)
		e.failures(r, want)
		if i > 0 && r.Created+r.Updated+r.Deleted != 0 {
			t.Errorf("copy %d did something: %+v", i, r)
		}
		e.equal("/test/a/b", "/test/deaf", "/test/blind")
	}
	e.source.put("/test/z", "changed")
	r, err := e.copy(fromLog)
	must(t, err)
	e.failures(r, want)
}
