package archiver

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/afterimage-dr/afterimage/internal/breaker"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// blocked is what the last comparison did not remove.
type blocked struct{ token, why string }

func (r *resync) isBlocked() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.blocked.token != ""
}

// settle removes what a comparison found to be too much. What a tombstone of the
// log says goes at once. What is only concluded passes the limit, over the whole
// listing, or waits for a person (guarantee 8).
func (r *resync) settle(ctx context.Context, c *comparison) error {
	for _, k := range c.gone {
		if err := k.part.remove(ctx, k.key, k.version); err != nil {
			return err
		}
	}
	s := r.a.Settings.Load()
	// Who confirmed what a configuration takes at the destination has confirmed it
	// here: one token for both.
	leftConfirmed := false
	for _, p := range c.parts {
		if rules := p.rules.Load(); rules != nil {
			leftConfirmed = s.ConfirmsPrune(rules.Config().PruneToken())
			break
		}
	}
	why := c.excess(!leftConfirmed, r.a.limit.Share(len(c.parts), int(c.total)))
	token := fmt.Sprintf("bucket-%016x", c.leftSet^c.lostSet)
	if len(why) > 0 && !s.ConfirmsPrune(token) {
		r.block(blocked{token: token, why: strings.Join(why, "; ")})
		if !leftConfirmed {
			return nil
		}
		return c.removeLeft(ctx)
	}
	r.block(blocked{})
	if err := c.removeLeft(ctx); err != nil {
		return err
	}
	for _, k := range c.judged {
		if err := k.part.remove(ctx, k.key, k.version); err != nil {
			return err
		}
	}
	c.over = c.over || c.unread > 0
	return nil
}

// block says once what is not removed.
func (r *resync) block(b blocked) {
	r.mu.Lock()
	news := b.token != r.blocked.token
	r.blocked = b
	r.mu.Unlock()
	if news && b.token != "" {
		r.a.Logger.Error("originals that nothing in the log stands for are kept in the bucket until a person confirms their removal", "reason", b.why, "token", b.token)
	}
}

// excess says by what the removals are beyond the limit.
func (c *comparison) excess(withLeft bool, limit breaker.Limit) (why []string) {
	gone := maps.Clone(c.lost)
	if withLeft {
		for resource, n := range c.left {
			gone[resource] += n
		}
	}
	var all breaker.Tally
	for _, n := range gone {
		all.Gone += n
	}
	for _, n := range c.tracked {
		all.Tracked += n
	}
	all.Gone += c.unread
	all.Tracked += c.unread
	everything := c.unread > limit.Few && 2*all.Gone > all.Tracked
	for _, resource := range slices.Sorted(maps.Keys(gone)) {
		t := breaker.Tally{Gone: gone[resource], Tracked: c.tracked[resource]}
		switch limit.Judge(t, all) {
		case breaker.Resource, breaker.Whole:
			why = append(why, fmt.Sprintf("%d of %d originals of %s would be removed from the bucket", t.Gone, t.Tracked, resource))
		case breaker.All:
			everything = true
		}
	}
	if everything {
		why = append(why, fmt.Sprintf("%d of %d originals would be removed from the bucket", all.Gone, all.Tracked))
	}
	return why
}

// removeLeft removes what a change of the configuration left out.
func (c *comparison) removeLeft(ctx context.Context) error {
	for _, p := range c.parts {
		var keys []topology.Key
		var versions []topology.Version
		err := c.a.State.Each(p.id, "", func(name string, e state.Entry) error {
			key, err := topology.ParseKey(name)
			if err == nil && !e.Deleted && has(e, markLeftOut) {
				keys, versions = append(keys, key), append(versions, versionOf(e))
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("going over what is remembered: %w", err)
		}
		for i := range keys {
			if err := p.remove(ctx, keys[i], versions[i]); err != nil {
				return err
			}
		}
	}
	return nil
}
