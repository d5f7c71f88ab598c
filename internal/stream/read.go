package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// errStop ends a Read early.
var errStop = errors.New("stop")

// Read calls fn for every record of [from, to), in order, and returns when the
// end is reached. Offsets that compaction removed are passed over, also before
// the start of the log. A `to` beyond the end of the log is ErrOffsetOutOfRange,
// a topic recreated on the way ErrTopicRecreated; an error of fn ends it and is returned.
func (c *Client) Read(ctx context.Context, topic string, partition int32, from, to int64, fn func(*kgo.Record) error) error {
	r := reader{c: c, topic: topic, partition: partition, next: from, bytes: fetchPartitionBytes}
	if to-from == 1 {
		r.bytes = 1 // one batch: brokers always send that much
	}
	for r.next < to {
		recs, err := r.fetch(ctx, to)
		if err != nil {
			return fmt.Errorf("read %s/%d at %d: %w", topic, partition, r.next, err)
		}
		for _, rec := range recs {
			if rec.Offset >= to {
				return nil
			}
			if err := fn(rec); err != nil {
				return err
			}
		}
	}
	return nil
}

// At returns the record of a key at an offset; ok is false when it is no longer
// there (compacted away, or the offset holds another key).
func (c *Client) At(ctx context.Context, topic string, partition int32, offset int64, key string) (rec *kgo.Record, ok bool, err error) {
	p, err := c.Bounds(ctx, topic, partition)
	if err != nil {
		return nil, false, err
	}
	if offset < p.Start || offset >= p.End {
		return nil, false, nil
	}
	err = c.Read(ctx, topic, partition, offset, offset+1, func(r *kgo.Record) error {
		if r.Offset == offset && string(r.Key) == key {
			rec, ok = r, true
		}
		return errStop
	})
	if err != nil && !errors.Is(err, errStop) {
		return nil, false, err
	}
	return rec, ok, nil
}

var decompressor = kgo.DefaultDecompressor()

// reader fetches one partition by plain requests: a bounded read needs no
// consumer, and knows exactly where it stands.
type reader struct {
	c         *Client
	topic     string
	partition int32
	next      int64
	bytes     int32 // how much one request asks for

	located bool
	known   bool
	topicID [16]byte
	leader  int32
	idle    int
}

func (r *reader) locate(ctx context.Context) error {
	d, err := r.c.metadata(ctx, r.topic)
	if err != nil {
		return err
	}
	if r.known && d.ID != r.topicID {
		return ErrTopicRecreated
	}
	p, ok := d.Partitions[r.partition]
	switch {
	case !ok:
		return ErrNoTopic
	case p.Err != nil && p.Leader < 0:
		return p.Err
	case p.Leader < 0:
		return kerr.LeaderNotAvailable
	}
	r.topicID, r.leader, r.known, r.located = d.ID, p.Leader, true, true
	return nil
}

// fetch returns the next records; none when it only passed over a gap.
func (r *reader) fetch(ctx context.Context, to int64) (recs []*kgo.Record, err error) {
	err = r.c.retry(ctx, func(ctx context.Context) error {
		if !r.located {
			if err := r.locate(ctx); err != nil {
				return err
			}
		}
		recs, err = r.fetchOnce(ctx, to)
		if err != nil {
			r.located = false // whatever it was: look again before the next try
		}
		return err
	})
	return recs, err
}

func (r *reader) fetchOnce(ctx context.Context, to int64) ([]*kgo.Record, error) {
	rp, err := r.request(ctx)
	if err != nil {
		return nil, err
	}
	fp, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		Offset: r.next, Topic: r.topic, Partition: r.partition,
	}, rp, decompressor, nil)
	switch {
	case errors.Is(fp.Err, kerr.OffsetOutOfRange):
		return nil, r.outOfRange(ctx, to)
	case errors.Is(fp.Err, kerr.UnknownTopicID), errors.Is(fp.Err, kerr.InconsistentTopicID), errors.Is(fp.Err, kerr.UnknownTopicOrPartition):
		// Passing right after a topic was made, or it is another one now: locate tells.
		return nil, kerr.UnknownTopicID
	case fp.Err != nil && len(fp.Records) == 0:
		return nil, fp.Err
	case next > r.next:
		r.next, r.idle = next, 0
		return fp.Records, nil
	case fp.HighWatermark <= r.next:
		return nil, fmt.Errorf("%w: the log ends at %d, before %d", ErrOffsetOutOfRange, fp.HighWatermark, to)
	}
	// Records are promised, yet none came: a broker that is just moving.
	r.idle++
	time.Sleep(time.Duration(min(r.idle, 50)) * time.Millisecond)
	return nil, nil
}

// outOfRange goes on at the start of the log if that is what was passed.
func (r *reader) outOfRange(ctx context.Context, to int64) error {
	p, err := r.c.Bounds(ctx, r.topic, r.partition)
	if err != nil {
		return err
	}
	switch {
	case p.TopicID != r.topicID:
		return ErrTopicRecreated
	case r.next < p.Start:
		r.next = p.Start
		return nil
	case r.next > p.End, to > p.End:
		return fmt.Errorf("%w: the log ends at %d, before %d", ErrOffsetOutOfRange, p.End, to)
	}
	return kerr.LeaderNotAvailable // a replica behind the others: try again
}

func (r *reader) request(ctx context.Context) (*kmsg.FetchResponseTopicPartition, error) {
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = r.partition, r.next, r.bytes
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID, t.Partitions = r.topic, r.topicID, append(t.Partitions, p)
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.MaxBytes, req.MaxWaitMillis, req.MinBytes = -1, fetchBytes, 0, 0
	req.SessionEpoch = -1 // no session: nothing to remember at the broker
	req.Topics = append(req.Topics, t)
	kresp, err := r.c.ask.Broker(int(r.leader)).RetriableRequest(ctx, req)
	if err != nil {
		return nil, err
	}
	resp := kresp.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, err
	}
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			if rp := &resp.Topics[i].Partitions[j]; rp.Partition == r.partition {
				return rp, nil
			}
		}
	}
	return nil, kerr.UnknownTopicOrPartition
}
