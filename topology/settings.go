package topology

import (
	"maps"
	"strconv"
	"time"
)

// Times the settings of topics rest on.
const (
	// DefaultAuditWindow is how long every version of an object stays in the log.
	DefaultAuditWindow = 7 * 24 * time.Hour
	// desiredWindow is enough for a consumer that was away for a day.
	desiredWindow = 24 * time.Hour
	// DeleteRetention is how long a tombstone is certain to be there. A stage
	// whose position is older compares everything (state.DeletedTTL is as long).
	DeleteRetention = 8 * 24 * time.Hour
	// maxMessageBytes: an object of 1.5 MB, its headers, and a batch around it.
	maxMessageBytes = 4 << 20
	segmentTime     = 24 * time.Hour
)

// TopicConfigs returns the Kafka configuration of each topic, by name, to be
// written when it is created and read back at each start. window is how long
// changes and outcomes keep every version; 0 means DefaultAuditWindow. Tombstones
// outlive the window by a day, and 8 days at least.
func (t Topics) TopicConfigs(window time.Duration) map[string]map[string]string {
	if window <= 0 {
		window = DefaultAuditWindow
	}
	base := compacted(max(DeleteRetention, window+24*time.Hour))
	with := func(lag time.Duration) map[string]string {
		m := maps.Clone(base)
		m["min.compaction.lag.ms"] = millis(lag)
		return m
	}
	return map[string]map[string]string{
		t.Changes:  with(window),
		t.Outcomes: with(window),
		t.Desired:  with(desiredWindow),
		t.Requests: with(0),
	}
}

// EmbeddedConfigs leaves out what the embedded log does not know: its cleaner has no
// times, and keeps everything until it grows.
func EmbeddedConfigs(configs map[string]string) map[string]string {
	out := maps.Clone(configs)
	delete(out, "min.compaction.lag.ms")
	delete(out, "segment.ms")
	return out
}

// compacted is what every topic has.
func compacted(tombstones time.Duration) map[string]string {
	return map[string]string{
		"cleanup.policy":         "compact",
		"delete.retention.ms":    millis(tombstones),
		"message.timestamp.type": "LogAppendTime",
		// Only closed segments are cleaned: a quiet topic must close them too.
		"segment.ms":        millis(segmentTime),
		"max.message.bytes": strconv.Itoa(maxMessageBytes),
		// Without effect on a compacted topic of Kafka; the embedded broker drops
		// by age and size what is not told otherwise.
		"retention.ms":    "-1",
		"retention.bytes": "-1",
	}
}

func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
