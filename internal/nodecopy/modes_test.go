package nodecopy

import (
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/afterimage-dr/afterimage/internal/ensemble"
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
	mode, _ := ensemble.ModeOf(st)
	return string(mode)
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

// Servers from 3.5.4 on tell no client that a node is a container or has a TTL: such
// nodes are copied as persistent ones, are no ephemerals, and end with those of the
// source.
func TestContainersAndTTL(t *testing.T) {
	e := newEnv(t)
	e.source.put("/test", "")
	e.source.container("/test/c")
	e.source.put("/test/c/child", "")
	e.source.ttl("/test/t", time.Hour)
	e.copied(ignoring)
	e.equal()
	if r := e.copied(); r.Created+r.Updated+r.Deleted != 0 {
		t.Errorf("again: %+v", r)
	}
	e.destination.container("/test/only-here")
	e.source.remove("/test/c/child")
	e.source.remove("/test/t")
	e.copied(ignoring)
	e.equal()
}
