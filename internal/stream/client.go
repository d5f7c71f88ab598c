package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Client is one process's access to the log. Safe for concurrent use. It shares
// one Kafka client for questions and bounded reads and one for following
// partitions (a second only where the same partition is followed twice); each
// Writer and each Group has its own.
type Client struct {
	dial   Dial
	id     string
	health health
	log    atomic.Pointer[slog.Logger]

	ask *kgo.Client
	adm *kadm.Client

	mu        sync.Mutex
	closed    bool
	consumers []*consumer
	writers   map[*Writer]struct{}
}

// NewClient makes one; it does not connect yet. id is the Kafka client.id.
func NewClient(d Dial, id string) (*Client, error) {
	c := &Client{dial: d, id: id, writers: map[*Writer]struct{}{}}
	c.log.Store(slog.Default())
	ask, err := c.kgo("ask")
	if err != nil {
		return nil, fmt.Errorf("log client: %w", err)
	}
	c.ask, c.adm = ask, kadm.NewClient(ask)
	return c, nil
}

// SetLogger sets where the client says what an operator should know (a group
// instance ID used twice). The default is slog.Default().
func (c *Client) SetLogger(l *slog.Logger) { c.log.Store(l) }

func (c *Client) kgo(role string, extra ...kgo.Opt) (*kgo.Client, error) {
	opts := append(c.dial.base(c.id+"-"+role), kgo.WithHooks(&c.health))
	return kgo.NewClient(append(opts, extra...)...)
}

// Close closes every connection. Tails and Writers end with ErrClosed; end the
// contexts of Groups before.
func (c *Client) Close() {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed = true
	consumers, writers := c.consumers, c.writers
	c.consumers, c.writers = nil, nil
	c.mu.Unlock()
	for w := range writers {
		w.abort()
	}
	for _, k := range consumers {
		k.close()
	}
	c.ask.Close()
}

// Healthy tells whether the brokers answer; if not, why. Before the first
// connection it is false.
func (c *Client) Healthy() (bool, string) { return c.health.state() }

// Partition is a partition of a topic as it is now.
type Partition struct {
	Topic      string
	TopicID    [16]byte
	Number     int32
	Start, End int64
}

// Partitions returns the topic ID and the partitions' bounds as of now, by
// number. A topic that does not exist is ErrNoTopic.
func (c *Client) Partitions(ctx context.Context, topic string) ([]Partition, error) {
	var out []Partition
	err := c.retry(ctx, func(ctx context.Context) error {
		d, err := c.metadata(ctx, topic)
		if err != nil {
			return err
		}
		starts, err := c.adm.ListStartOffsets(ctx, topic)
		if err != nil {
			return err
		}
		ends, err := c.adm.ListEndOffsets(ctx, topic)
		if err != nil {
			return err
		}
		out = make([]Partition, len(d.Partitions))
		for i := range out {
			s, ok1 := starts.Lookup(topic, int32(i))
			e, ok2 := ends.Lookup(topic, int32(i))
			if !ok1 || !ok2 {
				return kerr.UnknownTopicOrPartition
			}
			if err := errors.Join(s.Err, e.Err); err != nil {
				return err
			}
			out[i] = Partition{Topic: topic, TopicID: d.ID, Number: int32(i), Start: s.Offset, End: e.Offset}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("partitions of %s: %w", topic, err)
	}
	return out, nil
}

// Bounds of one partition as of now.
func (c *Client) Bounds(ctx context.Context, topic string, partition int32) (Partition, error) {
	ps, err := c.Partitions(ctx, topic)
	if err != nil {
		return Partition{}, err
	}
	if partition < 0 || int(partition) >= len(ps) {
		return Partition{}, fmt.Errorf("%s/%d: %w", topic, partition, ErrNoTopic)
	}
	return ps[partition], nil
}

// TopicID returns the ID of a topic; ErrNoTopic if there is none. The IDs of
// brokers too old to have any are zero.
func (c *Client) TopicID(ctx context.Context, topic string) ([16]byte, error) {
	var id [16]byte
	err := c.retry(ctx, func(ctx context.Context) error {
		d, err := c.metadata(ctx, topic)
		id = d.ID
		return err
	})
	if err != nil {
		return id, fmt.Errorf("ID of topic %s: %w", topic, err)
	}
	return id, nil
}

func (c *Client) metadata(ctx context.Context, topic string) (kadm.TopicDetail, error) {
	m, err := c.adm.Metadata(ctx, topic)
	if err != nil {
		return kadm.TopicDetail{}, err
	}
	d, ok := m.Topics[topic]
	switch {
	case !ok || errors.Is(d.Err, kerr.UnknownTopicOrPartition):
		return kadm.TopicDetail{}, ErrNoTopic
	case d.Err != nil:
		return kadm.TopicDetail{}, d.Err
	}
	return d, nil
}

// retry calls fn until it succeeds, fails for good, or the context ends.
func (c *Client) retry(ctx context.Context, fn func(context.Context) error) error {
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		err := fn(ctx)
		if err == nil || !passing(err) {
			return err
		}
		c.health.failed(err)
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (last: %w)", ctx.Err(), err)
		case <-time.After(wait):
		}
	}
}

// passing tells errors that time may heal: of the network, and those Kafka calls retriable.
func passing(err error) bool {
	if errors.Is(err, ErrNoTopic) || errors.Is(err, ErrTopicRecreated) || errors.Is(err, ErrOffsetOutOfRange) ||
		errors.Is(err, kgo.ErrClientClosed) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	if ke := (*kerr.Error)(nil); errors.As(err, &ke) {
		return ke.Retriable
	}
	return true
}

// health follows the connections of a Client through hooks of kgo.
type health struct {
	mu      sync.Mutex
	ok      time.Time // of the last answer
	failing time.Time // since when; zero if the last thing heard was an answer
	reason  string
}

// grace is how long trouble may last before Healthy tells.
const grace = 2 * time.Second

func (h *health) failed(err error) {
	if errors.Is(err, context.Canceled) || errors.Is(err, kgo.ErrClientClosed) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failing.IsZero() {
		h.failing = time.Now()
	}
	h.reason = err.Error()
}

func (h *health) answered() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ok, h.failing, h.reason = time.Now(), time.Time{}, ""
}

func (h *health) state() (bool, string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.ok.IsZero() && h.reason == "":
		return false, "not connected yet"
	case h.ok.IsZero(), !h.failing.IsZero() && time.Since(h.ok) > grace:
		return false, h.reason
	}
	return true, ""
}

// OnBrokerConnect is a hook of kgo.
func (h *health) OnBrokerConnect(m kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err != nil {
		h.failed(fmt.Errorf("connect to broker %s:%d: %w", m.Host, m.Port, err))
	}
}

// OnBrokerE2E is a hook of kgo.
func (h *health) OnBrokerE2E(_ kgo.BrokerMetadata, _ int16, e kgo.BrokerE2E) {
	if err := e.Err(); err != nil {
		h.failed(err)
		return
	}
	h.answered()
}
