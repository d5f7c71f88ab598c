package ensemble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/afterimage-dr/afterimage/internal/testenv"
)

// seen is what a walk came upon.
type seen struct {
	nodes   map[string]string
	refused []string
}

func walk(t *testing.T, c *Client, root string, o ReadOptions) seen {
	t.Helper()
	s := seen{nodes: map[string]string{}}
	var mu sync.Mutex
	w := Walk{Client: c, Root: root, ACL: o.ACL, Watch: o.Watch, Visit: func(n *Node) error {
		mu.Lock()
		defer mu.Unlock()
		if _, twice := s.nodes[n.Path]; twice {
			return fmt.Errorf("%s is visited twice", n.Path)
		}
		s.nodes[n.Path] = fmt.Sprintf("%x %t %+v %+v", n.Data, n.Data == nil, *n.Stat, n.Meta)
		return nil
	}}
	found, refused, err := w.Run(t.Context())
	must(t, err)
	if !found {
		t.Fatalf("%s is not found", root)
	}
	for _, r := range refused {
		s.refused = append(s.refused, r.Path+": "+r.Err.Error())
	}
	slices.Sort(s.refused)
	return s
}

func (s seen) equal(t *testing.T, what string, want seen) {
	t.Helper()
	if !maps.Equal(s.nodes, want.nodes) {
		for p, v := range want.nodes {
			if s.nodes[p] != v {
				t.Errorf("%s: %s is %.200q, want %.200q", what, p, s.nodes[p], v)
			}
		}
		t.Fatalf("%s: %d nodes, want %d", what, len(s.nodes), len(want.nodes))
	}
	if !slices.Equal(s.refused, want.refused) {
		t.Fatalf("%s: refused %q, want %q", what, s.refused, want.refused)
	}
}

// Read many at a time, nodes are what they are read one by one; who may read what is
// the same too.
func TestManyAsOne(t *testing.T) {
	server := testenv.StartZooKeeper(t, testenv.WithZooKeeperTLS())
	conn := bare(t, server.Addr())
	create(t, conn, "/chroot", nil)
	tree(t, conn, "/chroot/tree")
	for name, o := range map[string]Options{
		"anybody":   {Servers: []string{server.Addr()}},
		"signed in": {Servers: []string{server.Addr()}, Username: "ada", Password: "secret"},
		"TLS":       {Servers: []string{server.SecureAddr()}, TLS: trust(server.CA())},
		"chroot":    {Servers: []string{server.Addr()}, Chroot: "/chroot"},
	} {
		t.Run(name, func(t *testing.T) {
			root := "/chroot/tree"
			if o.Chroot != "" {
				root = "/tree"
			}
			one := dial(t, o)
			one.bulk.never = true
			for _, acl := range []bool{false, true} {
				many := dial(t, o)
				want := walk(t, one, root, ReadOptions{ACL: acl})
				if (len(want.refused) == 0) != (o.Username != "") {
					t.Fatalf("refused: %q", want.refused)
				}
				before := server.Status().Received
				got := walk(t, many, root, ReadOptions{ACL: acl})
				requests := server.Status().Received - before
				got.equal(t, "many", want)
				walk(t, many, root, ReadOptions{ACL: acl, Watch: true}).equal(t, "with watches", want)
				most := int64(len(got.nodes) / 4)
				if acl {
					most += int64(len(got.nodes)) // each is asked for its list
				}
				if requests > most {
					t.Errorf("%d requests for %d nodes, acl %t", requests, len(got.nodes), acl)
				}
			}
		})
	}
}

