package pipeline

import (
	"context"
	"fmt"

	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// shared is what the components of all LiveSynchronizations of a process use together.
type shared struct {
	client *stream.Client
	memory *state.Store
	// instance names this process in consumer groups, incarnation this run of it.
	instance, incarnation string
}

// ensure finds or makes the topics of a LiveSynchronization.
func (s *shared) ensure(ctx context.Context, t topology.Topics, partitions int32) ([]string, error) {
	var all []string
	for _, topic := range t.All() {
		warnings, err := s.client.Ensure(ctx, topic, settingsOf(t, topic, partitions))
		if err != nil {
			return nil, fmt.Errorf("topic %s: %w", topic, err)
		}
		all = append(all, warnings...)
	}
	return all, nil
}

// settingsOf is how a topic must be made.
func settingsOf(t topology.Topics, topic string, partitions int32) stream.TopicSettings {
	if partitions == 0 {
		partitions = topology.DefaultPartitions
	}
	if topic == t.Requests {
		partitions = 1
	}
	return stream.TopicSettings{Partitions: partitions, Replication: -1, Configs: map[string]string{"cleanup.policy": "compact"}}
}

// startEmbedded starts the broker inside this process.
func startEmbedded(dir string, fsync bool) (*stream.Embedded, error) {
	return stream.StartEmbeddedWith(dir, stream.EmbeddedOptions{SyncWrites: fsync})
}
