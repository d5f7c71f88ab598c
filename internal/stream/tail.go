package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A Tail holds at most about twice these before its partition is paused.
const (
	tailRecords = 4096
	tailBytes   = 4 << 20
	// nextRecords and nextBytes bound what Next returns.
	nextRecords = 1024
	nextBytes   = 2 << 20
)

// Tail reads a partition from an offset on, for ever, with bounded buffers. One
// goroutine may use it at a time; Close may be called from another.
type Tail struct {
	c   *Client
	k   *consumer
	key partitionKey
	id  [16]byte

	ctx  context.Context // ends with Close
	stop context.CancelFunc

	mu      sync.Mutex
	next    int64 // the offset expected next from the broker
	buf     []*kgo.Record
	bytes   int
	paused  bool
	looking bool // suspect is asking
	closed  bool
	err     error
	ready   chan struct{} // holds one token when there is something to see
}

// Tail begins one at an offset. Close it. The topic must exist (ErrNoTopic); it
// waits for brokers at most 30 s. Where it matters that the topic is still the
// one whose bounds were read, use TailOf.
func (c *Client) Tail(topic string, partition int32, from int64) (*Tail, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	id, err := c.TopicID(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("tail: %w", err)
	}
	return c.TailOf(Partition{Topic: topic, TopicID: id, Number: partition}, from)
}

// TailOf begins a tail of a partition as Bounds returned it: a topic recreated
// since then is ErrTopicRecreated in Next.
func (c *Client) TailOf(p Partition, from int64) (*Tail, error) {
	t := &Tail{c: c, key: partitionKey{p.Topic, p.Number}, id: p.TopicID, next: from, ready: make(chan struct{}, 1)}
	t.ctx, t.stop = context.WithCancel(context.Background())
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	for _, k := range c.consumers {
		if k.add(t) {
			t.suspect() // the ID that the consumer meets may be another already
			return t, nil
		}
	}
	k, err := newConsumer(c)
	if err != nil {
		return nil, fmt.Errorf("tail: %w", err)
	}
	c.consumers = append(c.consumers, k)
	k.add(t)
	t.suspect()
	return t, nil
}

// Next returns the next records, at least one and at most 1024 or about 2 MiB;
// it waits for them. An error other than the context's is one of
// ErrOffsetOutOfRange, ErrTopicRecreated and ErrClosed, or final; passing
// trouble is retried inside.
func (t *Tail) Next(ctx context.Context) ([]*kgo.Record, error) {
	for {
		if recs, err := t.take(); len(recs) > 0 || err != nil {
			return recs, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-t.ready:
		}
	}
}

func (t *Tail) take() ([]*kgo.Record, error) {
	t.mu.Lock()
	if len(t.buf) == 0 {
		defer t.mu.Unlock()
		return nil, t.err
	}
	n, size := 0, 0
	for n < len(t.buf) && n < nextRecords && size < nextBytes {
		size += recordSize(t.buf[n])
		n++
	}
	recs := t.buf[:n:n]
	t.buf = t.buf[n:]
	if len(t.buf) == 0 {
		t.buf = nil
	}
	t.bytes -= size
	paused := t.paused
	t.mu.Unlock()
	if paused {
		t.k.throttle(t)
	}
	return recs, nil
}

// Close ends the tail; a waiting Next returns ErrClosed.
func (t *Tail) Close() {
	t.fail(ErrClosed)
	t.mu.Lock()
	closed := t.closed
	t.closed, t.buf = true, nil
	t.mu.Unlock()
	if !closed {
		t.stop()
		t.k.remove(t)
	}
}

// push takes records from the consumer.
func (t *Tail) push(recs []*kgo.Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil || t.closed {
		return
	}
	for _, r := range recs {
		if r.Offset < t.next {
			continue // delivered before a restart of the cursor
		}
		t.next = r.Offset + 1
		t.buf = append(t.buf, r)
		t.bytes += recordSize(r)
	}
	t.signal()
}

// turn decides whether fetching is to be paused or resumed now.
func (t *Tail) turn() (pause, resume bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !t.paused && (len(t.buf) >= tailRecords || t.bytes >= tailBytes):
		t.paused, pause = true, true
	case t.paused && len(t.buf) < tailRecords/2 && t.bytes < tailBytes/2:
		t.paused, resume = false, true
	}
	return pause, resume
}

func (t *Tail) signal() {
	select {
	case t.ready <- struct{}{}:
	default:
	}
}

// fail ends the tail: Next returns what is buffered and then the error.
func (t *Tail) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
	}
	t.signal()
}

func (t *Tail) position() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.next
}

// suspect asks whether the topic is still the one it was, and goes on or fails.
func (t *Tail) suspect() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.looking || t.closed || t.err != nil {
		return
	}
	t.looking = true
	go t.look()
}

func (t *Tail) look() {
	first := true
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		id, err := t.c.TopicID(t.ctx, t.key.topic)
		switch {
		case t.ctx.Err() != nil:
			return
		case errors.Is(err, ErrNoTopic), err != nil:
			// Gone for now. If it comes back it will have another ID.
			first = false
		case id != t.id:
			t.fail(fmt.Errorf("%w: %s", ErrTopicRecreated, t.key.topic))
			return
		default:
			t.mu.Lock()
			t.looking = false
			t.mu.Unlock()
			if !first {
				t.again()
			}
			return
		}
		select {
		case <-t.ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// again sets the consumer's cursor anew, a little later.
func (t *Tail) again() {
	time.AfterFunc(100*time.Millisecond, func() {
		k := t.k
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.tails[t.key] != t {
			return
		}
		t.mu.Lock()
		from, dead := t.next, t.err != nil || t.closed
		t.mu.Unlock()
		if dead {
			return
		}
		k.cl.RemoveConsumePartitions(map[string][]int32{t.key.topic: {t.key.number}})
		k.consume(t, from)
	})
}

func recordSize(r *kgo.Record) int {
	n := len(r.Key) + len(r.Value) + 96
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value) + 32
	}
	return n
}
