package schedule

import (
	"sort"
	"time"
)

// MostCounted is up to how many times Due counts exactly, as a CronJob does.
const MostCounted = 100

// Due are the times of a schedule in a stretch of time.
type Due struct {
	// Latest of them; zero where there are none.
	Latest time.Time
	// Count of them, Latest included: at most MostCounted.
	Count int
	// More: there are more than Count.
	More bool
}

// Due returns the times after since, up to and including now.
func (s *Schedule) Due(since, now time.Time) Due {
	var d Due
	for t := s.Next(since); !t.IsZero() && !t.After(now); t = s.Next(t) {
		if d.Count == MostCounted {
			d.More = true
			break
		}
		d.Count, d.Latest = d.Count+1, t
	}
	if d.More {
		d.Latest = s.latest(d.Latest, now)
	}
	return d
}

// latest is the last time up to now, where there is one after since. It halves the
// stretch, since a clock that was off may have made it decades long.
func (s *Schedule) latest(since, now time.Time) time.Time {
	passed := func(t time.Time) bool { next := s.Next(t); return next.IsZero() || next.After(now) }
	minutes := int(now.Sub(since) / time.Minute)
	// The last time is the first minute after which nothing comes up to now.
	n := sort.Search(minutes, func(i int) bool { return passed(since.Add(time.Duration(i) * time.Minute)) })
	return since.Add(time.Duration(n) * time.Minute)
}
