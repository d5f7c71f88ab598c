package stream

import (
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

var (
	// ErrOffsetOutOfRange says that an offset is not in the partition (any more).
	ErrOffsetOutOfRange = errors.New("offset out of range")
	// ErrTopicRecreated says that the topic is no longer the one it was: deleted,
	// or deleted and made anew (its ID differs).
	ErrTopicRecreated = errors.New("topic was deleted or recreated")
	// ErrNoTopic says that the topic, or the partition, does not exist.
	ErrNoTopic = errors.New("topic or partition does not exist")
	// ErrClosed says that the client was closed.
	ErrClosed = errors.New("client is closed")
	// ErrNoKey refuses a record without a key: compaction could never remove it.
	ErrNoKey = errors.New("record has no key")
)

// Dial says how to reach the brokers. Options are given to every client made.
type Dial struct {
	Options []kgo.Opt
	// local: the broker is in this process, so waiting is cheap and network
	// bytes cost nothing.
	local bool
}

// Brokers dials real brokers (host:port).
func Brokers(addresses ...string) Dial {
	return Dial{Options: []kgo.Opt{kgo.SeedBrokers(addresses...)}}
}

const (
	// maxRecordBatch bounds what one produce batch holds: an object of 1.5 MB with
	// its headers, with room. Topics take 4 MiB (topology.TopicSettings).
	maxRecordBatch = 3 << 20
	// MaxRecordBytes is how large a record Append surely takes: key, value and
	// headers, each of these with 16 bytes around it.
	MaxRecordBytes = maxRecordBatch - 4<<10
	// fetchPartitionBytes is what one fetch takes of one partition.
	fetchPartitionBytes = 2 << 20
	fetchBytes          = 16 << 20
)

// base options of every kgo client.
func (d Dial) base(id string) []kgo.Opt {
	opts := append([]kgo.Opt{}, d.Options...)
	backoff, minAge := 250*time.Millisecond, 250*time.Millisecond
	if d.local {
		backoff, minAge = 20*time.Millisecond, 20*time.Millisecond
	}
	return append(opts,
		kgo.ClientID(id),
		kgo.MetadataMinAge(minAge),
		kgo.MetadataMaxAge(time.Minute),
		kgo.DisableClientMetrics(),
		kgo.RetryBackoffFn(func(fails int) time.Duration {
			return min(backoff<<min(fails-1, 4), 2*time.Second)
		}),
		// Retried in our own loops, which watch the context and tell Healthy.
		kgo.RetryTimeout(5*time.Second),
		kgo.DialTimeout(5*time.Second),
	)
}
