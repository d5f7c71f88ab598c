package zookeeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	"github.com/go-zookeeper/zk"

	"github.com/afterimage-dr/afterimage/internal/breaker"
	"github.com/afterimage-dr/afterimage/internal/ensemble"
	"github.com/afterimage-dr/afterimage/topology"
)

// side of what this package holds back, see topology.Blocked.
const side = "destination"

// Prune deletes what only the destination has, but nothing at or below paths that
// the source refused to show, and not beyond the limit.
func (c *Consumer) Prune(ctx context.Context, refused []ensemble.Refusal) error {
	for _, r := range refused {
		c.report.fail(unread(r.Path, r.Err))
	}
	_, err := c.prune(ctx, func(path string) bool {
		for _, r := range refused {
			if topology.NodeWithin(path, r.Path) {
				return false
			}
		}
		return true
	})
	return err
}

// UnlistedError says that the log does not tell of some nodes that only the
// destination has whether they are gone in the source.
type UnlistedError struct{ Kept int64 }

func (e *UnlistedError) Error() string {
	nodes := "1 node"
	if e.Kept > 1 {
		nodes = fmt.Sprintf("%d nodes", e.Kept)
	}
	return nodes + " that only the destination has: kept, for the log alone does not show that the source had none there" +
		" (its last comparison was not complete, or left them out by its excludePathRegexp)"
}

// PruneListed is Prune where the source is not asked: what the log does not hold was
// not in the source only where a comparison that was complete had looked.
func (c *Consumer) PruneListed(ctx context.Context) error {
	looked := c.Rules
	known := c.listed != nil && c.listed.Fresh
	if known && c.listed.Exclude != "" {
		var err error
		if looked.Exclude, err = regexp.Compile(c.listed.Exclude); err != nil {
			return fmt.Errorf("the mark %s in the log: %w", topology.NodesListed, err)
		}
	}
	kept, err := c.prune(ctx, func(path string) bool { return known && looked.Covers(path) })
	if kept > 0 {
		return errors.Join(err, &UnlistedError{kept})
	}
	return err
}

// prune deletes what the log does not want and is known to be gone. kept is how many
// of which that is not known.
func (c *Consumer) prune(ctx context.Context, known func(path string) bool) (kept int64, err error) {
	c.known = known
	gone := c.tree.unwanted(func(path string, n *node) bool {
		if c.Rules.IgnoreEphemeral && n.mode == topology.NodeEphemeral {
			return false
		}
		if !known(path) {
			c.report.skip(path)
			kept++
			return false
		}
		return true
	})
	if blocked := c.judge(gone); blocked != nil {
		if err := c.hold(ctx, blocked.Tracked); err != nil {
			return kept, err
		}
		return kept, blocked
	}
	if err := c.hold(ctx, 0); err != nil {
		return kept, err
	}
	for _, path := range gone {
		if err := c.unwant(ctx, path, &topology.Record{}); err != nil {
			return kept, err
		}
	}
	if err := c.writer.drain(ctx); err != nil {
		return kept, err
	}
	c.before = c.tree.size()
	return kept, nil
}

// judge tells whether that many nodes may be deleted at once; nil: they may.
func (c *Consumer) judge(gone []string) (blocked *breaker.PathsError) {
	errors.As(breaker.Paths(c.Breaker, "that only the destination has would be deleted", gone, c.before, c.held, c.Confirmed), &blocked)
	return blocked
}

// hold remembers in the log that deletes are held back, or that they no longer are.
func (c *Consumer) hold(ctx context.Context, tracked int64) error {
	if tracked == c.held || c.Writer == nil {
		return nil
	}
	c.held = tracked
	r := topology.NewBlocked(side, tracked)
	r.Writer = c.Incarnation
	return c.Writer.AppendSync(ctx, r.Encode(c.Topics.Changes, 0))
}

// control takes in a record that is about the whole tree.
func (c *Consumer) control(r *topology.Record) {
	if tracked, ok := topology.BlockedAt(side, r); ok {
		c.held = tracked
	}
	if r.Key == topology.NodesListed {
		var body topology.ListedBody
		if json.Unmarshal(r.Body, &body) != nil {
			return
		}
		c.listed, c.listedAt, c.unread = &body, r.Offset, map[string]bool{}
		for _, path := range body.Refused {
			c.unread[path] = c.Rules.Covers(path)
		}
	}
}

// readAgain takes in that a record of a node stands at an offset: one behind the last
// complete comparison says that it could be read since.
func (c *Consumer) readAgain(path string, offset int64) {
	if offset > c.listedAt {
		delete(c.unread, path)
	}
}

// countUnread counts what the last complete comparison could not read in the source.
func (c *Consumer) countUnread() {
	for path, covered := range c.unread {
		if covered {
			c.report.fail(unread(path, whyRefused(c.listed.Why[path])))
		}
	}
}

func whyRefused(why topology.RefusedWhy) error {
	switch why {
	case topology.RefusedTooLarge:
		return ensemble.ErrTooLarge
	case topology.RefusedHiddenACL:
		return ensemble.ErrHiddenACL
	}
	return errNotPermitted
}

var errNotPermitted = errors.New(ensemble.Explain(zk.ErrNoAuth))

// unread is the failure of a node that could not be read in the source, or not taken.
func unread(path string, err error) Failure {
	reason := ReasonRead
	if errors.Is(err, ensemble.ErrTooLarge) {
		reason = ReasonTooLarge
	}
	return Failure{path, reason, "in the source: " + err.Error()}
}

// told tells whether the last complete comparison says of a path what the source had.
func (c *Consumer) told(path string) bool {
	if c.listed == nil || c.listed.Unsure {
		return false
	}
	for _, refused := range c.listed.Refused {
		if topology.NodeWithin(path, refused) {
			return false
		}
	}
	return true
}
