package history

import (
	"cmp"
	"slices"
	"time"

	"github.com/afterimage-dr/afterimage/topology"
)

// unverifiedAfter is for how long the moment of verification may stand still
// before the source counts as unwatched meanwhile: changes made in that time may
// have been learned of, and so be dated, only at its end. An idle resource is
// verified each minute or so, by a bookmark.
const unverifiedAfter = 3 * time.Minute

// facts are what control records say: of a partition, or merged, of all.
type facts struct {
	config topology.Config
	// since when each resource, by subject, is complete.
	since map[string]time.Time
	// verified: everything the source had at that moment is in the log.
	verified time.Time
	// firstVerified is when the log first said so: everything served had been listed.
	firstVerified time.Time
	gaps          []Gap
	// open are gaps whose end is not verified yet.
	open []Gap
}

func newFacts() facts { return facts{since: map[string]time.Time{}} }

// configured takes in a configuration. A resource that it does not name is not
// kept up to date from here on: it has to be listed anew when it is named again.
func (f *facts) configured(c topology.Config) {
	named := map[string]bool{}
	for _, gvr := range resourcesOf(c) {
		named[topology.Subject(gvr)] = true
	}
	for subject := range f.since {
		if !named[subject] {
			delete(f.since, subject)
		}
	}
	if c.Generation >= f.config.Generation {
		f.config = c
	}
}

func (f *facts) complete(subject string, at time.Time) {
	if _, ok := f.since[subject]; !ok {
		f.since[subject] = at
	}
}

func (f *facts) heartbeat(r *topology.Record) {
	v := r.VerifiedAt
	if !v.After(f.verified) {
		return // a listener that just began knows nothing yet
	}
	// What was missed is dated when it was learned of, at the latest now: a verified
	// moment is one whose changes are all in the log, not yet one they are dated at.
	caughtUp := r.Moment()
	if f.firstVerified.IsZero() {
		f.firstVerified = r.AppendedAt
	} else if v.Sub(f.verified) > unverifiedAfter {
		f.gaps = append(f.gaps, Gap{From: f.verified, To: caughtUp, Why: "the source could not be read in full"})
	}
	f.verified = v
	f.open = slices.DeleteFunc(f.open, func(g Gap) bool {
		if v.Before(g.To) {
			return false
		}
		g.To = later(g.To, caughtUp)
		f.gaps = append(f.gaps, g)
		return true
	})
}

func (f *facts) gap(b topology.GapBody) {
	f.open = append(f.open, Gap{From: b.From, To: b.To, Why: "no eventslistener was running"})
}

// merge takes in the facts of another partition: complete and verified is what is
// so in every one.
func (f *facts) merge(o facts, first bool) {
	if o.config.Generation >= f.config.Generation {
		f.config = o.config
	}
	if first {
		f.since, f.verified, f.firstVerified = o.since, o.verified, o.firstVerified
	} else {
		for subject, at := range f.since {
			other, ok := o.since[subject]
			switch {
			case !ok:
				delete(f.since, subject)
			case other.After(at):
				f.since[subject] = other
			}
		}
		if o.verified.Before(f.verified) {
			f.verified = o.verified
		}
		switch {
		case f.firstVerified.IsZero() || o.firstVerified.IsZero():
			f.firstVerified = time.Time{}
		case o.firstVerified.After(f.firstVerified):
			f.firstVerified = o.firstVerified
		}
	}
	f.gaps = append(f.gaps, o.gaps...)
	f.open = append(f.open, o.open...)
}

// joined are all gaps in order, those that overlap as one.
func (f *facts) joined() []Gap {
	all := append(slices.Clone(f.gaps), f.open...)
	slices.SortFunc(all, func(a, b Gap) int { return cmp.Or(a.From.Compare(b.From), b.To.Compare(a.To)) })
	var out []Gap
	for _, g := range all {
		last := len(out) - 1
		if last >= 0 && g.From.Before(out[last].To) {
			if g.To.After(out[last].To) {
				out[last].To = g.To
			}
			continue
		}
		out = append(out, g)
	}
	return out
}
