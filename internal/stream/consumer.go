package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

type partitionKey struct {
	topic  string
	number int32
}

// consumer is one Kafka client that serves many Tails, each on a partition of
// its own. One fetch takes what there is of all of them, so that a process with
// dozens of partitions holds few connections; a Tail that does not keep up is
// paused, and holds up nobody else.
type consumer struct {
	c  *Client
	cl *kgo.Client

	mu    sync.Mutex
	tails map[partitionKey]*Tail
	// retired: in which round a partition was last given up. A round that began
	// before may still hold records of the old Tail in its hands, which must not
	// reach a new one that stands elsewhere.
	retired map[partitionKey]uint64
	round   uint64
	next    context.CancelFunc // ends the current round
	waiting int                // how many wait for the round to end
	rounds  *sync.Cond

	stop context.CancelFunc
	done chan struct{}
}

func newConsumer(c *Client) (*consumer, error) {
	wait := 250 * time.Millisecond
	if c.dial.local {
		wait = 50 * time.Millisecond
	}
	cl, err := c.kgo("tail",
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		// How long an idle fetch stays open is also how long a new Tail waits to join.
		kgo.FetchMaxWait(wait),
		kgo.FetchMinBytes(1),
		kgo.FetchMaxBytes(fetchBytes),
		kgo.FetchMaxPartitionBytes(fetchPartitionBytes),
	)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	k := &consumer{
		c: c, cl: cl, stop: stop, done: make(chan struct{}),
		tails: map[partitionKey]*Tail{}, retired: map[partitionKey]uint64{},
	}
	k.rounds = sync.NewCond(&k.mu)
	go k.run(ctx)
	return k, nil
}

func (k *consumer) close() {
	k.stop()
	<-k.done
	k.mu.Lock()
	tails := k.tails
	k.tails = map[partitionKey]*Tail{}
	k.mu.Unlock()
	for _, t := range tails {
		t.fail(ErrClosed)
	}
	k.cl.Close()
}

func (k *consumer) run(ctx context.Context) {
	defer close(k.done)
	for ctx.Err() == nil {
		round, next := context.WithCancel(ctx)
		k.mu.Lock()
		k.next = next
		if k.waiting > 0 {
			next() // asked for before there was a round to end
		}
		k.mu.Unlock()

		fetches := k.cl.PollFetches(round)
		next()
		if fetches.IsClientClosed() {
			break
		}
		fetches.EachPartition(func(p kgo.FetchTopicPartition) { k.deliver(p) })

		k.mu.Lock()
		k.round++
		k.rounds.Broadcast()
		k.mu.Unlock()
	}
	k.mu.Lock()
	k.round = ^uint64(0) >> 1 // nobody needs to wait for a round any more
	k.rounds.Broadcast()
	k.mu.Unlock()
}

// refuses tells whether a Tail must go elsewhere: its partition is taken, or
// there still are Tails of a former topic of the name. The client keeps the
// former ID until they are gone, and would never fetch for this one.
func (k *consumer) refuses(t *Tail) bool {
	if _, taken := k.tails[t.key]; taken {
		return true
	}
	for _, other := range k.tails {
		if other.key.topic == t.key.topic && other.id != t.id {
			return true
		}
	}
	return false
}

// add begins to follow a partition; false if it cannot (see refuses).
func (k *consumer) add(t *Tail) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.refuses(t) {
		return false
	}
	for {
		r, ok := k.retired[t.key]
		if !ok || k.round > r {
			break
		}
		k.waiting++
		if k.next != nil {
			k.next()
		}
		k.rounds.Wait()
		k.waiting--
		if k.refuses(t) {
			return false
		}
	}
	delete(k.retired, t.key)
	k.tails[t.key] = t
	t.k = k
	k.consume(t, t.next)
	return true
}

func (k *consumer) consume(t *Tail, from int64) {
	k.cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{
		t.key.topic: {t.key.number: kgo.NoResetOffset().At(from)},
	})
}

// remove ends following.
func (k *consumer) remove(t *Tail) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.tails[t.key] != t {
		return
	}
	delete(k.tails, t.key)
	k.retired[t.key] = k.round
	k.forget(t.key)
}

func (k *consumer) forget(key partitionKey) {
	one := map[string][]int32{key.topic: {key.number}}
	k.cl.RemoveConsumePartitions(one)
	k.cl.ResumeFetchPartitions(one)
	for other := range k.tails {
		if other.topic == key.topic {
			return
		}
	}
	// Nobody else follows the topic: forget it wholly, its ID too, so that one
	// made anew under the name can be followed.
	k.cl.PurgeTopicsFromConsuming(key.topic)
}

// throttle pauses the partition of a Tail that does not keep up, or resumes it.
// Under the lock, so that the client is told in the order of the decisions, and
// never on behalf of a Tail that was closed.
func (k *consumer) throttle(t *Tail) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.tails[t.key] != t {
		return
	}
	one := map[string][]int32{t.key.topic: {t.key.number}}
	switch pause, resume := t.turn(); {
	case pause:
		k.cl.PauseFetchPartitions(one)
	case resume:
		k.cl.ResumeFetchPartitions(one)
	}
}

func (k *consumer) deliver(p kgo.FetchTopicPartition) {
	k.mu.Lock()
	t := k.tails[partitionKey{p.Topic, p.Partition}]
	k.mu.Unlock()
	if t == nil {
		return
	}
	if len(p.Records) > 0 {
		t.push(p.Records)
		k.throttle(t)
	}
	var loss *kgo.ErrDataLoss
	switch err := p.Err; {
	case err == nil:
	case errors.Is(err, context.Canceled), errors.Is(err, kgo.ErrClientClosed):
	case errors.Is(err, kerr.OffsetOutOfRange), errors.As(err, &loss):
		t.fail(fmt.Errorf("%w: %s/%d at %d: %w", ErrOffsetOutOfRange, p.Topic, p.Partition, t.position(), err))
	case errors.Is(err, kerr.UnknownTopicID), errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.InconsistentTopicID):
		t.suspect()
	case passing(err), errors.Is(err, kerr.TopicAuthorizationFailed):
		k.c.health.failed(err)
		t.again()
	default:
		t.fail(fmt.Errorf("tail %s/%d at %d: %w", p.Topic, p.Partition, t.position(), err))
	}
}
