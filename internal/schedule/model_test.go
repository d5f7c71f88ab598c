package schedule

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model is a schedule as the sets of what its fields let through; nil: everything.
type model struct {
	minute, hour, day, month, weekday []int
	zone                              *time.Location
}

var zones = []string{"Etc/UTC", "Europe/Berlin", "America/New_York", "Africa/Cairo", "Australia/Lord_Howe", "Asia/Kolkata"}

func drawModel(t *rapid.T) (m model, expr string) {
	var fields []string
	field := func(name string, low, high int) []int {
		set := rapid.SliceOfNDistinct(rapid.IntRange(low, high), 0, 4, rapid.ID[int]).Draw(t, name)
		if len(set) == 0 {
			fields = append(fields, "*")
			return nil
		}
		var parts []string
		for _, n := range set {
			parts = append(parts, strconv.Itoa(n))
		}
		fields = append(fields, strings.Join(parts, ","))
		return set
	}
	m.minute = field("minutes", 0, 59)
	m.hour = field("hours", 0, 4) // where clocks are changed
	m.day = field("days", 1, 28)
	m.month = field("months", 1, 12)
	m.weekday = field("weekdays", 0, 6)
	m.zone, _ = time.LoadLocation(rapid.SampledFrom(zones).Draw(t, "zone"))
	return m, strings.Join(fields, " ")
}

// matches says what crontab(5) does of one minute.
func (m model) matches(t time.Time) bool {
	t = t.In(m.zone)
	in := func(set []int, n int) bool { return set == nil || slices.Contains(set, n) }
	day, weekday := in(m.day, t.Day()), in(m.weekday, int(t.Weekday()))
	either := day && weekday
	if m.day != nil && m.weekday != nil {
		either = day || weekday
	}
	return in(m.minute, t.Minute()) && in(m.hour, t.Hour()) && in(m.month, int(t.Month())) && either
}

// changes of the clock in the zones of the model, so that stretches often hold one.
var changes = []string{
	"2026-03-08T07:00:00Z", "2026-03-29T01:00:00Z", "2026-04-04T15:00:00Z", "2026-04-23T22:00:00Z",
	"2026-10-03T15:30:00Z", "2026-10-25T01:00:00Z", "2026-10-29T21:00:00Z", "2026-11-01T06:00:00Z",
}

// TestAgainstEachMinute compares with looking at every minute there is.
func TestAgainstEachMinute(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, expr := drawModel(t)
		s, err := Parse(expr, m.zone.String())
		if err != nil {
			t.Fatal(err)
		}
		change, _ := time.Parse(time.RFC3339, rapid.SampledFrom(changes).Draw(t, "change"))
		since := change.Add(-time.Duration(rapid.IntRange(0, 2*24*3600).Draw(t, "seconds before")) * time.Second)
		now := since.Add(time.Duration(rapid.IntRange(0, 4*24*3600).Draw(t, "seconds")) * time.Second)

		var all []time.Time
		for at := since.Truncate(time.Minute).Add(time.Minute); !at.After(now); at = at.Add(time.Minute) {
			if m.matches(at) {
				all = append(all, at)
			}
		}
		want := Due{Count: min(len(all), MostCounted), More: len(all) > MostCounted}
		if len(all) > 0 {
			want.Latest = all[len(all)-1]
		}
		got := s.Due(since, now)
		if got.Latest = got.Latest.UTC(); got != want {
			t.Fatalf("%q in %s: %+v, want %+v", expr, m.zone, got, want)
		}
		next := s.Next(since)
		switch {
		case next.IsZero() || !next.After(since) || !next.Truncate(time.Minute).Equal(next):
			t.Fatalf("next of %s is %s: want a later full minute", since, next)
		case !m.matches(next):
			t.Fatalf("%q in %s: next is %s, which does not match", expr, m.zone, next)
		case len(all) > 0 && !next.Equal(all[0]):
			t.Fatalf("%q in %s: next is %s, want %s", expr, m.zone, next, all[0])
		case len(all) == 0 && !next.After(now):
			t.Fatalf("%q in %s: next is %s, want none up to %s", expr, m.zone, next, now)
		}
	})
}

// FuzzParse finds no expression that parses and cannot be used.
func FuzzParse(f *testing.F) {
	for _, expr := range []string{"*/5 * * * *", "@hourly", "0 0 29 2 *", "TZ= 0", "@every 0s", "0-59/7 22-2 L * FRI#3", "1,, * * * *"} {
		f.Add(expr, "Europe/Berlin")
	}
	from := time.Date(2026, 11, 25, 4, 30, 10, 0, time.UTC)
	f.Fuzz(func(t *testing.T, expr, zone string) {
		s, err := Parse(expr, zone)
		if err != nil {
			return
		}
		if next := s.Next(from); !next.After(from) || next.Second() != 0 {
			t.Errorf("next of %q in %q: %s", expr, zone, fmt.Sprint(next))
		}
	})
}
