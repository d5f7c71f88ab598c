package synchronization

import (
	"time"

	"github.com/afterimage-dr/afterimage/internal/schedule"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// timing is what of a plan decides when it runs.
type timing struct {
	schedule *schedule.Schedule
	suspend  bool
	policy   string
	deadline *int64 // seconds
}

func timingOf(s *v1alpha1.SynchronizationPlanSpec) (timing, error) {
	parsed, err := schedule.Parse(s.Schedule, s.TimeZone)
	return timing{schedule: parsed, suspend: s.Suspend, policy: s.ConcurrencyPolicy, deadline: s.StartingDeadlineSeconds}, err
}

// decision is what is to be done about a plan at a moment.
type decision struct {
	// start the run of this time; zero: none.
	start time.Time
	// waits is a time whose run waits for those that are active to end; zero: none.
	waits time.Time
	// missed counts the times that are given up with this decision; more: at least
	// so many.
	missed int64
	more   bool
	// settled: nothing up to this moment is to be decided any more.
	settled time.Time
	// next time of the schedule; zero while suspended.
	next time.Time
	// wake is when to decide again, if nothing changes before; zero: no need.
	wake time.Time
}

// decide says what is to be done now, as a CronJob decides it: of the times that
// went by only the latest is run, if its starting deadline has not passed. While
// suspended nothing is given up; what that leaves is decided when it is resumed.
func (t timing) decide(settled, now time.Time, active int) decision {
	d := decision{settled: settled}
	if t.suspend {
		return d
	}
	d.next = t.schedule.Next(now)
	d.wake = d.next
	due := t.schedule.Due(settled, now)
	if due.Latest.IsZero() {
		return d
	}
	d.missed, d.more = int64(due.Count-1), due.More
	if d.more {
		d.missed = schedule.MostCounted
	}
	end, limited := t.startBy(due.Latest)
	switch {
	case limited && now.Truncate(time.Second).After(end):
		d.missed++
		d.settled = due.Latest
	case active > 0 && t.policy != v1alpha1.ConcurrencyAllow:
		d.waits = due.Latest
		if due.Count > 1 {
			d.settled = due.Latest.Add(-time.Minute) // all but this one
		}
		if limited && (d.wake.IsZero() || end.Before(d.wake)) {
			d.wake = end.Add(time.Second)
		}
	default:
		d.start, d.settled = due.Latest, due.Latest
	}
	return d
}

// startBy is when the run of a time has to be started at the latest.
func (t timing) startBy(at time.Time) (end time.Time, limited bool) {
	if t.deadline == nil {
		return time.Time{}, false
	}
	return at.Add(time.Duration(*t.deadline) * time.Second), true
}
