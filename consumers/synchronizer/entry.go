package synchronizer

import (
	"fmt"
	"strings"
	"time"

	"github.com/afterimage-dr/afterimage/internal/owned"
	"github.com/afterimage-dr/afterimage/state"
)

// mark adds a mark, unmark removes it. The repair count stays last.
func mark(s string, m byte) string {
	if strings.IndexByte(s, m) >= 0 {
		return s
	}
	return string(m) + s
}

func unmark(s string, m byte) string { return strings.ReplaceAll(s, string(m), "") }

// markFlags sets the marks that an object itself shows.
func markFlags(s string, live *owned.Object, adopted, isForeign bool) string {
	set := func(m byte, on bool) {
		if s = unmark(s, m); on {
			s = mark(s, m)
		}
	}
	set(markApplied, owned.Applied(&live.Meta))
	set(markAdopted, adopted)
	set(markForeign, isForeign)
	return s
}

// maxRepairs of one object that may be undone before it is left alone.
const maxRepairs = 3

// repairs reads how often an object was repaired, and since when.
func repairs(e state.Entry) (count int, since time.Time) {
	_, s, ok := strings.Cut(e.Mark, string(markRepaired))
	if !ok {
		return 0, time.Time{}
	}
	var unix int64
	if _, err := fmt.Sscanf(s, "%d@%d", &count, &unix); err != nil {
		return 0, time.Time{}
	}
	return count, time.Unix(unix, 0)
}

// repaired counts one more repair of an object whose entry was old.
func repaired(marks string, old state.Entry, now time.Time, window time.Duration) string {
	count, since := repairs(old)
	if count == 0 || now.Sub(since) > window {
		count, since = 0, now
	}
	marks, _, _ = strings.Cut(marks, string(markRepaired))
	return marks + fmt.Sprintf("%c%d@%d", markRepaired, count+1, since.Unix())
}

// overridden tells whether a repair would be one too many.
func (a *attempt) overridden() bool {
	if !a.j.drifted {
		return false
	}
	count, since := repairs(a.e)
	return count >= maxRepairs && time.Since(since) <= a.s.repairWindow()
}

// repairWindow is the time within which repairs of one object are counted.
func (s *Synchronizer) repairWindow() time.Duration {
	return max(10*s.Settings.Load().ResyncPeriod, 10*time.Minute)
}
