package streamtest

import (
	"slices"
	"time"

	"github.com/afterimage-dr/afterimage/internal/stream"
)

// sinceAMoment: the first record of each partition that was appended at a moment or
// later, and the end where there is none.
func sinceAMoment(e *env) {
	e.create(2)
	w := e.writer()
	e.fill(w, 0, 0, 10, 10)
	time.Sleep(20 * time.Millisecond)
	at := time.Now()
	time.Sleep(20 * time.Millisecond)
	e.fill(w, 0, 10, 5, 10)
	for moment, want := range map[time.Time][]int64{
		time.Unix(0, 0):           {0, 0},
		at:                        {10, 0},
		time.Now().Add(time.Hour): {15, 0},
	} {
		got, err := e.c.Since(e.ctx, e.topic, moment)
		e.must(err)
		if !slices.Equal(got, want) {
			e.Errorf("since %s: %v, want %v", moment, got, want)
		}
	}
	_, err := e.c.Since(e.ctx, e.topic+".none", at)
	e.wantErr(err, stream.ErrNoTopic)
}

// topicsAndSettings are found again.
func topicsAndSettings(e *env) {
	e.create(1)
	names, err := e.c.Topics(e.ctx, e.topic[:len(e.topic)-3], e.topic[len(e.topic)-3:])
	e.must(err)
	if !slices.Equal(names, []string{e.topic}) {
		e.Errorf("topics: %v", names)
	}
	value, ok, err := e.c.Setting(e.ctx, e.topic, "cleanup.policy")
	e.must(err)
	if !ok || value != "compact" {
		e.Errorf("cleanup.policy is %q, %v", value, ok)
	}
	if _, ok, err = e.c.Setting(e.ctx, e.topic, "no.such.setting"); ok || err != nil {
		e.Errorf("a setting that does not exist: %v, %v", ok, err)
	}
}
