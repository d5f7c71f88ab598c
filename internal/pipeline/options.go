package pipeline

import (
	"io"
	"log/slog"
	"time"

	"k8s.io/client-go/rest"

	"github.com/afterimage-dr/afterimage/internal/nodecopy"
	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/state/bucket"
)

// DefaultSession of the consumer groups.
const DefaultSession = 30 * time.Second

// Options of a pipeline.
type Options struct {
	// DataDir holds the memory, the embedded log and the status socket. It is
	// made if need be, readable by its owner only, and held by one process alone.
	DataDir string
	// Brokers (host:port) of Kafka or Redpanda; none: the embedded broker.
	Brokers []string
	// Partitions of the topics made; 0: topology.DefaultPartitions. Ignored
	// for topics that exist.
	Partitions int32
	// Fsync makes the embedded broker wait for the disk at every append.
	Fsync bool
	// Session of the consumer groups: a process that is silent for longer loses
	// its partitions to others, and one that has not heard from its group for half
	// of it stops writing. 0: DefaultSession.
	Session time.Duration
	// Output takes the log lines, one JSON object each; nil: none.
	Output io.Writer
	// Level of components whose manifest asks for none.
	Level slog.Level
	// Version of the program, for status.
	Version string

	// parts replaces what reaches servers, in tests.
	parts *parts
}

// LiveSync is a LiveSynchronization to run.
type LiveSync struct {
	// Settings name it (Config.Namespace, Config.Name) and say all that may
	// change while it runs.
	Settings settings.Settings
	// Generation of the manifest, for status; 0 where it has none.
	Generation int64
	// Source and Destination say how to reach the clusters. A change of either
	// restarts this LiveSynchronization's components.
	Source, Destination *rest.Config
	// Bucket of the originals; nil: none. New credentials take effect while it runs,
	// another bucket restarts this LiveSynchronization's components.
	Bucket *bucket.Options
	// Nodes, of the plugin zookeeper-to-zookeeper-nodes, instead of all these: the trees
	// and how to reach them. Any change restarts the copy.
	Nodes *nodecopy.LiveOptions
	// LogLevels by component (eventslistener, processor, synchronizer,
	// reconciler, archiver); a component that is not named has Options.Level.
	LogLevels map[string]string
}

func (l LiveSync) id() string { return l.Settings.Config.Namespace + "/" + l.Settings.Config.Name }
