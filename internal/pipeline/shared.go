package pipeline

import (
	"log/slog"
	"time"

	"github.com/afterimage-dr/afterimage/internal/nodecopy"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/state"
)

// shared is what the components of all LiveSynchronizations of a process use together.
type shared struct {
	client *stream.Client
	memory *state.Store
	// embedded: the log is the broker inside this process.
	embedded bool
	// instance names this process in consumer groups, incarnation this run of it.
	instance, incarnation string
	// session of the consumer groups.
	session time.Duration
}

// startEmbedded starts the broker inside this process.
func startEmbedded(dir string, fsync bool) (*stream.Embedded, error) {
	return stream.StartEmbeddedWith(dir, stream.EmbeddedOptions{SyncWrites: fsync})
}

// nodes makes a live copy of ZooKeeper nodes with what this process has.
func (s *shared) nodes(o nodecopy.LiveOptions, l *slog.Logger) *nodecopy.Live {
	o.Log, o.Embedded, o.InstanceID, o.Incarnation, o.Session, o.Logger = s.client, s.embedded, s.instance, s.incarnation+"-"+random(4), s.session, l
	return nodecopy.NewLive(o)
}
