package nodecopy

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/afterimage-dr/afterimage/internal/ensemble"
	"github.com/afterimage-dr/afterimage/internal/testenv"
)

func (s *side) container(path string) {
	s.t.Helper()
	_, err := s.conn.CreateContainer(s.chroot+path, []byte("c"), zk.FlagContainer, zk.WorldACL(zk.PermAll))
	must(s.t, err)
}

func (s *side) ttl(path string, ttl time.Duration) {
	s.t.Helper()
	_, err := s.conn.CreateTTL(s.chroot+path, []byte("t"), zk.FlagTTL, zk.WorldACL(zk.PermAll), ttl)
	must(s.t, err)
}

func (s *side) mode(path string) string {
	s.t.Helper()
	_, st, err := s.conn.Exists(s.chroot + path)
	must(s.t, err)
	if st.Czxid == 0 {
		return "missing"
	}
	return string(ensemble.ModeOf(st))
}

func (e *env) modes(want map[string]string) {
	e.Helper()
	for p, m := range want {
		if got := e.destination.mode(p); got != m {
			e.Errorf("%s is %q at the destination, want %q", p, got, m)
		}
	}
}

func ignoring(o *Options) { o.Rules.IgnoreEphemeral = true }

// Ephemeral nodes are copied as persistent ones, end with them, and are left out, on
// either side, where that is asked for.
func TestEphemerals(t *testing.T) {
	e := newEnv(t)
	e.source.put("/test", "")
	e.source.put("/test/e", "v", zk.FlagEphemeral)
	e.source.put("/test/f", "v", zk.FlagEphemeral)
	e.copied()
	e.equal()
	e.modes(map[string]string{"/test/e": "", "/test/f": ""})
	e.source.remove("/test/f")
	e.source.put("/test/later", "v", zk.FlagEphemeral)
	e.copied()
	e.equal()
	// From here on they are ignored: the copies of earlier go.
	e.destination.put("/test/theirs", "v", zk.FlagEphemeral)
	e.destination.put("/test/parent", "")
	e.destination.put("/test/parent/theirs", "v", zk.FlagEphemeral)
	r := e.copied(ignoring)
	if r.Deleted != 2 || r.Skipped == 0 {
		t.Errorf("%+v", r)
	}
	e.modes(map[string]string{"/test/e": "missing", "/test/later": "missing", "/test/theirs": "ephemeral", "/test/parent/theirs": "ephemeral"})
	if r := e.copied(ignoring); r.Created+r.Updated+r.Deleted != 0 {
		t.Errorf("again: %+v", r)
	}
	if r := e.copied(ignoring, fromLog); r.Created+r.Updated+r.Deleted != 0 {
		t.Errorf("from the log: %+v", r)
	}
	// And back.
	e.copied()
	e.equal()
	e.modes(map[string]string{"/test/e": "", "/test/theirs": "missing", "/test/parent": "missing"})
}

// An ephemeral node of the source that becomes persistent, and back.
func TestEphemeralBecomesPersistent(t *testing.T) {
	e := newEnv(t)
	e.source.put("/test", "")
	e.source.put("/test/a", "v", zk.FlagEphemeral)
	e.copied(ignoring)
	e.modes(map[string]string{"/test/a": "missing"})
	e.source.remove("/test/a")
	e.source.put("/test/a", "v")
	e.source.put("/test/a/b", "v")
	e.copied(ignoring)
	e.equal()
	e.source.remove("/test/a")
	e.source.put("/test/a", "v", zk.FlagEphemeral)
	e.copied(ignoring)
	e.modes(map[string]string{"/test/a": "missing"})
}

// Servers tell no client that a node is a container or has a TTL: such nodes are copied
// as persistent ones, are no ephemerals, and end with those of the source. So it is
// whether the destination knows TTL nodes or not.
func TestContainersAndTTL(t *testing.T) {
	without := testenv.StartZooKeeper(t, testenv.WithoutTTLNodes())
	for name, option := range map[string]func(e *env) *env{
		"with":    func(e *env) *env { return e },
		"without": func(e *env) *env { return newEnvOf(e.T, e.source, connect(e.T, []string{without.Addr()}, "")) },
	} {
		t.Run(name, func(t *testing.T) {
			e := option(newEnv(t))
			e.source.put("/test", "")
			e.source.container("/test/c")
			e.source.put("/test/c/child", "")
			e.source.ttl("/test/t", time.Hour)
			e.source.ttl("/test/short", time.Second)
			for _, p := range []string{"/test/c", "/test/t"} {
				if owner := e.source.stat(p).EphemeralOwner; owner != 0 {
					t.Errorf("%s has the owner %#x: what is said of such nodes is not so", p, owner)
				}
			}
			e.copied(ignoring)
			e.equal()
			if r := e.copied(); r.Created+r.Updated+r.Deleted != 0 {
				t.Errorf("again: %+v", r)
			}
			// At the destination they are persistent: a container would go, and one does.
			e.destination.container("/container")
			for _, p := range []string{"/container", "/test/c"} {
				e.destination.put(p+"/child", "")
				e.destination.remove(p + "/child")
			}
			e.eventually(20*time.Second, "an empty container goes", func() bool { return e.destination.mode("/container") == "missing" })
			e.modes(map[string]string{"/test/c": "", "/test/t": ""})
			e.eventually(20*time.Second, "a TTL node of the source ends", func() bool { return e.source.mode("/test/short") == "missing" })
			e.destination.container("/test/only-here")
			e.source.remove("/test/c/child")
			e.source.remove("/test/t")
			e.copied(ignoring)
			e.equal()
		})
	}
}

// A member that lacks extendedTypesEnabled, where others have it, shows the number in
// which a TTL node's time is kept as the session that owns it. Whichever member is
// asked, the node is a persistent one, and nothing is written for it twice.
func TestTTLByEveryMember(t *testing.T) {
	three := testenv.StartZooKeeperEnsemble(t, 3)
	leader := three.Leader()
	odd := three.Servers[slices.IndexFunc(three.Servers, func(z *testenv.ZooKeeperServer) bool { return z != leader })]
	odd.Stop()
	file := filepath.Join(odd.Dir(), "zoo.cfg")
	settings, err := os.ReadFile(file)
	must(t, err)
	must(t, os.WriteFile(file, bytes.ReplaceAll(settings, []byte("extendedTypesEnabled=true"), []byte("extendedTypesEnabled=false")), 0o600))
	three.Start()
	e := newEnv(t)
	e = newEnvOf(t, connect(t, []string{three.Leader().Addr()}, ""), e.destination)
	e.source.put("/test", "")
	e.source.ttl("/test/t", time.Hour)
	e.source.put("/test/t/below", "")
	e.source.put("/test/e", "", zk.FlagEphemeral)
	e.source.ttl("/test/u", time.Hour)
	asked := connect(t, []string{odd.Addr()}, "")
	_, err = asked.conn.Sync("/")
	must(t, err)
	if owner := asked.stat("/test/t").EphemeralOwner; owner == 0 {
		t.Error("the member shows no owner: it is not what this is to test")
	}
	by := func(z *testenv.ZooKeeperServer) func(*Options) {
		return func(o *Options) { o.Source.Servers = []string{z.Addr()} }
	}
	if r := e.copied(by(odd), ignoring); r.Created != 4 {
		t.Errorf("%+v", r)
	}
	e.equal("/test/e")
	for _, z := range []*testenv.ZooKeeperServer{odd, leader} {
		if r := e.copied(by(z), ignoring); r.Appended+r.Created+r.Updated+r.Deleted != 0 {
			t.Errorf("again: %+v", r)
		}
	}
}
