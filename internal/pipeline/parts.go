package pipeline

import (
	"context"
	"log/slog"
	"time"

	"k8s.io/client-go/rest"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/nodecopy"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/topology"
)

// cluster is what the pipeline itself asks of a cluster.
type cluster interface {
	ClusterUID(ctx context.Context) (string, error)
}

// parts is what a runner is made of: everything that reaches a server, so that
// tests can put something else in its place.
type parts struct {
	// log is read by who watches a pass; nil in tests that have none.
	log *stream.Client
	// ensure finds or makes the topics of a LiveSynchronization.
	ensure func(ctx context.Context, t topology.Topics) (warnings []string, err error)
	// topicsPeriod, if set, is how often the topics are looked at.
	topicsPeriod time.Duration
	// connect makes a client; it does not reach out yet.
	connect func(c *rest.Config) (cluster, *kube.Client, error)
	// logger of a component.
	logger func(process, consumerID string, level slog.Leveler) *slog.Logger
	// leveler is the level of a name, or that of the process.
	leveler func(level string) slog.Leveler
	// nodes makes a live copy of ZooKeeper nodes.
	nodes func(o nodecopy.LiveOptions, l *slog.Logger) *nodecopy.Live
	// healthy tells whether the brokers answer.
	healthy func() (bool, string)
	// factories make the components, in the order of the pipeline.
	factories []factory
}

// factory makes a supervised component of a runner; nil where it needs none.
type factory func(r *runner) *supervised
