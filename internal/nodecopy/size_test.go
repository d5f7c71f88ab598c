package nodecopy

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/afterimage-dr/afterimage/consumers/zookeeper"
	"github.com/afterimage-dr/afterimage/internal/testenv"
)

// putRaw writes data, or null.
func (s *side) putRaw(path string, data []byte) {
	s.t.Helper()
	_, err := s.conn.Create(s.chroot+path, data, 0, zk.WorldACL(zk.PermAll))
	if errors.Is(err, zk.ErrNodeExists) {
		_, err = s.conn.Set(s.chroot+path, data, -1)
	}
	must(s.t, err)
}

// many makes n nodes below a path, in transactions.
func (s *side) many(path string, n int, data []byte) {
	s.t.Helper()
	var ops []any
	for i := range n {
		ops = append(ops, &zk.CreateRequest{Path: fmt.Sprintf("%s%s/n%06d", s.chroot, path, i), Data: data, Acl: zk.WorldACL(zk.PermAll)})
		if len(ops) == 500 || i == n-1 {
			_, err := s.conn.Multi(ops...)
			must(s.t, err)
			ops = nil
		}
	}
}

// Data and names of every kind: null, none, bytes that are no text, almost all that a
// server takes, names in other scripts and with signs.
func TestEveryData(t *testing.T) {
	e := newEnv(t)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for path, data := range map[string][]byte{
		"/test/null": nil, "/test/empty": {}, "/test/every": every, "/test/large": bytes.Repeat(every, 1_048_000/256),
		"/test/ünï-日本語-🙂": []byte("日本"), "/test/a b%2f\\\"'{}": []byte("x"), "/test/!listed": []byte("x"), "/test/..x": []byte("x"), "/test/.x": []byte("x"),
	} {
		e.source.putRaw("/test", nil)
		e.source.putRaw(path, data)
	}
	e.copied()
	e.equal()
	if r := e.copied(); r.Created+r.Updated+r.Deleted != 0 || r.Appended != 0 {
		t.Errorf("again: %+v", r)
	}
	e.source.putRaw("/test/null", []byte{})
	e.source.putRaw("/test/empty", nil)
	if r := e.copied(); r.Updated != 2 {
		t.Errorf("null and nothing: %+v", r)
	}
	e.equal()
	e.destination.remove("/test")
	e.copied(fromLog)
	e.equal()
}

// A destination that takes less in one packet than the source: what fits arrives, in
// smaller transactions; what does not is named; and it ends soon.
func TestSmallPackets(t *testing.T) {
	z := testenv.StartZooKeeper(t, testenv.WithJuteMaxBuffer(64<<10))
	e := newEnv(t)
	e = newEnvOf(t, e.source, connect(t, []string{z.Addr()}, "/there"))
	e.source.put("/test", "")
	e.source.many("/test", 20_000, bytes.Repeat([]byte("x"), 200))
	e.source.put("/test/large", strings.Repeat("l", 70<<10))
	e.source.put("/test/large/below", "v")
	e.source.put("/test/fits", strings.Repeat("f", 60<<10))
	began := time.Now()
	r, err := e.copy()
	must(t, err)
	want := map[string]string{"/test/large": zookeeper.ReasonTooLarge, "/test/large/below": zookeeper.ReasonParentMissing}
	e.failures(r, want)
	e.equal("/test/large")
	t.Logf("%v: %+v", time.Since(began), r)
	e.source.put("/test/n000007", strings.Repeat("l", 900_000))
	want["/test/n000007"] = zookeeper.ReasonTooLarge
	began = time.Now()
	r, err = e.copy()
	must(t, err)
	e.failures(r, want)
	e.equal("/test/large", "/test/n000007")
	t.Logf("%v: %+v", time.Since(began), r)
}

// The children of one node, a hundred thousand, whose names alone are more than a
// packet of a client library usually may be; and a chain of two hundred nodes.
func TestWideAndDeep(t *testing.T) {
	e := newEnv(t)
	e.source.put("/test", "")
	e.source.put("/test/wide", "")
	e.source.many("/test/wide", 100_000, bytes.Repeat([]byte("x"), 1<<10))
	path := "/test"
	for i := range 200 {
		path = fmt.Sprintf("%s/deep%d", path, i)
		e.source.put(path, "v")
	}
	var most uint64
	stop := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for m := (runtime.MemStats{}); ; {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
				runtime.ReadMemStats(&m)
				most = max(most, m.HeapInuse)
			}
		}
	}()
	first := e.copied()
	close(stop)
	<-stopped
	e.equal()
	t.Logf("at most %d MB of heap: %+v", most>>20, first)
	if most > 400<<20 { // the embedded log, with its indexes of all records, is in it
		t.Errorf("%d MB of heap", most>>20)
	}
	if r := e.copied(); r.Created+r.Updated+r.Deleted != 0 {
		t.Errorf("again: %+v", r)
	}
	e.source.remove("/test/deep0")
	e.copied()
	e.equal()
}
