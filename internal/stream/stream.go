// Package stream reaches the log: Kafka, Redpanda or the embedded broker.
package stream

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Dial says how to reach the brokers. Options are given to every client made.
type Dial struct{ Options []kgo.Opt }

// Brokers dials real brokers (host:port).
func Brokers(addresses ...string) Dial { panic("stub") }

// Embedded is a broker inside the process; nothing else can reach it.
type Embedded struct{}

// StartEmbedded starts the broker on a data folder (locked: a second process is refused).
func StartEmbedded(dir string) (*Embedded, error) { panic("stub") }

// Dial returns how to reach it.
func (e *Embedded) Dial() Dial { panic("stub") }

// Compact cleans compacted topics now. It also runs by itself when a topic has grown enough.
func (e *Embedded) Compact() error { panic("stub") }

// Close stops it.
func (e *Embedded) Close() error { panic("stub") }

// Client is one process's access to the log. Safe for concurrent use.
type Client struct{}

// NewClient makes one; it does not connect yet.
func NewClient(d Dial, id string) (*Client, error) { panic("stub") }

// Close closes every connection.
func (c *Client) Close() { panic("stub") }

// Partition is a partition of a topic as it is now.
type Partition struct {
	Topic      string
	TopicID    [16]byte
	Number     int32
	Start, End int64
}

// TopicID and the partition bounds as of now.
func (c *Client) Partitions(ctx context.Context, topic string) ([]Partition, error) { panic("stub") }

// Bounds of one partition as of now.
func (c *Client) Bounds(ctx context.Context, topic string, partition int32) (Partition, error) {
	panic("stub")
}

// Read calls fn for every record of [from, to), in order, and returns when the
// end is reached. Offsets that compaction removed are passed over.
func (c *Client) Read(ctx context.Context, topic string, partition int32, from, to int64, fn func(*kgo.Record) error) error {
	panic("stub")
}

// At returns the record of a key at an offset; ok is false when it is no longer there.
func (c *Client) At(ctx context.Context, topic string, partition int32, offset int64, key string) (rec *kgo.Record, ok bool, err error) {
	panic("stub")
}

// Fold knows, for a stretch of a partition, which record is the last of its key.
type Fold struct{}

// Fold reads a stretch and notes the last offset of each key (128-bit hashes of
// keys, no bodies). inspect, if not nil, sees every record on the way.
func (c *Client) Fold(ctx context.Context, topic string, partition int32, from, to int64, inspect func(*kgo.Record)) (*Fold, error) {
	panic("stub")
}

// Last tells whether the record at offset is the last of its key in the stretch;
// true for everything at or after the stretch's end. A nil Fold says true.
func (f *Fold) Last(key []byte, offset int64) bool { panic("stub") }

// End of the stretch.
func (f *Fold) End() int64 { panic("stub") }

// Tail reads a partition from an offset on, for ever, with bounded buffers.
type Tail struct{}

// Tail begins one. Close it.
func (c *Client) Tail(topic string, partition int32, from int64) (*Tail, error) { panic("stub") }

// Next returns the next records, at least one and at most a fetch's worth; it
// waits for them. An error other than the context's is one of ErrOffsetOutOfRange and
// ErrTopicRecreated, or final; passing trouble is retried inside.
func (t *Tail) Next(ctx context.Context) ([]*kgo.Record, error) { panic("stub") }

// Close ends the tail.
func (t *Tail) Close() { panic("stub") }

// Writer appends to topics, idempotently, waiting for all in-sync replicas.
type Writer struct{}

// Writer makes one. id names the incarnation (header "writer").
func (c *Client) Writer() (*Writer, error) { panic("stub") }

// Append appends one record to the partition set in it, and calls done (from
// another goroutine) when it is acknowledged or has failed for good. It blocks
// while too much is in flight. Broker outages are retried for as long as ctx lives.
func (w *Writer) Append(ctx context.Context, rec *kgo.Record, done func(*kgo.Record, error)) {
	panic("stub")
}

// AppendSync appends records and waits for all of them.
func (w *Writer) AppendSync(ctx context.Context, recs ...*kgo.Record) error { panic("stub") }

// Close flushes and closes.
func (w *Writer) Close() { panic("stub") }

// Assignment is one partition given to this member.
type Assignment struct {
	Partition
	alive func() bool
	// Commit tells the group the position, for outside lag tools and pacing only
	// (asynchronous, best effort, coalesced).
	commit func(offset int64)
}

// Group is a static member of a consumer group on one topic. It gives
// membership only: records are read with Tail from positions of our own.
type Group struct {
	Client *Client
	Name   string
	Topic  string
	// InstanceID for static membership: stable across restarts, unique in the group.
	InstanceID string
	// Session timeout; default 30 s.
	Session time.Duration
	// Run works on one partition until its context ends, which happens when the
	// partition is revoked or lost; a revocation waits for Run to return (at most half a session).
	// If Run returns an error it is started again after a backoff.
	Run func(ctx context.Context, a *Assignment) error
}

// Serve takes part in the group until ctx ends.
func (g *Group) Serve(ctx context.Context) error { panic("stub") }

// Alive tells whether this member has heard from its group within half a
// session. A member that has not must not write.
func (a *Assignment) Alive() bool { return a.alive() }

// Commit reports a position to the group.
func (a *Assignment) Commit(offset int64) { a.commit(offset) }

// GroupLag is how far a group is behind on a topic (records), and the committed
// offsets' sum, which rises while it advances.
func (c *Client) GroupLag(ctx context.Context, group, topic string) (lag, committed int64, err error) {
	panic("stub")
}

// TopicSettings are written, read back and checked.
type TopicSettings struct {
	Partitions  int32
	Replication int16 // -1: the broker's default
	Configs     map[string]string
}

// Ensure creates a topic or checks the one that exists. A wrong partition count
// is an error; a setting the broker lacks or holds otherwise is a warning.
func (c *Client) Ensure(ctx context.Context, topic string, s TopicSettings) (warnings []string, err error) {
	panic("stub")
}
