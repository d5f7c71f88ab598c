package nodecopy

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-zookeeper/zk"

	"github.com/afterimage-dr/afterimage/consumers/zookeeper"
	"github.com/afterimage-dr/afterimage/internal/testenv"
)

// createRoom is what a request that creates a node open to everybody has besides its
// data: its header, lengths, path, list and flags.
func createRoom(path string) int {
	return 8 + 4 + len(path) + 4 + 4 + (4 + 4 + len("world") + 4 + len("anyone")) + 4
}

// mostPacket is the largest packet that a server takes which is not told otherwise.
const mostPacket = 1<<20 - 1

func (s *side) create(path string, data []byte) error {
	_, err := s.conn.Create(s.chroot+path, data, 0, zk.WorldACL(zk.PermAll))
	return err
}

// many creates so many nodes, some thousand requests in flight.
func (s *side) many(n int, path func(i int) string, data []byte) {
	s.t.Helper()
	const each = 1000
	errs := make(chan error, n/each+1)
	var wanted int
	for from := 0; from < n; from += each {
		var ops []any
		for i := from; i < min(from+each, n); i++ {
			ops = append(ops, &zk.CreateRequest{Path: s.chroot + path(i), Data: data, Acl: zk.WorldACL(zk.PermAll)})
		}
		wanted++
		go func() {
			_, err := s.conn.Multi(ops...)
			errs <- err
		}()
	}
	for range wanted {
		must(s.t, <-errs)
	}
}

// Nodes of no data, of 0 bytes and of as many as a server takes arrive as they are.
func TestSizes(t *testing.T) {
	e := newEnv(t)
	e.source.put("/test", "")
	largest := mostPacket - createRoom(e.source.chroot+"/test/most")
	for name, data := range map[string][]byte{
		"null": nil, "none": {}, "zero": {0}, "less": bytes.Repeat([]byte("x"), largest-1), "most": bytes.Repeat([]byte{0xff}, largest),
		"half": bytes.Repeat([]byte("h"), 512<<10), "binary": allBytes(),
	} {
		must(t, e.source.create("/test/"+name, data))
	}
	if err := e.source.create("/test/over", bytes.Repeat([]byte("x"), largest+1)); err == nil {
		t.Fatal("a server took more than the test takes for the most")
	}
	first := e.copied()
	e.equal()
	if first.Created != 8 || first.Verified != 8 {
		t.Errorf("%+v", first)
	}
	if again := e.copied(); again.Unchanged != 8 || again.Created+again.Updated+again.Deleted != 0 {
		t.Errorf("again: %+v", again)
	}
	// Each becomes another, at the same size and across all of them.
	names := []string{"null", "none", "zero", "less", "most", "half", "binary"}
	before := e.source.dump("/test", false)
	for i, name := range names {
		data, _, err := e.source.conn.Get(e.source.chroot + "/test/" + names[(i+1)%len(names)])
		must(t, err)
		_, err = e.source.conn.Set(e.source.chroot+"/test/"+name, data, -1)
		must(t, err)
	}
	if maps.Equal(before, e.source.dump("/test", false)) {
		t.Error("nothing was changed")
	}
	e.copied()
	e.equal()
	// From the log alone.
	e.destination.remove("/test")
	e.copied(fromLog)
	e.equal()
}

func allBytes() []byte {
	out := make([]byte, 256)
	for i := range out {
		out[i] = byte(i)
	}
	return out
}

// A node that only the destination's limit is too small for is named, keeps what it had,
// and keeps nothing else from being copied, in the same transaction or not. When it fits
// it is copied, and what is below it by the next attempt at the latest.
func TestTooLargeForDestination(t *testing.T) {
	to := testenv.StartZooKeeper(t, testenv.WithJuteMaxBuffer(64<<10))
	e := newEnv(t)
	e = newEnvOf(t, e.source, connect(t, []string{to.Addr()}, ""))
	e.source.put("/test", "")
	for i := range 300 {
		e.source.put(fmt.Sprintf("/test/n%03d", i), strings.Repeat("x", i))
	}
	const over, below, grown = "/test/n050/over", "/test/n050/over/below", "/test/n010"
	e.source.put(over, strings.Repeat("o", 900<<10))
	e.source.put(below, "b")
	e.source.put("/test/close", strings.Repeat("c", 63<<10))
	want := map[string]string{over: zookeeper.ReasonTooLarge, below: zookeeper.ReasonParentMissing}
	tooLarge := func() {
		t.Helper()
		r, err := e.copy()
		must(t, err)
		e.failures(r, want)
		e.equal(over, grown)
		for _, f := range r.Failures {
			if f.Reason == zookeeper.ReasonTooLarge && !strings.Contains(f.Message, "jute.maxbuffer") {
				t.Errorf("the message does not say what to raise: %s", f.Message)
			}
		}
	}
	tooLarge()
	e.source.put(grown, strings.Repeat("g", 70<<10))
	want[grown] = zookeeper.ReasonTooLarge
	tooLarge()
	if v, _ := e.destination.get(grown); len(v) != 10 {
		t.Errorf("%d bytes are at the destination", len(v))
	}
	e.source.put(over, "small")
	e.source.put(grown, "small")
	r, err := e.copy()
	must(t, err)
	for _, f := range r.Failures {
		if f.Path != below || !zookeeper.Passing(f.Reason) {
			t.Errorf("%+v", f)
		}
	}
	e.copied()
	e.equal()
}

