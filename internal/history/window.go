package history

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/afterimage-dr/afterimage/topology"
)

// Window tells which moments can be told exactly.
type Window struct {
	// From and To: every moment between them is exact, but for those in Gaps. Both
	// are zero while nothing was listed completely yet, or nothing is verified.
	From, To time.Time
	// Why says in words what bounds From.
	Why string
	// Gaps are the times at which nobody watched the source: states may have come
	// and gone unseen, and changes are dated at the end. In order, within the window.
	Gaps []Gap
	// Resources tells since when each resource of the configuration is complete; one
	// that was added later is so from its own first listing. A resource that was
	// never listed (the source does not serve it) is not named.
	Resources map[schema.GroupVersionResource]time.Time
	// VerifiedAt is the moment the source is known up to; the same as To.
	VerifiedAt time.Time
}

// Gap is a time at which nobody watched the source; its bounds are not in it.
type Gap struct {
	From, To time.Time
	// Why in words.
	Why string
}

// ErrFuture: the moment has not come yet.
var ErrFuture = errors.New("the moment is in the future")

// OutsideError: the log no longer, or not yet, tells what the source was then.
type OutsideError struct {
	At, From, To time.Time
	// Why says what bounds From.
	Why string
}

func (e *OutsideError) Error() string {
	if e.From.IsZero() {
		return fmt.Sprintf("the log cannot tell what the source was at %s: %s", stampOf(e.At), e.Why)
	}
	// Rounded inwards: what is printed can be asked for.
	return fmt.Sprintf("the log tells what the source was from %s (%s) to %s, not at %s",
		stampOf(e.From.Add(time.Second-time.Nanosecond).Truncate(time.Second)), e.Why, stampOf(e.To.Truncate(time.Second)), stampOf(e.At))
}

// GapError: the source was not watched at the moment. What the log holds of it is
// the last that was known before; whoever can live with that goes on.
type GapError struct {
	At  time.Time
	Gap Gap
}

func (e *GapError) Error() string {
	return fmt.Sprintf("what the source was at %s is not known exactly: from %s to %s %s",
		stampOf(e.At), stampOf(e.Gap.From), stampOf(e.Gap.To), e.Gap.Why)
}

func stampOf(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Check tells whether a moment can be told exactly: nil, ErrFuture, an
// *OutsideError, or a *GapError, which a person may choose to pass over.
func (w Window) Check(at time.Time) error {
	if now := time.Now(); at.After(now) {
		return fmt.Errorf("%s: %w (it is %s)", stampOf(at), ErrFuture, stampOf(now))
	}
	if w.From.IsZero() || at.Before(w.From) {
		return &OutsideError{At: at, From: w.From, To: w.To, Why: w.Why}
	}
	for _, g := range w.Gaps {
		if at.After(g.From) && at.Before(g.To) {
			return &GapError{At: at, Gap: g}
		}
	}
	if at.After(w.To) {
		return &GapError{At: at, Gap: Gap{From: w.To, To: time.Now(), Why: "the source was not verified"}}
	}
	return nil
}

// Incomplete are the resources of the configuration of which the log does not tell
// everything at a moment: they were covered only later, or are not served. What
// the log holds of them must not be taken for all there was.
func (w Window) Incomplete(config topology.Config, at time.Time) []schema.GroupVersionResource {
	var out []schema.GroupVersionResource
	for _, gvr := range resourcesOf(config) {
		if since, ok := w.Resources[gvr]; !ok || at.Before(since) {
			out = append(out, gvr)
		}
	}
	return out
}

// resourcesOf a configuration, each once.
func resourcesOf(c topology.Config) []schema.GroupVersionResource {
	var out []schema.GroupVersionResource
	for _, r := range c.Replication.Resources {
		gvr := schema.GroupVersionResource{Group: r.Group, Version: r.Version, Resource: r.Resource}
		if !slices.Contains(out, gvr) {
			out = append(out, gvr)
		}
	}
	return out
}

// Window reads the whole change log (see [Snapshot] for one that was read anyway).
func (l Log) Window(ctx context.Context) (Window, error) {
	s, err := l.scan(ctx, nil)
	if err != nil {
		return Window{}, err
	}
	return l.window(ctx, s)
}

func (l Log) window(ctx context.Context, s *scanned) (Window, error) {
	bound, why, err := l.bound(ctx, s)
	if err != nil {
		return Window{}, err
	}
	if !bound.IsZero() {
		bound = bound.Truncate(time.Millisecond).Add(time.Millisecond)
	}
	f := &s.facts
	w := Window{Resources: map[schema.GroupVersionResource]time.Time{}, VerifiedAt: f.verified}
	for _, gvr := range resourcesOf(f.config) {
		if since, ok := f.since[topology.Subject(gvr)]; ok {
			w.Resources[gvr] = later(since, bound)
		}
	}
	switch {
	case len(w.Resources) == 0:
		w.Why = "no resource was listed completely yet"
		return w, nil
	case f.verified.IsZero():
		w.Why = "the log does not say yet up to when the source is known"
		return w, nil
	}
	w.From, w.Why, w.To = bound, why, f.verified
	for gvr, since := range w.Resources {
		// One that was first listed after everything served had been was added later.
		early := f.firstVerified.IsZero() || !f.since[topology.Subject(gvr)].After(f.firstVerified)
		if early && since.After(w.From) {
			w.From, w.Why = since, "first complete listing"
		}
	}
	if w.From.IsZero() { // all that is there was added later
		for _, since := range w.Resources {
			w.From, w.Why = later(w.From, since), "first complete listing"
		}
	}
	w.To = later(w.To, w.From)
	for _, g := range f.joined() {
		if g.To.After(w.From) {
			w.Gaps = append(w.Gaps, g)
		}
	}
	return w, nil
}

// bound is the moment before which the log's cleaner may have removed versions;
// zero if it removed nothing.
func (l Log) bound(ctx context.Context, s *scanned) (at time.Time, why string, err error) {
	if l.Embedded {
		return l.Floor, "the log was cleaned then", nil
	}
	if s.whole {
		return time.Time{}, "", nil
	}
	topic := l.Topics.Changes
	policy, _, err := l.Client.Setting(ctx, topic, "cleanup.policy")
	if err != nil {
		return time.Time{}, "", err
	}
	if strings.Contains(policy, "delete") && s.truncated() {
		return s.end, fmt.Sprintf("topic %s drops old records whatever they say: cleanup.policy is %s", topic, policy), nil
	}
	raw, ok, err := l.Client.Setting(ctx, topic, "min.compaction.lag.ms")
	if err != nil {
		return time.Time{}, "", err
	}
	millis, err := strconv.ParseInt(raw, 10, 64)
	if !ok || err != nil || millis <= 0 {
		// The cleaner has run, and may run at any time.
		return s.end, fmt.Sprintf("the brokers keep no history of topic %s: min.compaction.lag.ms is not set", topic), nil
	}
	lag := time.Duration(min(millis, int64(maxLag/time.Millisecond))) * time.Millisecond
	return s.end.Add(-lag), fmt.Sprintf("audit window of %s", lag), nil
}

// maxLag keeps the largest values Kafka knows within a Duration.
const maxLag = 100 * 365 * 24 * time.Hour

// truncated tells whether records were removed from the start of the log.
func (s *scanned) truncated() bool {
	return slices.ContainsFunc(s.parts, func(p scannedPart) bool { return p.part.Start > 0 })
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
