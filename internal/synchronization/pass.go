package synchronization

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/consumers/synchronizer"
	"github.com/afterimage-dr/afterimage/internal/pipeline"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

const (
	// look is how often the status is looked at, and beatEvery how often a heartbeat
	// is asked for while one is waited for: each costs one small request a resource.
	look      = 50 * time.Millisecond
	beatEvery = time.Second
	// stalledAfter: an attempt in which nothing moves for so long, though nothing is
	// known to be wrong, has failed. Without it a run without a deadline could hold
	// up its plan for good.
	stalledAfter = 10 * time.Minute
)

// pass watches one pass of the pipeline to its end.
type pass struct {
	*pipeline.Pass
	*kubernetes
	began    time.Time
	progress func(v1alpha1.SynchronizationResult)
	tally    *tally

	status v1alpha1.LiveSynchronizationStatus // as of the last look
	// moved is when anything was last seen to move, and mark what it looked like.
	moved time.Time
	mark  string
	told  v1alpha1.SynchronizationResult
	// left is what no comparison could bring about.
	left int64
}

// watch waits for the proof and counts.
func (p *pass) watch(ctx context.Context) (Outcome, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	following := make(chan struct{})
	go func() {
		defer close(following)
		if err := p.tally.follow(ctx, p.Client); err != nil {
			cancel(err)
		}
	}()
	err := p.prove(ctx)
	cancel(nil)
	<-following
	return p.outcome(), err
}

// prove returns when everything is as it must be, or is known to fail.
func (p *pass) prove(ctx context.Context) error {
	if err := p.until(ctx, p.read); err != nil {
		return err
	}
	if served := func(r v1alpha1.ResourceStatus) bool { return r.Ready }; !slices.ContainsFunc(p.status.Resources, served) {
		return fmt.Errorf("the source serves none of the resources: %s", p.notServed())
	}
	if err := p.verified(ctx); err != nil {
		return err
	}
	if err := p.heal(ctx); err != nil {
		return err
	}
	if err := p.compare(ctx); err != nil {
		return err
	}
	return p.heal(ctx)
}

// verified waits until the listings made after the start, and all they led to, have
// come all the way through the log.
func (p *pass) verified(ctx context.Context) error {
	for {
		if err := p.flush(ctx); err != nil {
			return err
		}
		if !p.tally.arrived().verified.Before(p.began) {
			return p.blocked()
		}
		// Everything else is done by now.
		if err := p.blocked(); err != nil {
			return err
		}
		if err := p.pause(ctx, beatEvery/2); err != nil {
			return err
		}
	}
}

// compare repeats both comparisons until they find nothing that could still be done.
func (p *pass) compare(ctx context.Context) error {
	for before := int64(-1); ; before = p.tally.moved() {
		differences, err := p.comparison(ctx, p.CompareDestination, p.DestinationCompared)
		if err != nil {
			return err
		}
		orphans, err := p.comparison(ctx, p.CompareClusters, p.ClustersCompared)
		if err != nil {
			return err
		}
		if err := p.blocked(); err != nil || differences+orphans == 0 {
			return err
		}
		if p.tally.moved() == before {
			// Found again and nothing came of it: they carry our marks, and are for
			// some reason not to be touched (adopted, moved by hand).
			p.left = int64(max(differences, orphans))
			return nil
		}
	}
}

// comparison makes one, and waits until what it found is dealt with.
func (p *pass) comparison(ctx context.Context, begin func(), last func() (time.Time, int)) (found int, err error) {
	at := time.Now()
	begin()
	if err := p.until(ctx, func() bool {
		began, n := last()
		found = n
		return !began.Before(at)
	}); err != nil || found == 0 {
		return found, err
	}
	if err := p.until(ctx, func() bool {
		answered, err := p.Answered(ctx)
		return err == nil && answered
	}); err != nil {
		return found, err
	}
	return found, p.flush(ctx)
}

// flush waits until everything that is in the log now has its effect.
func (p *pass) flush(ctx context.Context) error {
	at := time.Now()
	var asked time.Time
	return p.until(ctx, func() bool {
		if time.Since(asked) >= beatEvery {
			p.Beat()
			asked = time.Now()
		}
		pending := p.status.Objects.OutOfSync - p.status.Objects.Failed
		return !p.tally.arrived().observed.Before(at) && pending <= 0 && p.Archived(at)
	})
}

// heal waits for objects that wait for something else, as long as any of them is
// tried with success now and then.
func (p *pass) heal(ctx context.Context) error {
	began := time.Now()
	return p.until(ctx, func() bool {
		return !p.mayHeal() || time.Since(began) > p.Grace && time.Since(p.moved) > p.Grace
	})
}

// hopeless are the reasons of failures that nothing in this pass can mend.
var hopeless = map[string]bool{
	synchronizer.ReasonNotOwned: true, synchronizer.ReasonImmutable: true, synchronizer.ReasonInvalid: true,
	synchronizer.ReasonPatchFailed: true, synchronizer.ReasonOverridden: true,
}

func (p *pass) mayHeal() bool {
	all := failed(&p.status)
	return all > int64(len(p.status.Failing)) || slices.ContainsFunc(p.status.Failing, func(f v1alpha1.FailingObject) bool { return !hopeless[f.Reason] })
}

// until looks at the status until done, or until the pass cannot go on.
func (p *pass) until(ctx context.Context, done func() bool) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		if err := p.observe(); err != nil {
			return err
		}
		if done() {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.Done():
			return p.Err()
		case <-tick.C:
		}
	}
}