// Connections that break in the middle, again and again, lose nothing.
func TestManyThroughCuts(t *testing.T) {
	server := testenv.StartZooKeeper(t, testenv.WithZooKeeperProxy())
	conn := bare(t, server.ZooKeeper.Addr())
	tree(t, conn, "/tree")
	want := walk(t, dial(t, Options{Servers: []string{server.ZooKeeper.Addr()}}), "/tree", ReadOptions{})
	c := dial(t, Options{Servers: []string{server.Addr()}})
	server.Proxy.Delay(2 * time.Millisecond)
	for i := range 6 {
		cut := time.AfterFunc(time.Duration(3+20*i)*time.Millisecond, server.Proxy.Cut)
		walk(t, c, "/tree", ReadOptions{}).equal(t, fmt.Sprint("cut ", i), want)
		cut.Stop()
	}
	server.Proxy.Delay(0)
	time.Sleep(2 * bulkAgain)
	before := server.Status()
	walk(t, c, "/tree", ReadOptions{}).equal(t, "afterwards", want)
	after := server.Status()
	if requests := after.Received - before.Received; requests > int64(len(want.nodes)/4) {
		t.Errorf("%d requests in the end: not many at a time", requests)
	}
	for end := time.Now().Add(5 * time.Second); server.Status().Connections > before.Connections; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d connections are left, there were %d", server.Status().Connections, before.Connections)
		}
	}
}

// The session lives on while nothing is read.
func TestBulkIdle(t *testing.T) {
	server := testenv.StartZooKeeper(t)
	tree(t, bare(t, server.Addr()), "/tree")
	c, err := Connect(t.Context(), Options{Servers: []string{server.Addr()}, SessionTimeout: 600 * time.Millisecond})
	must(t, err)
	defer c.Close()
	r := c.NewReader(ReadOptions{Children: true})
	defer r.Close()
	paths := []string{"/tree", "/tree/large", "/tree/bytes", "/tree/none", "/tree/dir-01"}
	_, err = r.Read(paths)
	must(t, err)
	before := r.bulk
	time.Sleep(2 * time.Second)
	reads, err := r.Read(paths)
	must(t, err)
	if r.bulk != before || before == nil {
		t.Error("the connection was made anew")
	}
	if len(reads[0].Children) < 40 || len(reads[1].Node.Data) != 900_000 || reads[3].Node != nil {
		t.Errorf("read %+v", reads)
	}
}

// How long nobody answered counts from when somebody was asked.
func TestPatience(t *testing.T) {
	server := testenv.StartZooKeeper(t)
	c := dial(t, Options{Servers: []string{server.Addr()}}, WithPatience(20*time.Second))
	_, _, err := c.Exists("/zookeeper")
	must(t, err)
	c.answered.Store(time.Now().Add(-time.Hour).UnixNano())
	server.Kill()
	time.AfterFunc(time.Second, server.Start)
	if _, found, err := c.Exists("/zookeeper"); err != nil || !found {
		t.Errorf("after a restart: %t, %v", found, err)
	}
}

// How many nodes are asked for at a time follows their sizes, up and down, and does not
// stay small without a connection.
func TestMost(t *testing.T) {
	r := (&Client{}).NewReader(ReadOptions{})
	sized := func(n int) []Read { return []Read{{Node: &Node{Data: make([]byte, n)}}} }
	r.bulk = &bulk{}
	r.weighed(sized(1 << 20))
	if n := r.Most(); n != 1 {
		t.Errorf("of a MiB each: %d", n)
	}
	for range 40 {
		r.weighed(sized(10))
	}
	if n := r.Most(); n < 2 || n > mostUnlucky>>20 {
		t.Errorf("of 10 bytes each, after larger ones: %d", n)
	}
	if r.largest = 0; r.Most() != mostPaths {
		t.Errorf("of 10 bytes each: %d", r.Most())
	}
	r.weighed(sized(1 << 20))
	r.bulk = nil
	if n := r.Most(); n != atOnce {
		t.Errorf("one by one: %d", n)
	}
	long := slices.Repeat([]string{"/" + strings.Repeat("x", mostRequest/3)}, 5)
	if n := fitting(long); n != 2 {
		t.Errorf("of long paths: %d", n)
	}
	if n := fitting([]string{strings.Repeat("x", 2*mostRequest), "/a"}); n != 1 {
		t.Errorf("of one that is too long: %d", n)
	}
}

