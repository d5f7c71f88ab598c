package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // zones mean the same on machines that have no zone database

	cron "github.com/netresearch/go-cron"
)

// descriptors are those that a CronJob documents.
var descriptors = []string{"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"}

// parser reads what a CronJob's parser reads: its default of requiring both day of
// month and day of week would run "0 0 1 * MON" a few times a year.
var parser = cron.MustNewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.DowOrDom | cron.Descriptor).
	WithMaxSearchYears(horizonYears)

const fields = "expected five fields (minute, hour, day of month, month, day of week) or one of "

// ErrZone is wrapped by the errors of Parse that are about the zone.
var ErrZone = errors.New("expected a time zone of the IANA database such as Europe/Berlin or Etc/UTC")

// Parse reads a schedule such as "*/5 * * * *" or "@hourly" and the IANA name of its
// time zone; the empty name is the zone of the process, as for a CronJob. The error
// says what was expected, and is ErrZone where the zone is wrong.
func Parse(expr, zone string) (*Schedule, error) {
	loc, err := location(zone)
	if err != nil {
		return nil, err
	}
	want := fields + strings.Join(descriptors, ", ")
	switch name, _, _ := strings.Cut(strings.TrimSpace(expr), " "); {
	case name == "":
		return nil, errors.New(want + ", got nothing")
	case name == "@every":
		return nil, fmt.Errorf("%s: @every has no times of its own, use steps such as */15 * * * *", want)
	case strings.HasPrefix(name, "@") && !isDescriptor(expr):
		return nil, fmt.Errorf("%s, got %q", want, expr)
	case strings.HasPrefix(name, "TZ=") || strings.HasPrefix(name, "CRON_TZ="):
		return nil, fmt.Errorf("%s, without a time zone: use timeZone", want)
	}
	parsed, err := parser.Parse(strings.TrimSpace(expr))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", want, err)
	}
	spec, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return nil, fmt.Errorf("%s, got %q", want, expr)
	}
	s := &Schedule{fields: spec, zone: loc}
	// From a year that has every day there is.
	if s.Next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, fmt.Errorf("expected a schedule that comes to pass, %q never does", expr)
	}
	return s, nil
}

func isDescriptor(expr string) bool {
	for _, d := range descriptors {
		if strings.TrimSpace(expr) == d {
			return true
		}
	}
	return false
}

func location(zone string) (*time.Location, error) {
	if zone == "" {
		return time.Local, nil
	}
	// By name the process's own zone is refused: another process may have another.
	if strings.EqualFold(zone, "local") || strings.TrimSpace(zone) != zone {
		return nil, fmt.Errorf("%w, got %q", ErrZone, zone)
	}
	loc, err := time.LoadLocation(zone)
	if err != nil {
		return nil, fmt.Errorf("%w, got %q", ErrZone, zone)
	}
	return loc, nil
}
