package processor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/afterimage-dr/afterimage/internal/breaker"
	"github.com/afterimage-dr/afterimage/internal/settings"
)

// errNoPartitions: the topic cannot be asked how many it has.
var errNoPartitions = errors.New("changes has no partitions")

// countPartitions learns how many partitions changes has. It never changes.
func (p *Processor) countPartitions(ctx context.Context) error {
	p.mu.Lock()
	known := p.total > 0
	p.mu.Unlock()
	if known {
		return nil
	}
	all, err := p.Log.Partitions(ctx, p.Topics.Changes)
	if err == nil && len(all) == 0 {
		err = errNoPartitions
	}
	if err != nil {
		return fmt.Errorf("counting the partitions: %w", err)
	}
	p.mu.Lock()
	p.total = len(all)
	p.mu.Unlock()
	return nil
}

// judge decides, over all partitions of this process, whether a change of the
// configuration may take what it takes, and says why not.
func (p *Processor) judge(s settings.Settings, of share) (verdict, string) {
	if s.ConfirmsPrune(of.token) {
		return allowed, ""
	}
	statuses := p.statuses()
	ready := p.steady()
	for _, st := range statuses {
		if st.share.token == of.token && st.share.blocked {
			return blocked, "" // it was said there
		}
		ready = ready && st.share.done && st.share.token == of.token
	}
	if !ready {
		return undecided, ""
	}
	if why := p.excess(statuses, of.token); len(why) > 0 {
		return blocked, strings.Join(why, "; ")
	}
	return allowed, ""
}

// steady tells whether the partitions have been the same for a while: a few of
// them, given first, must not speak for all.
func (p *Processor) steady() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Since(p.changed) >= p.Settle
}

// excess says by what a configuration is beyond the limit.
func (p *Processor) excess(statuses []status, token string) (why []string) {
	tracked, taken := map[string]int64{}, map[string]int64{}
	for _, st := range statuses {
		if st.share.token == token {
			add(tracked, st.share.tracked)
			add(taken, st.share.taken)
		}
	}
	p.mu.Lock()
	total := p.total
	p.mu.Unlock()
	limit := p.limit.Share(len(statuses), total)
	where := ""
	if len(statuses) < total {
		where = fmt.Sprintf(" (in the %d of %d partitions of this process)", len(statuses), total)
	}
	var all breaker.Tally
	for resource := range taken {
		all.Gone += taken[resource]
	}
	for resource := range tracked {
		all.Tracked += tracked[resource]
	}
	everything := false
	for _, resource := range slices.Sorted(maps.Keys(taken)) {
		t := breaker.Tally{Gone: taken[resource], Tracked: tracked[resource]}
		switch limit.Judge(t, all) {
		case breaker.Resource, breaker.Whole:
			why = append(why, fmt.Sprintf("the configuration would delete %d of %d objects of %s%s", t.Gone, t.Tracked, resource, where))
		case breaker.All:
			everything = true
		}
	}
	if everything {
		why = append(why, fmt.Sprintf("the configuration would delete %d of %d objects of the LiveSynchronization%s", all.Gone, all.Tracked, where))
	}
	return why
}

// blockedMessage says what a change of the configuration would delete and how to
// confirm it; "" when nothing waits.
func (p *Processor) blockedMessage(statuses []status) string {
	token := ""
	for _, st := range statuses {
		if st.share.blocked {
			token = st.share.token
		}
	}
	if token == "" {
		return ""
	}
	why := p.excess(statuses, token)
	if len(why) == 0 {
		why = []string{"the configuration would delete what waits to be confirmed"}
	}
	return fmt.Sprintf("%s. Nothing of it is deleted. If this is meant, confirm it with the annotation afterimage.io/confirm-prune: %q; otherwise change the configuration back",
		strings.Join(why, "; "), token)
}