// A server that hangs holds nothing up for longer than the session's time.
func TestBulkHangs(t *testing.T) {
	server := testenv.StartZooKeeper(t, testenv.WithZooKeeperProxy())
	conn := bare(t, server.ZooKeeper.Addr())
	tree(t, conn, "/tree")
	c, err := Connect(t.Context(), Options{Servers: []string{server.Addr()}, SessionTimeout: time.Second})
	must(t, err)
	defer c.Close()
	want := walk(t, c, "/tree", ReadOptions{})
	server.Proxy.Hang(true)
	time.AfterFunc(4*time.Second, func() { server.Proxy.Hang(false) })
	started := time.Now()
	walk(t, c, "/tree", ReadOptions{}).equal(t, "after it hung", want)
	if d := time.Since(started); d > 15*time.Second {
		t.Errorf("it took %v", d)
	}
}

// Answers that are cut off or damaged are errors, never wrong nodes or a panic.
func TestDamagedAnswers(t *testing.T) {
	var whole []byte
	header := func(op int32, done byte) {
		whole = append(request(whole).int32(op), done)
		whole = request(whole).int32(-1)
	}
	paths := []string{"/a", "/b", "/c"}
	for range 2 {
		header(opGetData, 0)
		whole = request(whole).string("data")
		whole = append(whole, make([]byte, 68)...)
		header(opGetChildren, 0)
		whole = request(whole).int32(2).string("x").string("yy")
	}
	header(opError, 0)
	whole = request(whole).int32(codeNoNode)
	header(opError, 0)
	whole = request(whole).int32(codeNoAuth)
	header(opError, 1)
	out, err := readsOf(answer{b: whole}, paths, true)
	must(t, err)
	if string(out[1].Node.Data) != "data" || !slices.Equal(out[0].Children, []string{"x", "yy"}) || out[2].Node != nil || out[2].Err != nil || !errors.Is(out[2].ChildrenErr, zk.ErrNoAuth) {
		t.Fatalf("read %+v", out)
	}
	for n := range whole {
		if _, err := readsOf(answer{b: whole[:n]}, paths, true); err == nil {
			t.Fatalf("cut off after %d of %d bytes, and no error", n, len(whole))
		}
	}
	for n := range whole { // whatever it says, it ends
		damaged := bytes.Clone(whole)
		damaged[n] ^= 0xff
		_, _ = readsOf(answer{b: damaged}, paths, true)
	}
}

// Servers that do not know the request are not asked again; their nodes are read one
// by one.
func TestServersWithoutMultiRead(t *testing.T) {
	server := testenv.StartZooKeeper(t, testenv.WithOldZooKeeper())
	tree(t, bare(t, server.Addr()), "/tree")
	c := dial(t, Options{Servers: []string{server.Addr()}})
	got := walk(t, c, "/tree", ReadOptions{})
	walk(t, c, "/tree", ReadOptions{Watch: true}).equal(t, "one by one", got)
	if !c.bulk.never || c.bulk.may() {
		t.Error("it is asked again")
	}
	if len(got.nodes) < 4000 || len(got.refused) != 1 {
		t.Errorf("%d nodes, refused %q", len(got.nodes), got.refused)
	}
}

// A walk that is given up ends soon, and so does one whose client is closed.
func TestGivenUp(t *testing.T) {
	server := testenv.StartZooKeeper(t)
	conn := bare(t, server.Addr())
	tree(t, conn, "/tree")
	c := dial(t, Options{Servers: []string{server.Addr()}})
	ctx, cancel := context.WithCancel(t.Context())
	w := Walk{Client: c, Root: "/tree", Visit: func(n *Node) error {
		if strings.HasSuffix(n.Path, "node-001") {
			cancel()
		}
		return nil
	}}
	if _, _, err := w.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	ended := errors.New("enough")
	w.Visit = func(n *Node) error {
		if strings.HasSuffix(n.Path, "node-001") {
			return ended
		}
		return nil
	}
	if _, _, err := w.Run(t.Context()); !errors.Is(err, ended) {
		t.Errorf("ended by a visit: %v", err)
	}
}
