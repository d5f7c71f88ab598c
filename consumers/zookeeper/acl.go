package zookeeper

import (
	"context"
	"errors"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/afterimage-dr/afterimage/internal/ensemble"
	"github.com/afterimage-dr/afterimage/topology"
)

// aclsInFlight is how many access control lists are set at a time.
const aclsInFlight = 64

// firstACL is the access control list a node is created with. One that would keep us
// from making what is below it is set at the end; until then the node is its
// creator's alone, or open where nobody is signed in.
func (c *Consumer) firstACL(o *op) {
	c.mu.Lock()
	postponed := c.acls[o.Path] == o
	c.mu.Unlock()
	switch {
	case postponed:
		return
	case !c.Rules.CopyACL || o.meta.ACL == nil:
		o.ACL = ensemble.Open()
	case allowsUs(o.meta.ACL, c.Destination.Options().Username):
		o.ACL = o.meta.ACL
	default:
		c.postponeACL(o)
		return
	}
	c.dropACL(o.Path)
}

// postponeACL has a node created for its creator alone and its list set at the end;
// false where it is so already.
func (c *Consumer) postponeACL(o *op) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.acls[o.Path] == o {
		return false
	}
	c.acls[o.Path] = o
	o.ACL = ensemble.Open()
	if c.Destination.Options().Username != "" {
		o.ACL = ensemble.Creator()
	}
	return true
}

// laterACL has a node's list set at the end if it differs.
func (c *Consumer) laterACL(o *op, n *node) {
	if !c.aclDiffers(n, o) {
		c.dropACL(o.Path)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acls[o.Path] = o
}

// dropACL forgets the list that was to be set at the end: a later record wants another,
// which the node has, or its end.
func (c *Consumer) dropACL(path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.acls, path)
}

// allEverything are ZooKeeper's five permissions.
const allEverything = 0x1f

// allowsUs tells whether a list lets us do everything for certain.
func allowsUs(acl []topology.NodeACL, user string) bool {
	for _, a := range acl {
		if a.Permissions&allEverything != allEverything {
			continue
		}
		if a.Scheme == "world" || user != "" && a.Scheme == "digest" && strings.HasPrefix(a.ID, user+":") {
			return true
		}
	}
	return false
}

// setACLs sets the lists that had to wait for what is below their nodes.
func (c *Consumer) setACLs(ctx context.Context) error {
	c.mu.Lock()
	acls := c.acls
	c.acls = map[string]*op{}
	c.mu.Unlock()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(aclsInFlight)
	for path, o := range acls {
		if _, there := c.tree.get(path); !there {
			continue // its creation failed, and is counted
		}
		g.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return c.setACL(o)
		})
	}
	return g.Wait()
}

func (c *Consumer) setACL(o *op) error {
	for {
		err := c.Destination.SetACL(o.Path, o.meta.ACL)
		var said *ensemble.Error
		switch {
		case err == nil:
			c.tree.change(o.Path, func(n *node) { n.acl = o.meta.ACL })
			c.mu.Lock()
			_, counted := c.written[o.Path]
			c.written[o.Path] = true
			c.mu.Unlock()
			if !counted {
				c.recount(o.Path)
				c.report.count(Updated)
				c.note(o, Updated, nil)
			}
			return nil
		case errors.Is(err, ensemble.ErrLost):
			if err := c.Destination.Await(err); err != nil {
				return err
			}
		case errors.As(err, &said):
			c.failed(o, ReasonACL, err.Error()+"; the node has the list it had before")
			return nil
		default:
			return err
		}
	}
}
