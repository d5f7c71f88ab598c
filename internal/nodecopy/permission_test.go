package nodecopy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-zookeeper/zk"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/consumers/zookeeper"
	"github.com/afterimage-dr/afterimage/internal/ensemble"
	"github.com/afterimage-dr/afterimage/internal/testenv"
	"github.com/afterimage-dr/afterimage/topology"
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

// Nodes that the source does not show are named, with nothing concluded about them and
// what is below; the rest is copied.
func TestSourceForbids(t *testing.T) {
	e := newEnv(t)
	for _, p := range []string{"/test", "/test/a", "/test/a/b", "/test/a/b/c", "/test/z"} {
		e.source.put(p, "v")
	}
	e.copied()
	e.source.put("/test/a/b/c", "changed")
	e.source.put("/test/z", "changed")
	e.source.put("/test/new", "v")
	e.source.restrict("/test/a/b", digest("admin"))
	for _, acl := range []bool{false, true} {
		r, err := e.copy(func(o *Options) { o.Rules.CopyACL = acl })
		must(t, err)
		e.failures(r, map[string]string{"/test/a/b": zookeeper.ReasonRead})
		e.equal("/test/a/b")
		if v, _ := e.destination.get("/test/a/b/c"); v != "v" || r.Deleted != 0 {
			t.Errorf("below: %q, %+v", v, r)
		}
	}
	// Who signs in as its owner sees it.
	e.copied(signedIn("admin"))
	must(t, e.source.conn.AddAuth("digest", []byte("admin:admin")))
	e.equal()
	r, err := e.copy(signedIn("admin"), func(o *Options) { o.Source.Password = "wr0ng-word" })
	must(t, err)
	e.failures(r, map[string]string{"/test/a/b": zookeeper.ReasonRead})
	if strings.Contains(fmt.Sprint(r), "wr0ng-word") {
		t.Error("the password was told")
	}
	// The root itself: nothing is copied, nothing deleted.
	e.source.restrict("/test", digest("other"))
	before := e.destination.dump("/test", false)
	r, err = e.copy()
	must(t, err)
	e.failures(r, map[string]string{"/test": zookeeper.ReasonRead})
	if d := diff(before, e.destination.dump("/test", false), nil); len(d) > 0 {
		t.Error(d)
	}
}

// signedIn has both sides signed in as a user whose password is his name.
func signedIn(user string) func(*Options) {
	return func(o *Options) {
		for _, s := range []*ensemble.Options{&o.Source, &o.Destination} {
			s.Username, s.Password = user, user
		}
	}
}

func copyACL(o *Options) { o.Rules.CopyACL = true }

// aclsEqual compares both trees with their lists, as an administrator sees them.
func (e *env) aclsEqual(except ...string) {
	e.Helper()
	if d := diff(e.source.dump("/test", true), e.destination.dump("/test", true), except); len(d) > 0 {
		e.Fatalf("%d differences, among them: %s", len(d), strings.Join(d[:min(10, len(d))], "\n"))
	}
}

// Lists of every usual scheme are copied, those that would keep us out after what is
// below their nodes; and so is a change of a list alone.
func TestACLs(t *testing.T) {
	e := newEnv(t)
	for _, user := range []string{"admin", "one"} {
		must(t, e.source.conn.AddAuth("digest", []byte(user+":"+user)))
		must(t, e.destination.conn.AddAuth("digest", []byte(user+":"+user)))
	}
	lists := map[string][]zk.ACL{
		"/test":              zk.WorldACL(zk.PermRead),
		"/test/world":        zk.WorldACL(zk.PermAll),
		"/test/digest":       digest("one"),
		"/test/digest/below": zk.DigestACL(zk.PermRead|zk.PermAdmin, "one", "one"),
		"/test/auth":         zk.AuthACL(zk.PermAll),
		"/test/ip":           {{Perms: zk.PermAll, Scheme: "ip", ID: "127.0.0.1/8"}, {Perms: zk.PermAll, Scheme: "ip", ID: "10.0.0.1"}},
		"/test/mixed":        append(append(zk.WorldACL(zk.PermRead), digest("admin")...), digest("one")...),
	}
	for _, p := range []string{"/test", "/test/world", "/test/digest", "/test/digest/below", "/test/digest/below/x", "/test/auth", "/test/auth/y", "/test/ip", "/test/mixed"} {
		e.source.put(p, "v")
	}
	for p, acl := range lists {
		e.source.restrict(p, acl)
	}
	r := e.copied(copyACL, signedIn("one"))
	e.aclsEqual()
	if r.Created != 9 || r.Updated != 0 {
		t.Errorf("%+v", r)
	}
	if r := e.copied(copyACL, signedIn("one")); r.Created+r.Updated+r.Deleted != 0 || r.Appended != 0 {
		t.Errorf("again: %+v", r)
	}
	e.source.restrict("/test/world", digest("one"))
	e.destination.restrict("/test/ip", zk.WorldACL(zk.PermAll))
	if r := e.copied(copyACL, signedIn("one")); r.Updated != 2 || r.Created+r.Deleted != 0 {
		t.Errorf("a change of lists: %+v", r)
	}
	e.aclsEqual()
	// Without copyACL the lists at the destination stay as they are.
	e.source.restrict("/test/world", zk.WorldACL(zk.PermAll))
	if r := e.copied(signedIn("one")); r.Updated != 0 {
		t.Errorf("without copyACL: %+v", r)
	}
	_, err := e.source.conn.Set(e.source.chroot+"/test/world", []byte("changed"), -1)
	must(t, err)
	e.copied(signedIn("one"))
	if list, _, err := e.destination.conn.GetACL(e.destination.chroot + "/test/world"); err != nil || len(list) != 1 || list[0].Scheme != "digest" {
		t.Errorf("%v, %v", list, err)
	}
	e.copied(copyACL, signedIn("one"))
	e.aclsEqual()
}

