package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/ensemble"
	"github.com/afterimage-dr/afterimage/topology"
)

// op is one thing to be done to a node.
type op struct {
	ensemble.Op
	meta topology.NodeMeta
	hash string
	// version of the record that asks for it, and when what it says was observed.
	version  topology.Version
	observed time.Time
	// created: the node was made for this, whatever became of the answer.
	created bool
	// unsure: the node is not as the request takes it to be; it is read first.
	unsure bool
}

// take does what a record says, in the order of the log. waits: it needs a parent
// that is not there yet; did: something was done or found to be done.
func (c *Consumer) take(ctx context.Context, k *kgo.Record, patience bool) (waits, did bool, err error) {
	path, ok := topology.NodePath(string(k.Key))
	r, err := topology.Decode(k)
	if err != nil {
		var newer *topology.NewerSchemaError
		if errors.As(err, &newer) {
			return false, false, err // nobody knows what would be missed
		}
		return false, false, nil // not ours
	}
	if !ok || !c.Rules.Covers(path) {
		return false, false, nil
	}
	if c.Rules.Wants(&r) {
		return c.want(ctx, path, &r, patience)
	}
	if r.Op != topology.Delete {
		c.report.skip(path)
	}
	return false, true, c.unwant(ctx, path, &r)
}

// want makes the destination hold a node.
func (c *Consumer) want(ctx context.Context, path string, r *topology.Record, patience bool) (waits, did bool, err error) {
	if err := c.writer.await(ctx, path); err != nil {
		return false, false, err
	}
	o := &op{Op: ensemble.Op{Kind: topology.Create, Path: path, Data: r.NodeData()}, hash: r.Hash, version: r.Version, observed: r.ObservedAt}
	if r.Node != nil {
		o.meta = *r.Node
	}
	if o.meta.Mode == topology.NodeEphemeral {
		o.meta.Mode = topology.NodePersistent // no session of ours could keep it alive
	}
	n, exists := c.tree.get(path)
	if exists && n.wanted && n.hash == o.hash && n.mode == o.meta.Mode && n.ttl == o.meta.TTL && !c.aclDiffers(&n, o) {
		return false, false, nil // an earlier pass did it
	}
	if !exists {
		if parent := topology.NodeParent(path); path != c.Rules.Root && patience && !c.writer.busy(parent) {
			if _, there := c.tree.get(parent); !there {
				return true, false, nil
			}
		}
		o.created = true
		return false, true, c.writer.add(ctx, o)
	}
	c.tree.change(path, func(n *node) { n.wanted = true })
	return false, true, c.change(ctx, o, &n)
}

// change makes a node that exists hold what is wanted.
func (c *Consumer) change(ctx context.Context, o *op, n *node) error {
	switch {
	case n.mode != o.meta.Mode || n.ttl != o.meta.TTL:
		return c.writer.alone(ctx, o) // it takes more than one request
	case n.hash != o.hash:
		o.Kind, o.Version = topology.Update, n.version
		c.laterACL(o, n)
		return c.writer.add(ctx, o)
	case c.aclDiffers(n, o):
		o.Kind, o.Version = topology.Update, n.version
		c.laterACL(o, n)
	default:
		c.report.count(Unchanged)
	}
	return nil
}

// unwant removes a node from the destination, because a record says so or no record
// names it.
func (c *Consumer) unwant(ctx context.Context, path string, r *topology.Record) error {
	if err := c.writer.await(ctx, path); err != nil {
		return err
	}
	n, exists := c.tree.get(path)
	if !exists || c.Rules.IgnoreEphemeral && n.mode == topology.NodeEphemeral {
		return nil
	}
	c.tree.change(path, func(n *node) { n.wanted = false })
	c.mu.Lock()
	delete(c.acls, path)
	c.mu.Unlock()
	return c.writer.add(ctx, &op{Op: ensemble.Op{Kind: topology.Delete, Path: path, Version: n.version}, version: r.Version, observed: r.ObservedAt})
}

// done takes in what was done to a node. version is that of its data now.
func (c *Consumer) done(o *op, res Result, version int32) {
	switch res {
	case Deleted:
		c.tree.remove(o.Path)
	default:
		acl := o.ACL
		if n, ok := c.tree.get(o.Path); ok && o.Kind != topology.Create {
			acl = n.acl
		}
		c.tree.put(o.Path, &node{hash: o.hash, mode: o.meta.Mode, ttl: o.meta.TTL, version: version, acl: acl, wanted: true})
	}
	c.mu.Lock()
	c.written[o.Path] = res != Deleted
	c.mu.Unlock()
	c.report.count(res)
	c.report.succeeded(o.Path)
	c.note(o, res, nil)
}

func (c *Consumer) aclDiffers(n *node, o *op) bool {
	return c.Rules.CopyACL && o.meta.ACL != nil && !slices.Equal(n.acl, o.meta.ACL)
}

// modeText says how a node lives.
func modeText(m topology.NodeMode, ttl int64) string {
	switch m {
	case topology.NodePersistent:
		return "persistent"
	case topology.NodeTTL:
		return fmt.Sprintf("a TTL node of %d ms", ttl)
	}
	return string(m)
}
