package pipeline

import (
	"context"
	"fmt"

	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/topology"
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
	configs := t.TopicConfigs(topology.DefaultAuditWindow)[topic]
	if s.embedded {
		configs = topology.EmbeddedConfigs(configs)
	}
	return stream.TopicSettings{Partitions: partitions, Replication: -1, Configs: configs}
}
