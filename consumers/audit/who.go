package audit

import (
	"slices"
	"time"

	"github.com/afterimage-dr/afterimage/topology"
)

// who changed an object, and when: the field managers that were not there before
// with that time. Where none stands out (two writes of one manager within a
// second, or no state before), those whose time is the newest.
func who(old, now *topology.Record) ([]topology.Manager, *time.Time) {
	if now == nil || len(now.Managers) == 0 {
		return nil, nil
	}
	var by []topology.Manager
	if old != nil && old.UID == now.UID {
		for _, m := range now.Managers {
			if !slices.Contains(old.Managers, m) {
				by = append(by, m)
			}
		}
	}
	newest := ""
	for _, m := range now.Managers {
		newest = max(newest, m.Time) // RFC 3339 in UTC sorts as text
	}
	if len(by) == 0 {
		for _, m := range now.Managers {
			if m.Time == newest {
				by = append(by, m)
			}
		}
	}
	last := ""
	for _, m := range by {
		last = max(last, m.Time)
	}
	at, err := time.Parse(time.RFC3339, last)
	if err != nil {
		return by, nil
	}
	return by, &at
}
