package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path"
)

// zkRoot is the root of every tree.
const zkRoot = "/bench"

// znode is a node to create.
type znode struct {
	path string
	data []byte
}

// zkTree is a tree to copy.
type zkTree struct {
	name string
	// nodes begin with the root and have each parent before its children, level by
	// level.
	nodes []znode
}

// noise is data that no compression makes smaller, and that is the same in each run.
type noise struct{ *rand.ChaCha8 }

func newNoise() noise { return noise{rand.NewChaCha8([32]byte{1})} }

func (n noise) data(size int) []byte {
	data := make([]byte, size)
	_, _ = n.Read(data) // never fails
	return data
}

// broad has so many nodes, a hundredth of which are folders below the root that
// hold the others.
func broad(count, size int) zkTree {
	n := newNoise()
	t := zkTree{name: fmt.Sprintf("%s × %s", thousands(count), bytesOf(size)), nodes: []znode{{path: zkRoot}}}
	folders := max(count/100, 1)
	for i := range folders {
		t.nodes = append(t.nodes, znode{fmt.Sprintf("%s/folder-%04d", zkRoot, i), n.data(size)})
	}
	for i := range count - folders {
		t.nodes = append(t.nodes, znode{fmt.Sprintf("%s/folder-%04d/node-%06d", zkRoot, i%folders, i), n.data(size)})
	}
	return t
}

// deep has chains of nodes, each the only child of the one before.
func deep(chains, depth, size int) zkTree {
	n := newNoise()
	t := zkTree{name: fmt.Sprintf("deep: %d chains of %d × %s", chains, depth, bytesOf(size)), nodes: []znode{{path: zkRoot}}}
	ends := make([]string, chains)
	for i := range ends {
		ends[i] = fmt.Sprintf("%s/chain-%02d", zkRoot, i)
	}
	for range depth {
		for i := range ends {
			t.nodes = append(t.nodes, znode{ends[i], n.data(size)})
			ends[i] = path.Join(ends[i], "n")
		}
	}
	return t
}

// wide has all nodes below one.
func wide(count, size int) zkTree {
	n := newNoise()
	t := zkTree{name: fmt.Sprintf("wide: %s children × %s", thousands(count), bytesOf(size)), nodes: []znode{{path: zkRoot}}}
	for i := range count {
		t.nodes = append(t.nodes, znode{fmt.Sprintf("%s/node-%06d", zkRoot, i), n.data(size)})
	}
	return t
}

// differs says in which node two trees differ, if they do.
func differs(got, want map[string][]byte) error {
	for p, data := range want {
		other, found := got[p]
		if !found {
			return fmt.Errorf("%s is missing", p)
		}
		if !bytes.Equal(other, data) {
			return fmt.Errorf("%s has other data", p)
		}
	}
	for p := range got {
		if _, found := want[p]; !found {
			return fmt.Errorf("%s is too many", p)
		}
	}
	return nil
}

func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}

func bytesOf(n int) string {
	if n%1024 == 0 {
		return fmt.Sprintf("%d KiB", n/1024)
	}
	return fmt.Sprintf("%d B", n)
}