// Lists of which the destination knows no scheme are named; their nodes are copied
// with all that is below them, for their creator alone where he is signed in.
func TestACLSchemeUnknown(t *testing.T) {
	from := testenv.StartZooKeeper(t, testenv.WithZooKeeperSetting("authProvider.1", "org.apache.zookeeper.server.auth.SASLAuthenticationProvider"))
	e := newEnv(t)
	e = newEnvOf(t, connect(t, []string{from.Addr()}, "/here"), e.destination)
	for _, s := range []*side{e.source, e.destination} {
		must(t, s.conn.AddAuth("digest", []byte("one:one")))
	}
	for _, p := range []string{"/test", "/test/a", "/test/a/b", "/test/c", "/test/c/d"} {
		e.source.put(p, "v")
	}
	sasl := zk.ACL{Perms: zk.PermAll, Scheme: "sasl", ID: "jane"}
	e.source.restrict("/test/a", append(digest("one"), sasl))
	e.source.restrict("/test/c", append(zk.WorldACL(zk.PermRead), sasl))
	for range 2 {
		r, err := e.copy(copyACL, signedIn("one"))
		must(t, err)
		e.failures(r, map[string]string{"/test/a": zookeeper.ReasonACL, "/test/c": zookeeper.ReasonACL})
		e.equal()
		e.aclsEqual("/test/a", "/test/c")
		for _, p := range []string{"/test/a", "/test/c"} {
			if list, _, err := e.destination.conn.GetACL(e.destination.chroot + p); err != nil || len(list) != 1 || list[0].Scheme != "digest" {
				t.Errorf("%s: %v, %v", p, list, err)
			}
		}
	}
}

// A list that the servers show without its passwords is not copied as it is shown: it
// would lock its owner out.
func TestACLHidden(t *testing.T) {
	e := newEnv(t)
	for _, p := range []string{"/test", "/test/a", "/test/a/b", "/test/c", "/test/d"} {
		e.source.put(p, "v")
	}
	e.source.restrict("/test/a", append(zk.WorldACL(zk.PermRead), digest("admin")...))
	e.destination.put("/test", "v")
	e.destination.put("/test/c", "v")
	e.destination.restrict("/test/c", append(zk.WorldACL(zk.PermRead), digest("admin")...))
	for range 2 {
		r, err := e.copy(copyACL)
		must(t, err)
		e.failures(r, map[string]string{"/test/a": zookeeper.ReasonRead, "/test/c": zookeeper.ReasonACL})
		if !strings.Contains(r.Failures[0].Message, "ADMIN") {
			t.Errorf("%+v", r.Failures)
		}
		e.equal("/test/a")
		e.aclsEqual("/test/a", "/test/c")
		if _, there := e.destination.get("/test/a"); there {
			t.Error("a node was copied whose list is not known")
		}
	}
	e.copied()
	e.equal()
}

// Of several lists that the log has of a node the last one is set, also where a run that
// was killed had logged one and not set it.
func TestLastListCounts(t *testing.T) {
	e := newEnv(t)
	must(t, e.source.conn.AddAuth("digest", []byte("one:one")))
	must(t, e.destination.conn.AddAuth("digest", []byte("one:one")))
	for _, p := range []string{"/test", "/test/a", "/test/b"} {
		e.source.put(p, "v")
	}
	e.source.restrict("/test/a", digest("one"))
	e.copied(copyACL, signedIn("one"))
	b, err := e.log.Bounds(t.Context(), e.o.Topics.Changes, 0)
	must(t, err)
	w, err := e.log.Writer()
	must(t, err)
	defer w.Close()
	must(t, e.log.Read(t.Context(), e.o.Topics.Changes, 0, b.Start, b.End, func(k *kgo.Record) error {
		r, err := topology.Decode(k)
		if path, ok := topology.NodePath(r.Key); err != nil || !ok || path != "/test/a" {
			return err
		}
		r.Node.ACL = ensemble.Open()
		return w.AppendSync(t.Context(), r.Encode(e.o.Topics.Changes, 0))
	}))
	if r := e.copied(copyACL, signedIn("one")); r.Appended != 1 {
		t.Errorf("%+v, want the source's list appended", r)
	}
	e.aclsEqual()
}