func (p *pass) pause(ctx context.Context, d time.Duration) error {
	end := time.Now().Add(d)
	return p.until(ctx, func() bool { return time.Now().After(end) })
}

// observe takes the status in, tells the progress, and returns an error where the
// attempt is to be given up.
func (p *pass) observe() error {
	p.status = p.Status()
	now := p.tally.result(&p.status)
	if p.progress != nil && now != p.told {
		p.told = now
		p.progress(now)
	}
	if mark := p.look(); mark != p.mark {
		p.mark, p.moved = mark, time.Now()
	}
	if err := p.halted(); err != nil {
		return err
	}
	still := time.Since(p.moved)
	if what := trouble(&p.status); what != "" && still > p.Patience {
		return fmt.Errorf("%s, and nothing moved for %s", what, still.Round(time.Second))
	}
	if still > stalledAfter {
		return fmt.Errorf("nothing moved for %s", still.Round(time.Second))
	}
	return nil
}

// look is what shows that something moves.
func (p *pass) look() string {
	var b strings.Builder
	_, _ = fmt.Fprint(&b, p.tally.moved(), p.tally.arrived().verified.UnixNano(), p.status.Objects)
	for _, r := range p.status.Resources {
		if r.Ready || r.Reason == "Listing" {
			_, _ = fmt.Fprint(&b, r.Resource, r.Ready, r.Message)
		}
	}
	return b.String()
}

// final are the conditions that end an attempt: trying again meets them again,
// until a person acts.
var final = []string{"SourceChanged", "SameCluster", "Halted", "PartitionCountChanged", "ConfigRefused", "ConfigurationRejected"}

// halted tells why nothing will be written until a person acts.
func (p *pass) halted() error {
	for _, kind := range final {
		if c := meta.FindStatusCondition(p.status.Conditions, kind); c != nil && c.Status == metav1.ConditionTrue {
			return Permanent(&refused{kind, c.Message})
		}
	}
	for _, c := range p.status.Components {
		if c.Reason == "Fenced" {
			return Permanent(&refused{c.Reason, c.Message})
		}
	}
	return nil
}

// blocked tells which deletes wait for a person.
func (p *pass) blocked() error {
	c := meta.FindStatusCondition(p.status.Conditions, "PruneBlocked")
	if c == nil || c.Status != metav1.ConditionTrue {
		return nil
	}
	where := fmt.Sprintf("on the next Synchronization that owns the objects of %q", Owner(p.run))
	if plan := planOf(p.run); plan != "" {
		where = "in spec.template.metadata.annotations of SynchronizationPlan " + plan
	}
	return Permanent(&refused{c.Type, c.Message + ", " + where})
}

// read tells whether everything the source serves was listed.
func (p *pass) read() bool {
	return len(p.status.Resources) > 0 && !slices.ContainsFunc(p.status.Resources, func(r v1alpha1.ResourceStatus) bool {
		return !r.Ready && r.Reason != "NotServed"
	})
}

func (p *pass) notServed() string {
	var names []string
	for _, r := range p.status.Resources {
		if !r.Ready {
			names = append(names, r.Resource)
		}
	}
	return strings.Join(names, ", ")
}

// normal are the reasons of components and resources that are on their way.
var normal = map[string]bool{
	"": true, "Starting": true, "Waiting": true, "WaitingForPartitions": true, "CatchingUp": true, "NoConfiguration": true,
	"NotRunning": true, "NotProbed": true, "Listing": true, "Resolving": true, "NotServed": true,
}

// trouble names what is out of reach or cannot be read; "" where nothing is.
func trouble(st *v1alpha1.LiveSynchronizationStatus) string {
	for _, c := range st.Conditions {
		reach := strings.HasSuffix(c.Type, "Reachable") || c.Type == "StreamReady" || c.Type == "BucketReady"
		if reach && c.Status != metav1.ConditionTrue && !normal[c.Reason] {
			what := strings.ToLower(strings.TrimSuffix(strings.TrimSuffix(c.Type, "Reachable"), "Ready"))
			return fmt.Sprintf("%s %s: %s", what, c.Reason, c.Message)
		}
	}
	for _, r := range st.Resources {
		if !r.Ready && !normal[r.Reason] {
			return fmt.Sprintf("%s cannot be read: %s", r.Resource, cmp.Or(r.Message, r.Reason))
		}
	}
	for _, c := range st.Components {
		if !c.Ready && !normal[c.Reason] {
			return fmt.Sprintf("%s: %s", c.Name, cmp.Or(c.Message, c.Reason))
		}
	}
	return ""
}

// failed is how many objects are not as they must be, in the destination or in the
// bucket, of which at most some are named.
func failed(st *v1alpha1.LiveSynchronizationStatus) int64 {
	n := st.Objects.Failed
	for _, f := range st.Failing {
		if strings.HasPrefix(f.Reason, "Bucket") { // the archiver's; all others are counted
			n++
		}
	}
	return n
}

// outcome is what was done, with the failures by name.
func (p *pass) outcome() Outcome {
	out := Outcome{Result: p.tally.result(&p.status)}
	out.Result.Skipped += p.left
	for _, f := range p.status.Failing {
		out.Failures = append(out.Failures, v1alpha1.Failure{Object: f.Object, Reason: f.Reason, Message: f.Message})
	}
	return out
}
