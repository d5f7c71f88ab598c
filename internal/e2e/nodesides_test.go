package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/afterimage-dr/afterimage/internal/faultproxy"
	"github.com/afterimage-dr/afterimage/internal/testcluster"
)

// nodeSide is a tree of a server, by the bare client library, and the way that the
// binary under test takes to it.
type nodeSide struct {
	t      *testing.T
	conn   *zk.Conn
	chroot string
	proxy  *faultproxy.TCP
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}

func newNodeSide(t *testing.T, z *testcluster.ZooKeeper) *nodeSide {
	t.Helper()
	conn, _, err := zk.Connect([]string{z.Addr()}, 30*time.Second, zk.WithLogInfo(false), zk.WithLogger(quiet{}))
	must(t, err)
	t.Cleanup(conn.Close)
	s := &nodeSide{t: t, conn: conn, chroot: fmt.Sprintf("/%s-%08x", t.Name(), rand.Uint32()), proxy: faultproxy.StartTCP(t, z.Addr())}
	s.must(conn.Create(s.chroot, nil, 0, zk.WorldACL(zk.PermAll)))
	return s
}

func (s *nodeSide) must(_ any, err error) {
	s.t.Helper()
	must(s.t, err)
}

// znode is what a copy must have in common with its source, and what shows how often
// it was written.
type znode struct {
	content string
	version int32
	created int64
}

// read reads a tree, many nodes at a time.
func (s *nodeSide) read(root string) map[string]znode {
	s.t.Helper()
	out := map[string]znode{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	room := make(chan struct{}, 256)
	var walk func(path string)
	walk = func(path string) {
		room <- struct{}{}
		defer func() { <-room }()
		data, stat, err := s.conn.Get(s.chroot + path)
		if err != nil {
			if !errors.Is(err, zk.ErrNoNode) {
				s.t.Errorf("reading %s: %v", path, err)
			}
			return
		}
		mu.Lock()
		out[path] = znode{fmt.Sprintf("null=%t %s", data == nil, data), stat.Version, stat.Czxid}
		mu.Unlock()
		if stat.NumChildren == 0 {
			return
		}
		names, _, err := s.conn.Children(s.chroot + path)
		if err != nil && !errors.Is(err, zk.ErrNoNode) {
			s.t.Errorf("listing %s: %v", path, err)
		}
		for _, name := range names {
			wg.Go(func() { walk(path + "/" + name) })
		}
	}
	wg.Go(func() { walk(root) })
	wg.Wait()
	return out
}

// batch gathers requests and sends them in transactions.
type batch struct {
	*nodeSide
	ops []any
}

func (b *batch) add(op any) {
	if b.ops = append(b.ops, op); len(b.ops) >= 500 {
		b.send()
	}
}

func (b *batch) send() {
	b.t.Helper()
	if len(b.ops) > 0 {
		b.must(b.conn.Multi(b.ops...))
		b.ops = nil
	}
}

func (b *batch) create(path, data string) {
	b.add(&zk.CreateRequest{Path: b.chroot + path, Data: []byte(data), Acl: zk.WorldACL(zk.PermAll)})
}

func (b *batch) set(path, data string) {
	b.add(&zk.SetDataRequest{Path: b.chroot + path, Data: []byte(data), Version: -1})
}

func (b *batch) remove(path string) {
	b.add(&zk.DeleteRequest{Path: b.chroot + path, Version: -1})
}

// forest is a tree in the source that its test changes: groups of nodes below a root.
type forest struct {
	*batch
	random *rand.Rand
	root   string
	groups []group
	made   int
}

type group struct {
	path   string
	leaves []string
}

// grow makes one of so many groups with so many nodes each.
func (r *nodeRig) grow(root string, groups, leaves int) *forest {
	r.t.Helper()
	f := &forest{batch: &batch{nodeSide: r.source}, random: r.random, root: root}
	parent := ""
	for part := range strings.SplitSeq(root[1:], "/") {
		parent += "/" + part
		f.create(parent, part)
	}
	for range groups {
		f.group(leaves)
	}
	f.send()
	return f
}

// data is never the same twice.
func (f *forest) data() string {
	f.made++
	return fmt.Sprintf("%d %x", f.made, make([]byte, f.random.IntN(100)))
}

func (f *forest) group(leaves int) {
	f.made++
	g := group{path: fmt.Sprintf("%s/group-%06d", f.root, f.made)}
	f.create(g.path, f.data())
	for range leaves {
		f.leaf(&g)
	}
	f.groups = append(f.groups, g)
}

func (f *forest) leaf(g *group) {
	f.made++
	path := fmt.Sprintf("%s/node-%06d", g.path, f.made)
	f.create(path, f.data())
	g.leaves = append(g.leaves, path)
}

// change makes so many changes: new nodes, other data, nodes that go.
func (f *forest) change(n int) {
	f.t.Helper()
	for range n {
		g := &f.groups[f.random.IntN(len(f.groups))]
		at := f.random.IntN(max(len(g.leaves), 1))
		switch what := f.random.IntN(4); {
		case what == 0 || len(g.leaves) == 0:
			f.leaf(g)
		case what == 1:
			f.remove(g.leaves[at])
			g.leaves = slices.Delete(g.leaves, at, at+1)
		default:
			f.set(g.leaves[at], f.data())
		}
	}
	f.send()
}

// fell removes a group with all below it, and another comes.
func (f *forest) fell() {
	f.t.Helper()
	at := f.random.IntN(len(f.groups))
	g := f.groups[at]
	for _, leaf := range g.leaves {
		f.remove(leaf)
	}
	f.remove(g.path)
	f.groups = slices.Delete(f.groups, at, at+1)
	f.group(len(g.leaves))
	f.send()
}

// large makes nodes of which each fills a transaction.
func (f *forest) large(n int) {
	f.t.Helper()
	for range n {
		g := &f.groups[f.random.IntN(len(f.groups))]
		f.leaf(g)
		f.send()
		data := f.data()
		f.set(g.leaves[len(g.leaves)-1], strings.Repeat(data, 400<<10/len(data)))
		f.send()
	}
}

// size is how many nodes it has.
func (f *forest) size() int64 {
	n := 1 + len(f.groups)
	for _, g := range f.groups {
		n += len(g.leaves)
	}
	return int64(n)
}
