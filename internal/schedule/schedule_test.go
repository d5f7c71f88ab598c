package schedule

import (
	"cmp"
	"errors"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

func parse(t *testing.T, expr, zone string) *Schedule {
	t.Helper()
	s, err := Parse(expr, cmp.Or(zone, "Etc/UTC"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func moment(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestNext(t *testing.T) {
	for name, c := range map[string]struct {
		reason     string
		expr, zone string
		from       string
		want       []string
	}{
		"every minute": {
			reason: "the next is later than the moment, also when that is one of its times",
			expr:   "* * * * *", from: "2026-11-25T04:30:00Z",
			want: []string{"2026-11-25T04:31:00Z", "2026-11-25T04:32:00Z"},
		},
		"within a minute": {
			reason: "times are at full minutes",
			expr:   "*/5 * * * *", from: "2026-11-25T04:31:59.5Z",
			want: []string{"2026-11-25T04:35:00Z"},
		},
		"descriptor": {
			reason: "a descriptor is what it stands for",
			expr:   "@weekly", from: "2026-11-25T04:30:00Z",
			want: []string{"2026-11-29T00:00:00Z", "2026-12-06T00:00:00Z"},
		},
		"day of month or of week": {
			reason: "where both are restricted one is enough, as crontab and CronJob have it",
			expr:   "0 0 13 * FRI", from: "2026-11-25T00:00:00Z",
			want: []string{"2026-11-27T00:00:00Z", "2026-12-04T00:00:00Z", "2026-12-11T00:00:00Z", "2026-12-13T00:00:00Z"},
		},
		"Sunday is 0 and 7": {
			reason: "crontab knows both",
			expr:   "0 12 * * 7", from: "2026-11-25T00:00:00Z",
			want: []string{"2026-11-29T12:00:00Z"},
		},
		"a leap day, eight years on": {
			reason: "2100 is no leap year",
			expr:   "0 0 29 2 *", from: "2096-03-01T00:00:00Z",
			want: []string{"2104-02-29T00:00:00Z"},
		},
		"a zone": {
			reason: "the wall clock of the zone counts, whatever that of the moment",
			expr:   "30 9 * * *", zone: "Asia/Kolkata", from: "2026-11-25T04:30:00-05:00",
			want: []string{"2026-11-26T09:30:00+05:30"},
		},
		"Berlin leaps over the time": {
			reason: "02:30 does not come on 29 March 2026: not run at another time either",
			expr:   "30 2 * * *", zone: "Europe/Berlin", from: "2026-03-28T00:00:00Z",
			want: []string{"2026-03-28T02:30:00+01:00", "2026-03-30T02:30:00+02:00"},
		},
		"Berlin leaps, each quarter": {
			reason: "what is there goes on without a hole",
			expr:   "*/30 * * * *", zone: "Europe/Berlin", from: "2026-03-29T00:30:00Z",
			want: []string{"2026-03-29T03:00:00+02:00", "2026-03-29T03:30:00+02:00"},
		},
		"Berlin reads the time twice": {
			reason: "02:30 comes twice on 25 October 2026, as with a CronJob",
			expr:   "30 2 * * *", zone: "Europe/Berlin", from: "2026-10-24T12:00:00Z",
			want: []string{"2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", "2026-10-26T02:30:00+01:00"},
		},
		"Berlin, the moment of the change": {
			reason: "the clock goes from 02:59 to 02:00: that is a 02:00 as the one before",
			expr:   "0 2 * * *", zone: "Europe/Berlin", from: "2026-10-24T12:00:00Z",
			want: []string{"2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-26T02:00:00+01:00"},
		},
		"New York leaps over the time": {
			reason: "02:15 does not come on 8 March 2026",
			expr:   "15 2 * * *", zone: "America/New_York", from: "2026-03-07T12:00:00Z",
			want: []string{"2026-03-09T02:15:00-04:00"},
		},
		"New York reads the time twice": {
			reason: "01:15 comes twice on 1 November 2026",
			expr:   "15 1 * * *", zone: "America/New_York", from: "2026-11-01T04:00:00Z",
			want: []string{"2026-11-01T01:15:00-04:00", "2026-11-01T01:15:00-05:00", "2026-11-02T01:15:00-05:00"},
		},
		"Cairo has no midnight that day": {
			reason: "a day without a midnight is a day nevertheless",
			expr:   "0 12 26 4 *", zone: "Africa/Cairo", from: "2024-01-01T00:00:00Z",
			want: []string{"2024-04-26T12:00:00+03:00", "2025-04-26T12:00:00+03:00"},
		},
		"Lord Howe moves by half an hour": {
			reason: "02:15 is leapt over, 02:45 is not",
			expr:   "15,45 2 * * *", zone: "Australia/Lord_Howe", from: "2026-10-03T12:00:00Z",
			want: []string{"2026-10-04T02:45:00+11:00", "2026-10-05T02:15:00+11:00"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := parse(t, c.expr, c.zone)
			var got, want []time.Time
			at := moment(t, c.from)
			for _, w := range c.want {
				at = s.Next(at)
				got, want = append(got, at.UTC()), append(want, moment(t, w).UTC())
			}
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		expr, zone string
		want       string
		zoneIsBad  bool
	}{
		"nothing":             {expr: " ", want: "expected five fields"},
		"six fields":          {expr: "0 0 0 * * *", want: "expected exactly 5 fields, found 6"},
		"out of range":        {expr: "60 * * * *", want: "above maximum (59)"},
		"no number":           {expr: "a * * * *", want: `"a"`},
		"hash":                {expr: "H * * * *", want: "expected five fields"},
		"@every":              {expr: "@every 5m", want: "use steps such as */15"},
		"@reboot":             {expr: "@reboot", want: "or one of @yearly"},
		"descriptor and more": {expr: "@hourly 5", want: "or one of @yearly"},
		"zone within":         {expr: "CRON_TZ=Europe/Berlin 0 0 * * *", want: "use timeZone"},
		"30 February":         {expr: "0 0 30 2 *", want: "comes to pass"},
		"31 June":             {expr: "0 0 31 6 ?", want: "comes to pass"},
		"empty list":          {expr: "0 , * * *", want: "comes to pass"},
		"very long":           {expr: strings.Repeat("1,", 2000) + "1 * * * *", want: "too long"},
		"no such zone":        {expr: "0 0 * * *", zone: "Europe/Bärlin", want: "IANA", zoneIsBad: true},
		"a path":              {expr: "0 0 * * *", zone: "../UTC", want: "IANA", zoneIsBad: true},
		"the machine's":       {expr: "0 0 * * *", zone: "Local", want: "IANA", zoneIsBad: true},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(c.expr, c.zone)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "expected") {
				t.Errorf("error %v, want one with %q that says what was expected", err, c.want)
			}
			if errors.Is(err, ErrZone) != c.zoneIsBad {
				t.Errorf("error %v; of the zone: %v, want %v", err, !c.zoneIsBad, c.zoneIsBad)
			}
		})
	}
}

func TestZoneOfTheProcess(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	before := time.Local
	t.Cleanup(func() { time.Local = before })
	time.Local = berlin
	s, err := Parse("0 9 * * *", "")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.Next(moment(t, "2026-11-25T00:00:00Z")), moment(t, "2026-11-25T09:00:00+01:00"); !got.Equal(want) {
		t.Errorf("without timeZone, in a process in Berlin: %s, want %s", got, want)
	}
}

func TestDue(t *testing.T) {
	for name, c := range map[string]struct {
		reason     string
		expr, zone string
		since, now string
		want       Due
		latest     string
	}{
		"none":          {expr: "0 * * * *", since: "2026-11-25T04:00:00Z", now: "2026-11-25T04:59:59Z"},
		"now":           {expr: "0 * * * *", since: "2026-11-25T04:00:00Z", now: "2026-11-25T05:00:00Z", want: Due{Count: 1}, latest: "2026-11-25T05:00:00Z", reason: "a time is due at its very moment"},
		"a few":         {expr: "0 * * * *", since: "2026-11-25T04:00:00Z", now: "2026-11-25T09:10:00Z", want: Due{Count: 5}, latest: "2026-11-25T09:00:00Z"},
		"a hundred":     {expr: "* * * * *", since: "2026-11-25T04:00:00Z", now: "2026-11-25T05:40:30Z", want: Due{Count: 100}, latest: "2026-11-25T05:40:00Z"},
		"one more":      {expr: "* * * * *", since: "2026-11-25T04:00:00Z", now: "2026-11-25T05:41:00Z", want: Due{Count: 100, More: true}, latest: "2026-11-25T05:41:00Z"},
		"decades":       {expr: "30 2 * * *", zone: "Europe/Berlin", since: "1990-01-01T00:00:00Z", now: "2026-03-29T12:00:00Z", want: Due{Count: 100, More: true}, latest: "2026-03-28T01:30:00Z", reason: "found without going through all of them"},
		"clock is back": {expr: "* * * * *", since: "2026-11-25T04:00:00Z", now: "2026-11-20T04:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			got := parse(t, c.expr, c.zone).Due(moment(t, c.since), moment(t, c.now))
			if c.latest != "" {
				c.want.Latest = moment(t, c.latest)
			}
			got.Latest = got.Latest.UTC()
			if diff := gocmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}
