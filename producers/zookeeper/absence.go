package zookeeper

import (
	"context"
	"errors"
	"sync"

	"github.com/go-zookeeper/zk"
	"golang.org/x/sync/errgroup"

	"github.com/afterimage-dr/afterimage/internal/breaker"
	"github.com/afterimage-dr/afterimage/internal/ensemble"
	"github.com/afterimage-dr/afterimage/topology"
)

// missing appends the end of what the log holds and the walk did not meet, after a
// second look at each, and not beyond the limit.
func (p *Producer) missing(ctx context.Context, result *Result, walk func(root string) error) error {
	asked := func(path string) bool { return p.Rules.Covers(path) && !below(path, result.Refused) }
	gone, tracked := p.index.unseen(asked)
	if len(gone) == 0 {
		return p.hold(ctx, 0)
	}
	// A server that lags behind must not be the one that says what is gone.
	if err := p.Source.Sync(p.Rules.Root); err != nil {
		return err
	}
	back, hidden, err := p.lookAgain(ctx, gone)
	if err != nil {
		return err
	}
	result.Refused = append(result.Refused, hidden...)
	for _, path := range topmost(back, gone) { // created while its parent had been passed
		if err := walk(path); err != nil {
			return err
		}
	}
	if len(back)+len(hidden) > 0 {
		gone, tracked = p.index.unseen(asked)
	}
	topology.ChildrenFirst(gone)
	err = breaker.Paths(p.Breaker, "that the log holds are missing in the source", gone, tracked, p.index.held, p.Confirmed)
	var blocked *breaker.PathsError
	if errors.As(err, &blocked) {
		if err := p.hold(ctx, blocked.Tracked); err != nil {
			return err
		}
		return blocked
	}
	if err := p.hold(ctx, 0); err != nil {
		return err
	}
	for _, path := range gone {
		if err := p.gone(ctx, path, true); err != nil {
			return err
		}
	}
	return nil
}

// topmost are the paths, each with what above it was not there either: where a node is,
// its parents are, though they were looked at a moment too early.
func topmost(back, gone []string) (paths []string) {
	missed := map[string]bool{}
	for _, path := range gone {
		missed[path] = true
	}
	seen := map[string]bool{}
	for _, path := range back {
		for parent := topology.NodeParent(path); missed[parent] && parent != path; parent = topology.NodeParent(path) {
			path = parent
		}
		if !seen[path] {
			seen[path] = true
			paths = append(paths, path)
		}
	}
	return paths
}

// hold remembers in the log that deletes are held back, or that they no longer are.
func (p *Producer) hold(ctx context.Context, tracked int64) error {
	if tracked == p.index.held {
		return nil
	}
	p.index.held = tracked
	return p.append(ctx, topology.NewBlocked(side, tracked))
}

// below tells whether a path is at or below one that could not be read.
func below(path string, refused []ensemble.Refusal) bool {
	for _, r := range refused {
		if topology.NodeWithin(path, r.Path) {
			return true
		}
	}
	return false
}

// lookAgain returns which of the paths exist after all, and those that may not be read.
func (p *Producer) lookAgain(ctx context.Context, paths []string) (back []string, hidden []ensemble.Refusal, err error) {
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(ensemble.DefaultInFlight)
	for _, path := range paths {
		g.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			stat, found, err := p.Source.Exists(path)
			if err != nil || !found {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if stat == nil {
				hidden = append(hidden, ensemble.Refusal{Path: path, Err: &ensemble.Error{Verb: "get", Path: path, Err: zk.ErrNoAuth}})
				return nil
			}
			back = append(back, path)
			return nil
		})
	}
	err = g.Wait()
	return back, hidden, err
}
