package zookeeper

import (
	"context"
	"errors"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/afterimage-dr/afterimage/internal/ensemble"
	"github.com/afterimage-dr/afterimage/topology"
)

// verify reads back what was written. What was found to be equal was read in this run
// already.
func (c *Consumer) verify(ctx context.Context) error {
	c.mu.Lock()
	written := c.written
	c.written = map[string]bool{}
	c.mu.Unlock()
	if len(written) == 0 {
		return nil
	}
	reader := c.Destination.NewReader(ensemble.ReadOptions{ACL: c.Rules.CopyACL})
	defer reader.Close()
	todo := slices.Collect(maps.Keys(written))
	var g errgroup.Group
	g.SetLimit(ensemble.InFlight)
	for len(todo) > 0 && ctx.Err() == nil {
		some := todo[:min(reader.Most(), len(todo))]
		todo = todo[len(some):]
		g.Go(func() error { return c.readBack(reader, some, written) })
	}
	return errors.Join(g.Wait(), ctx.Err())
}

func (c *Consumer) readBack(reader *ensemble.Reader, paths []string, written map[string]bool) error {
	reads, err := reader.Read(paths)
	if err != nil {
		return err
	}
	for i, path := range paths {
		if reads[i].Err == nil { // else its own list forbids it; it is not among the verified
			c.compareBack(path, written[path], reads[i].Node)
		}
	}
	return nil
}

// compareBack compares what was read back; n is nil where nothing is there.
func (c *Consumer) compareBack(path string, exists bool, n *ensemble.Node) {
	difference := ""
	if want, ok := c.tree.get(path); exists && ok {
		difference = differs(&want, n, c.Rules.CopyACL)
	} else if n != nil {
		difference = "it was deleted, and is there again"
	}
	c.report.mu.Lock()
	if difference == "" {
		c.report.Verified++
	}
	c.report.mu.Unlock()
	if difference != "" {
		c.report.fail(Failure{path, ReasonDifferent, difference + ": somebody else writes at the destination"})
	}
}

func differs(want *node, n *ensemble.Node, acl bool) string {
	switch {
	case n == nil:
		return "it was written, and is not there"
	case topology.NodeHash(n.Data) != want.hash:
		return "its data is not what was written"
	case acl && want.acl != nil && n.Meta.ACL != nil && !slices.Equal(n.Meta.ACL, want.acl):
		return "its access control list is not what was written"
	}
	return ""
}
