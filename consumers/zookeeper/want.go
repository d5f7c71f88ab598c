package zookeeper

import (
	"context"
	"errors"
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
	// created: the node is not known to have been there.
	created bool
	// lost: the answer to it was lost once, so that it may have been done.
	lost bool
	// unsure: the node is not as the request takes it to be; it is read first.
	unsure bool
}

// take does what a record says, in the order of the log. With patience, a node whose
// parent is not there yet is left: it waits.
func (c *Consumer) take(ctx context.Context, k *kgo.Record, patience bool) (waits bool, err error) {
	path, ok := topology.NodePath(string(k.Key))
	r, err := topology.Decode(k)
	if err != nil {
		var newer *topology.NewerSchemaError
		if errors.As(err, &newer) {
			return false, err // nobody knows what would be missed
		}
		return false, nil // not ours
	}
	if topology.IsControl(r.Key) {
		c.control(&r)
	}
	if !ok || !c.Rules.Covers(path) {
		return false, nil
	}
	c.readAgain(path, k.Offset)
	// What failed before on this path is judged anew: an older record may have been
	// the one that could not be written.
	if err := c.writer.await(ctx, path); err != nil {
		return false, err
	}
	c.report.mended(path)
	if c.Rules.Wants(&r) {
		return c.want(ctx, path, &r, patience)
	}
	if r.Op != topology.Delete {
		c.report.skip(path)
	}
	return false, c.unwant(ctx, path, &r)
}

// wish is what a record of a node asks for: its creation, until it is known to exist.
func wish(path string, r *topology.Record) *op {
	o := &op{Op: ensemble.Op{Kind: topology.Create, Path: path, Data: r.NodeData()}, hash: r.Hash, version: r.Version, observed: r.ObservedAt}
	if r.Node != nil {
		o.meta = *r.Node
	}
	return o
}

// same tells whether a node is as it is wished: persistent, whatever it is in the
// source. No session of ours could keep an ephemeral alive.
func (c *Consumer) same(n *node, o *op) bool {
	return n.hash == o.hash && n.mode != topology.NodeEphemeral && !c.aclDiffers(n, o)
}

// want makes the destination hold a node of which nothing is in flight.
func (c *Consumer) want(ctx context.Context, path string, r *topology.Record, patience bool) (waits bool, err error) {
	o := wish(path, r)
	n, exists := c.tree.get(path)
	if exists && n.wanted && c.same(&n, o) {
		c.dropACL(path)
		return false, nil // it does already
	}
	if !exists {
		if parent := topology.NodeParent(path); path != c.Rules.Root && patience && !c.writer.busy(parent) {
			if _, there := c.tree.get(parent); !there {
				return true, nil
			}
		}
		o.created = true
		return false, c.writer.add(ctx, o)
	}
	c.tree.change(path, func(n *node) { n.wanted = true })
	return false, c.change(ctx, o, &n)
}

// change makes a node that exists hold what is wanted.
func (c *Consumer) change(ctx context.Context, o *op, n *node) error {
	switch {
	case n.mode == topology.NodeEphemeral:
		return c.writer.alone(ctx, o) // it is read first: its session may have ended
	case n.hash != o.hash:
		o.Kind, o.Version = topology.Update, n.version
		c.laterACL(o, n)
		return c.writer.add(ctx, o)
	case c.aclDiffers(n, o):
		o.Kind, o.Version = topology.Update, n.version
		c.laterACL(o, n)
	default:
		c.dropACL(o.Path)
		c.tree.change(o.Path, func(n *node) { n.unchanged = true })
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
	c.dropACL(path)
	return c.writer.add(ctx, &op{Op: ensemble.Op{Kind: topology.Delete, Path: path, Version: n.version}, version: r.Version, observed: r.ObservedAt})
}

// recount takes back that a node is unchanged: something has changed it after all,
// later in the log.
func (c *Consumer) recount(path string) {
	c.tree.change(path, func(n *node) {
		if n.unchanged {
			n.unchanged = false
			c.report.uncount(Unchanged)
		}
	})
}

// done takes in what was done to a node. version is that of its data now.
func (c *Consumer) done(o *op, res Result, version int32) {
	if o.Kind == topology.Delete && res == Unchanged { // it had gone already, with its parent or by another hand
		c.tree.remove(o.Path)
		c.report.mended(o.Path)
		return
	}
	c.recount(o.Path)
	switch res {
	case Deleted:
		c.tree.remove(o.Path)
	default:
		acl := o.ACL
		if n, ok := c.tree.get(o.Path); ok && acl == nil {
			acl = n.acl
		}
		c.tree.put(o.Path, &node{hash: o.hash, version: version, acl: acl, wanted: true, unchanged: res == Unchanged})
	}
	c.mu.Lock()
	c.written[o.Path] = res != Deleted
	c.mu.Unlock()
	c.report.count(res)
	c.report.mended(o.Path)
	c.note(o, res, nil)
}

func (c *Consumer) aclDiffers(n *node, o *op) bool {
	return c.Rules.CopyACL && o.meta.ACL != nil && !slices.Equal(n.acl, o.meta.ACL)
}
