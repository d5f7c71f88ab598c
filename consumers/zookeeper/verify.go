package zookeeper

import (
	"context"
	"errors"
	"slices"

	"github.com/go-zookeeper/zk"
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
	g, ctx := errgroup.WithContext(ctx)
	paths := make(chan string)
	g.Go(func() error {
		defer close(paths)
		for path := range written {
			select {
			case paths <- path:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range min(ensemble.DefaultInFlight, len(written)) {
		g.Go(func() error {
			for path := range paths {
				if err := c.readBack(path, written[path]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

func (c *Consumer) readBack(path string, exists bool) error {
	n, found, err := c.Destination.Node(path, c.Rules.CopyACL && exists, false)
	if errors.Is(err, zk.ErrNoAuth) {
		return nil // its own list forbids it; it is not among the verified
	}
	if err != nil {
		return err
	}
	difference := ""
	if want, ok := c.tree.get(path); exists && ok {
		difference = differs(&want, n, found, c.Rules.CopyACL)
	} else if found {
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
	return nil
}

func differs(want *node, n *ensemble.Node, found, acl bool) string {
	switch {
	case !found:
		return "it was written, and is not there"
	case topology.NodeHash(n.Data) != want.hash:
		return "its data is not what was written"
	case acl && want.acl != nil && n.Meta.ACL != nil && !slices.Equal(n.Meta.ACL, want.acl):
		return "its access control list is not what was written"
	}
	return ""
}
