package zookeeper

import (
	"sync"

	"github.com/afterimage-dr/afterimage/internal/ensemble"
	"github.com/afterimage-dr/afterimage/topology"
)

// tree is what the destination holds, without its data: an ensemble keeps all its
// nodes in memory, with theirs.
type tree struct {
	mu    sync.Mutex
	nodes map[string]*node
	// wanted is how many of them the log wants.
	wanted int64
}

type node struct {
	hash    string
	mode    topology.NodeMode
	version int32 // of its data
	acl     []topology.NodeACL
	// wanted: the log wants it. unchanged: it is counted as that.
	wanted, unchanged bool
}

func nodeOf(n *ensemble.Node) *node {
	return &node{
		hash: topology.NodeHash(n.Data), mode: n.Meta.Mode, version: n.Stat.Version, acl: n.Meta.ACL,
	}
}

func (t *tree) get(path string) (node, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.nodes[path]; n != nil {
		return *n, true
	}
	return node{}, false
}

func (t *tree) put(path string, n *node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count(t.nodes[path], -1)
	t.nodes[path] = n
	t.count(n, 1)
}

func (t *tree) change(path string, fn func(*node)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.nodes[path]; n != nil {
		t.count(n, -1)
		fn(n)
		t.count(n, 1)
	}
}

func (t *tree) remove(path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count(t.nodes[path], -1)
	delete(t.nodes, path)
}

func (t *tree) count(n *node, by int64) {
	if n != nil && n.wanted {
		t.wanted += by
	}
}

// wantedNodes is how many there are that the log wants.
func (t *tree) wantedNodes() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.wanted
}

func (t *tree) size() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return int64(len(t.nodes))
}

// unwanted are the nodes that the log does not want, children first.
func (t *tree) unwanted(asked func(path string, n *node) bool) (paths []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for path, n := range t.nodes {
		if !n.wanted && asked(path, n) {
			paths = append(paths, path)
		}
	}
	topology.ChildrenFirst(paths)
	return paths
}
