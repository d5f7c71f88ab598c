package nodecopy

import (
	"fmt"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/afterimage-dr/afterimage/consumers/zookeeper"
)

// stands waits until a live copy says that exactly these nodes fail, and checks that it
// still does after it has tried them again.
func (e *env) stands(l *Live, want map[string]string) {
	e.Helper()
	failing := func() map[string]string {
		got := map[string]string{}
		for _, f := range l.Status().Standing.Failures {
			got[f.Path] = f.Reason
		}
		return got
	}
	e.eventually(15*time.Second, fmt.Sprintf("failures %v, at last %v", want, l.Status().Standing.Failures), func() bool {
		e.source.put("/test", time.Now().String()) // what is idle is told by what comes
		return fmt.Sprint(failing()) == fmt.Sprint(want)
	})
	for range 2 {
		before := l.Status().Standing.ComparedAt
		e.eventually(15*time.Second, "the destination is compared again", func() bool {
			e.source.put("/test", time.Now().String())
			return l.Status().Standing.ComparedAt.After(before)
		})
		if got := failing(); fmt.Sprint(got) != fmt.Sprint(want) {
			e.Fatalf("after another try: %v, want %v", got, want)
		}
	}
}

func quickly(o *LiveOptions) { o.Retry = 100 * time.Millisecond }

// What could not be read in the source, written or deleted at the destination stays
// counted for as long as that is so, however often the destination is compared; and
// what is below an unread node of the source stays at the destination.
func TestLiveStaysHonest(t *testing.T) {
	e := newEnv(t)
	for _, p := range []string{"/test", "/test/a", "/test/a/secret", "/test/deaf", "/test/gone"} {
		e.source.put(p, "v")
	}
	e.copied()
	e.source.restrict("/test/a/secret", digest("admin"))
	for _, p := range []string{"/test/hidden", "/test/unread"} { // the log never had them
		e.source.put(p, "v")
		e.source.restrict(p, digest("admin"))
	}
	e.destination.put("/test/hidden", "kept")
	e.destination.put("/test/a/secret/below", "kept")
	e.destination.put("/test/deaf", "old")
	e.destination.restrict("/test/deaf", zk.WorldACL(zk.PermRead|zk.PermAdmin))
	e.destination.put("/test/gone/only-here", "x")
	e.destination.restrict("/test/gone", zk.WorldACL(zk.PermRead|zk.PermAdmin))
	l := e.live(quickly)
	secret, deaf, undeleted := "/test/a/secret", "/test/deaf", "/test/gone/only-here"
	want := map[string]string{
		secret: zookeeper.ReasonRead, "/test/hidden": zookeeper.ReasonRead, "/test/unread": zookeeper.ReasonRead,
		deaf: zookeeper.ReasonDenied, undeleted: zookeeper.ReasonDenied,
	}
	e.stands(l, want)
	for _, p := range []string{"/test/hidden", secret + "/below"} {
		if v, _ := e.destination.get(p); v != "kept" {
			t.Errorf("%s, which was not read: %q", p, v)
		}
	}
	must(t, e.source.conn.Delete(e.source.chroot+"/test/unread", -1)) // which needs no right to read it
	e.source.put("/test/unread", "read")
	e.destination.restrict(deaf, zk.WorldACL(zk.PermAll))
	delete(want, deaf)
	delete(want, "/test/unread")
	e.stands(l, want)
	// What appears at the destination in between may be new: nothing is known of it
	// until the source is compared again.
	e.destination.put("/test/new", "x")
	e.destination.restrict("/test/gone", zk.WorldACL(zk.PermAll))
	e.eventually(15*time.Second, "what only the destination had is deleted", func() bool {
		e.source.put("/test", time.Now().String())
		_, there := e.destination.get(undeleted)
		return !there
	})
	if _, there := e.destination.get("/test/new"); !there {
		t.Error("a node was deleted of which the source was not asked")
	}
}

// A destination that is followed anew, while the source does not answer, is not taken
// for whole: what the source did not show is in the log.
func TestLiveHonestWithoutSource(t *testing.T) {
	e := newEnv(t)
	for _, p := range []string{"/test", "/test/a", "/test/a/secret", "/test/b"} {
		e.source.put(p, "v")
	}
	e.source.restrict("/test/a/secret", digest("admin"))
	_, err := e.copy()
	must(t, err)
	l := e.live(quickly, func(o *LiveOptions) { o.Source.Servers = []string{"127.0.0.1:1"} })
	e.eventually(15*time.Second, "the unread node is counted", func() bool {
		s := l.Status().Standing
		return s.Failed == 1 && s.Failures[0].Path == "/test/a/secret" && s.Failures[0].Reason == zookeeper.ReasonRead
	})
}

// More unread nodes than are named in the log are as little forgotten, and nothing is
// deleted while it is not known where they are.
func TestLiveHonestWithManyUnread(t *testing.T) {
	const many = 1100
	e := newEnv(t)
	e.source.put("/test", "v")
	var ops []any
	for i := range many {
		ops = append(ops, &zk.CreateRequest{Path: fmt.Sprintf("%s/test/secret-%d", e.source.chroot, i), Acl: digest("admin")})
	}
	_, err := e.source.conn.Multi(ops...)
	must(t, err)
	e.destination.put("/test", "v")
	e.destination.put("/test/only-here", "x")
	l := e.live(quickly)
	e.eventually(15*time.Second, "unread nodes are counted", func() bool { return l.Status().Standing.Failed >= 1000 })
	if n := len(l.Status().Standing.Failures); n != zookeeper.MaxFailures {
		t.Errorf("%d failures are named", n)
	}
	if _, there := e.destination.get("/test/only-here"); !there {
		t.Error("a node was deleted that may be among the unread")
	}
}

// Deletes that wait for a person are not forgotten when the destination is followed
// anew, and nothing is deleted for that.
func TestLiveStaysBlocked(t *testing.T) {
	e := newEnv(t)
	e.source.put("/test", "v")
	e.destination.put("/test", "v")
	for i := range 20 {
		e.destination.put(fmt.Sprintf("/test/mine-%d", i), "mine")
	}
	token := e.blocked().Token
	l := e.live(quickly, func(o *LiveOptions) { o.Source.Servers = []string{"127.0.0.1:1"} })
	e.eventually(15*time.Second, "the destination is compared", func() bool { return !l.Status().Standing.ComparedAt.IsZero() })
	s := l.Status()
	if s.Destination.Reason != ReasonPruneBlocked || s.Standing.Blocked == nil || s.Standing.Blocked.Token != token {
		t.Errorf("%+v, %+v, want it blocked with %s", s.Destination, s.Standing.Blocked, token)
	}
	if n := len(e.destination.dump("/test", false)); n != 21 {
		t.Errorf("%d nodes at the destination", n)
	}
}
