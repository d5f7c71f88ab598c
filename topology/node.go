package topology

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// The group, version and resource under which znodes stand in a log.
const (
	nodeGroup    = "zookeeper"
	nodeVersion  = "v1"
	nodeResource = "nodes"
	// nodePrefix is what the record key of a znode begins with; its absolute path
	// follows. No API group is called so: those of custom resources have a dot.
	nodePrefix = nodeGroup + "/" + nodeVersion + "/" + nodeResource + "/"
)

// NodesListed is the key of the [Listed] record of a tree.
var NodesListed = ControlKey(Listed, strings.TrimSuffix(nodePrefix, "/"))

// NodeKey is the key of a znode, by its absolute path as clients see it (without
// the chroot).
func NodeKey(path string) Key {
	return Key{Group: nodeGroup, Version: nodeVersion, Resource: nodeResource, Name: strings.TrimPrefix(path, "/")}
}

// Node returns the path of the znode that the key names; ok is false where it
// names a Kubernetes object.
func (k Key) Node() (path string, ok bool) {
	if k.Group != nodeGroup || k.Version != nodeVersion || k.Resource != nodeResource || k.Namespace != "" {
		return "", false
	}
	return "/" + k.Name, true
}

// NodePath returns the path that the record key of a znode names.
func NodePath(key string) (path string, ok bool) {
	path, ok = strings.CutPrefix(key, nodePrefix)
	return path, ok && ValidNodePath(path) == nil
}

// ValidNodePath tells whether ZooKeeper takes a path.
func ValidNodePath(path string) error {
	switch {
	case !strings.HasPrefix(path, "/"):
		return fmt.Errorf("%q: expected an absolute path such as /test", path)
	case path == "/":
		return nil
	case strings.HasSuffix(path, "/"):
		return fmt.Errorf("%q: expected no / at the end", path)
	}
	for part := range strings.SplitSeq(path[1:], "/") {
		switch part {
		case "":
			return fmt.Errorf("%q: expected no empty part", path)
		case ".", "..":
			return fmt.Errorf("%q: expected no %s: ZooKeeper takes absolute paths alone", path, part)
		}
	}
	if strings.ContainsRune(path, 0) {
		return fmt.Errorf("%q: expected no null character", path)
	}
	return nil
}

// NodeParent is the path of the parent; that of the root is the root.
func NodeParent(path string) string {
	if i := strings.LastIndexByte(path, '/'); i > 0 {
		return path[:i]
	}
	return "/"
}

// NodeWithin tells whether a path is another or below it.
func NodeWithin(path, root string) bool {
	return path == root || root == "/" || strings.HasPrefix(path, root) && path[len(root)] == '/'
}

// ChildrenFirst sorts paths so that a node comes after everything below it: its path
// is a prefix of theirs.
func ChildrenFirst(paths []string) {
	slices.Sort(paths)
	slices.Reverse(paths)
}

// NodeMode is how long a znode lives.
type NodeMode string

// The modes that ZooKeeper lets clients tell apart. Persistent is the zero value.
const (
	NodePersistent NodeMode = ""
	NodeEphemeral  NodeMode = "ephemeral"
)

// NodeACL is one entry of an access control list.
type NodeACL struct {
	// Permissions are ZooKeeper's bits: read 1, write 2, create 4, delete 8, admin 16.
	Permissions int32  `json:"perms"`
	Scheme      string `json:"scheme"`
	ID          string `json:"id"`
}

// NodeMeta is what of a znode is neither path nor data; it travels in the header
// "node".
type NodeMeta struct {
	Mode NodeMode `json:"mode,omitempty"`
	// ACL in canonical order; none where it was not read.
	ACL []NodeACL `json:"acl,omitempty"`
}

// CanonicalACL sorts entries: their order has no meaning.
func CanonicalACL(acl []NodeACL) []NodeACL {
	slices.SortFunc(acl, func(a, b NodeACL) int {
		return cmp.Or(cmp.Compare(a.Scheme, b.Scheme), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Permissions, b.Permissions))
	})
	return acl
}

// NoData is the content hash of a znode whose data is null, which is not the same
// to its readers as data of 0 bytes.
const NoData = "null"

// NodeHash is the content hash of a znode: of its data alone.
func NodeHash(data []byte) string {
	if data == nil {
		return NoData
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16])
}

// NodeData is the data of a znode's record: nil where it is null.
func (r *Record) NodeData() []byte {
	if r.Hash == NoData {
		return nil
	}
	return r.Body
}
