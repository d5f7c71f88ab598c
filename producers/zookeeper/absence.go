package zookeeper

import (
	"context"
	"sync"

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
		return nil
	}
	back, err := p.lookAgain(ctx, gone)
	if err != nil {
		return err
	}
	for _, path := range back { // created while its parent had been passed
		if err := walk(path); err != nil {
			return err
		}
	}
	if len(back) > 0 {
		gone, tracked = p.index.unseen(asked)
	}
	childrenFirst(gone)
	if err := breaker.Paths(p.Breaker, "that the log holds are missing in the source", gone, tracked, p.Confirmed); err != nil {
		return err
	}
	for _, path := range gone {
		if err := p.gone(ctx, path, true); err != nil {
			return err
		}
	}
	return nil
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

// lookAgain returns which of the paths exist after all.
func (p *Producer) lookAgain(ctx context.Context, paths []string) (back []string, err error) {
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(ensemble.DefaultInFlight)
	for _, path := range paths {
		g.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			_, found, err := p.Source.Exists(path)
			if err != nil || !found {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			back = append(back, path)
			return nil
		})
	}
	return back, g.Wait()
}
