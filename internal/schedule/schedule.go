package schedule

import (
	"time"

	cron "github.com/netresearch/go-cron"
)

// horizonYears is how far ahead a next time is looked for. The 29th of February,
// the rarest time there is, stays away for eight years at most (around 2100).
const horizonYears = 10

// Schedule is a parsed schedule in its time zone. Safe for concurrent use.
type Schedule struct {
	fields *cron.SpecSchedule
	zone   *time.Location
}

// Next is the first time after t, at a full minute; zero where there is none within
// ten years.
func (s *Schedule) Next(t time.Time) time.Time {
	limit := t.AddDate(horizonYears, 0, 0)
	// The library's own way over changes of the clock runs a time that was leapt
	// over at another one, and loses days that have no midnight. So it is only shown
	// a wall clock that never changes: that of one stretch of the zone after another.
	stretch := t.In(s.zone)
	for from := t; !stretch.After(limit); {
		_, seconds := stretch.Zone()
		offset := time.Duration(seconds) * time.Second
		next := s.fields.Next(from.Add(offset).UTC())
		if next.IsZero() {
			return next
		}
		next = next.Add(-offset).In(s.zone)
		_, end := stretch.ZoneBounds()
		if end.IsZero() || next.Before(end) {
			return next
		}
		stretch = end
		from = end.Add(-time.Nanosecond) // the moment of the change may be one
	}
	return time.Time{}
}
