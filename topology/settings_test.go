package topology

import (
	"strconv"
	"testing"
	"time"
)

func TestTombstonesOutliveTheWindow(t *testing.T) {
	topics := TopicsFor("ns", "name")
	for _, window := range []time.Duration{0, time.Hour, 7 * 24 * time.Hour, 30 * 24 * time.Hour} {
		configs := topics.TopicConfigs(window)
		if len(configs) != len(topics.All()) {
			t.Fatalf("%d topics, want %d", len(configs), len(topics.All()))
		}
		for _, name := range topics.All() {
			c := configs[name]
			number := func(key string) time.Duration {
				n, err := strconv.ParseInt(c[key], 10, 64)
				if err != nil {
					t.Fatalf("%s %s: %v", name, key, err)
				}
				return time.Duration(n) * time.Millisecond
			}
			lag, kept := number("min.compaction.lag.ms"), number("delete.retention.ms")
			if kept < DeleteRetention || kept <= lag {
				t.Errorf("%s with a window of %v: versions kept %v, tombstones %v", name, window, lag, kept)
			}
			if c["cleanup.policy"] != "compact" || c["message.timestamp.type"] != "LogAppendTime" || number("segment.ms") <= 0 {
				t.Errorf("%s: %v", name, c)
			}
		}
		want := window
		if want == 0 {
			want = DefaultAuditWindow
		}
		if got := configs[topics.Changes]["min.compaction.lag.ms"]; got != millis(want) {
			t.Errorf("changes keep versions for %s ms, want %v", got, want)
		}
	}
}
