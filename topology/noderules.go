package topology

import (
	"regexp"
	"strings"
)

// reservedNode is where ZooKeeper keeps its own things: quotas and configuration.
const reservedNode = "/zookeeper"

// NodeRules say which znodes are copied, and how. Everything under the root that is
// not excluded is ours at the destination.
type NodeRules struct {
	// Root of the tree.
	Root string
	// Exclude leaves a node whose absolute path it matches, anywhere, and what is
	// below it, out of everything: it is neither copied nor deleted. Nil: nothing.
	Exclude *regexp.Regexp
	// IgnoreEphemeral copies no ephemeral node of the source, and leaves those of
	// the destination alone.
	IgnoreEphemeral bool
	// CopyACL copies access control lists.
	CopyACL bool
	// Chrooted: paths are below a chroot, so that /zookeeper is a name as any other.
	Chrooted bool
}

// Excludes is the pattern of what is left out; empty: nothing.
func (r *NodeRules) Excludes() string {
	if r.Exclude == nil {
		return ""
	}
	return r.Exclude.String()
}

// Skips tells whether a node is left out whose parent is not.
func (r *NodeRules) Skips(path string) bool {
	return !r.Chrooted && NodeWithin(path, reservedNode) || r.Exclude != nil && r.Exclude.MatchString(path)
}

// Covers tells whether a node is within the root and no part of its path is left out.
func (r *NodeRules) Covers(path string) bool {
	if !NodeWithin(path, r.Root) || !r.Chrooted && NodeWithin(path, reservedNode) {
		return false
	}
	if r.Exclude == nil {
		return true
	}
	for at := len(r.Root); at >= 0 && at < len(path); at++ {
		next := strings.IndexByte(path[at:], '/')
		if next < 0 {
			break
		}
		if at += next; at > len(r.Root) && r.Exclude.MatchString(path[:at]) {
			return false
		}
	}
	return path == r.Root || !r.Exclude.MatchString(path)
}

// Wants tells whether the destination must hold what the record of a covered node
// says.
func (r *NodeRules) Wants(rec *Record) bool {
	return rec.Op != Delete && !(r.IgnoreEphemeral && rec.Node != nil && rec.Node.Mode == NodeEphemeral)
}
