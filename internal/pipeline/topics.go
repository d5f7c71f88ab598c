package pipeline

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// How long a topic keeps what a later record of the same key has replaced.
const (
	// auditWindow is how long every version of every object is kept.
	auditWindow = 7 * 24 * time.Hour
	// desiredWindow: what the destination had to hold is computed again from
	// changes; a day is for those who look at it.
	desiredWindow = 24 * time.Hour
	// segment bounds how long a segment stays open: the cleaner leaves the open
	// one alone, however old its records are.
	segment = 24 * time.Hour
	// maxRecord has room for an object of etcd's 1.5 MB with its headers, before
	// compression.
	maxRecord = 4 << 20
)

// ensure finds or makes the topics of a LiveSynchronization.
func (s *shared) ensure(ctx context.Context, t topology.Topics, partitions int32) ([]string, error) {
	var all []string
	for _, topic := range t.All() {
		warnings, err := s.client.Ensure(ctx, topic, s.settingsOf(t, topic, partitions))
		if err != nil {
			return nil, fmt.Errorf("topic %s: %w", topic, err)
		}
		all = append(all, warnings...)
	}
	return all, nil
}

// settingsOf is how a topic must be made.
func (s *shared) settingsOf(t topology.Topics, topic string, partitions int32) stream.TopicSettings {
	if partitions == 0 {
		partitions = topology.DefaultPartitions
	}
	if topic == t.Requests {
		partitions = 1
	}
	configs := map[string]string{
		"cleanup.policy":    "compact",
		"retention.ms":      "-1",
		"retention.bytes":   "-1",
		"max.message.bytes": strconv.Itoa(maxRecord),
		// A moment in the log is the broker's word: the producers' clocks differ.
		"message.timestamp.type": "LogAppendTime",
	}
	if !s.embedded { // whose cleaner knows no times: it keeps everything until it grows
		window := auditWindow
		if topic == t.Desired || topic == t.Requests {
			window = desiredWindow
		}
		configs["min.compaction.lag.ms"] = ms(window)
		configs["segment.ms"] = ms(segment)
		// A reader that was away for less must still meet every tombstone; what
		// the memory keeps of one must not go before it.
		configs["delete.retention.ms"] = ms(state.DeletedTTL)
	}
	return stream.TopicSettings{Partitions: partitions, Replication: -1, Configs: configs}
}

func ms(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