// Transactions are made to fit a small limit; none is given up for its size.
func TestSmallPackets(t *testing.T) {
	to := testenv.StartZooKeeper(t, testenv.WithJuteMaxBuffer(64<<10))
	e := newEnv(t)
	e = newEnvOf(t, e.source, connect(t, []string{to.Addr()}, ""))
	e.source.put("/test", "")
	for i := range 20 {
		e.source.put(fmt.Sprintf("/test/p%02d", i), "")
	}
	const nodes = 20_000
	e.source.many(nodes, func(i int) string { return fmt.Sprintf("/test/p%02d/node-%05d", i%20, i) }, []byte("a small node"))
	r := e.copied()
	e.equal()
	if r.Created != nodes+21 {
		t.Errorf("%+v", r)
	}
	said, err := os.ReadFile(filepath.Join(to.Dir(), "zookeeper.log"))
	must(t, err)
	t.Logf("%v; %d packets were too large", r.Took, strings.Count(string(said), "Len error"))
	if n := strings.Count(string(said), "Len error"); n == 0 || n > 12 {
		t.Errorf("%d packets were too large: the limit is not learnt", n)
	}
}

// A hundred thousand children of one node, whose list has more bytes than a server
// takes in a packet: it sends more, and so does another copy find nothing to do.
func TestManyChildren(t *testing.T) {
	z := testenv.StartZooKeeper(t, testenv.WithZooKeeperHeap(1500))
	e := newEnvOf(t, connect(t, []string{z.Addr()}, "/here"), connect(t, []string{z.Addr()}, "/there"))
	const nodes = 100_000
	e.source.put("/test", "")
	e.source.many(nodes, func(i int) string { return fmt.Sprintf("/test/a-longer-name-%06d", i) }, nil)
	r := e.copied()
	if r.Created != nodes+1 || r.Verified != r.Created {
		t.Errorf("%+v", r)
	}
	if size := len(e.names("/test")) * (4 + len("a-longer-name-000000")); size < 2*mostPacket {
		t.Errorf("the list has %d bytes", size)
	}
	again := e.copied()
	if again.Unchanged != nodes+1 || again.Created+again.Updated+again.Deleted != 0 {
		t.Errorf("again: %+v", again)
	}
	t.Logf("%v, then %v", r.Took, again.Took)
}

// names of the children on both sides, which must be the same.
func (e *env) names(path string) []string {
	e.Helper()
	var lists [2][]string
	for i, s := range []*side{e.source, e.destination} {
		names, _, err := s.conn.Children(s.chroot + path)
		must(e.T, err)
		slices.Sort(names)
		lists[i] = names
	}
	if !slices.Equal(lists[0], lists[1]) {
		e.Errorf("%s has %d children, and %d at the destination", path, len(lists[0]), len(lists[1]))
	}
	return lists[0]
}

// A tree of depth 200 is written parents first and deleted children first.
func TestDeep(t *testing.T) {
	e := newEnv(t)
	paths := []string{"/test"}
	for i := range 200 {
		paths = append(paths, fmt.Sprintf("%s/%d", paths[i], i))
	}
	for _, p := range paths {
		e.source.put(p, p)
	}
	if r := e.copied(); r.Created != int64(len(paths)) {
		t.Errorf("%+v", r)
	}
	e.equal()
	e.source.remove(paths[101]) // less than half, which the breaker lets pass
	r := e.copied()
	if r.Deleted != 100 {
		t.Errorf("%+v", r)
	}
	e.equal()
}

// Names and data that are no plain text arrive as they are. Of Unicode, ZooKeeper takes
// the basic plane alone.
func TestNames(t *testing.T) {
	e := newEnv(t)
	names := []string{
		"ä", "日本語", "e\u0301", "\u00e9", "with space", " ", "a=b", "a:b", "%2F", "a\\b", "\"quoted\"", "'", "*", "?", "#", "+", "..a", "a..", "...", "-", "{}", "~", "ﷺ", "\u202eright to left", strings.Repeat("long", 60),
	}
	e.source.put("/test", "")
	for _, name := range names {
		e.source.put("/test/"+name, name)
		e.source.put("/test/"+name+"/"+name, string(allBytes()))
	}
	if r := e.copied(); r.Created != int64(2*len(names)+1) {
		t.Errorf("%+v", r)
	}
	e.equal()
	if r := e.copied(); r.Created+r.Updated+r.Deleted != 0 {
		t.Errorf("again: %+v", r)
	}
	l := e.live()
	e.same(l)
	for _, name := range names {
		e.source.put("/test/"+name, "changed")
		e.source.remove("/test/" + name + "/" + name)
	}
	e.same(l)
}
