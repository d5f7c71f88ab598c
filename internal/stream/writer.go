package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/semaphore"
)

// Writer appends to topics, idempotently, waiting for all in-sync replicas.
// Safe for concurrent use.
type Writer struct {
	c    *Client
	cl   *kgo.Client
	room *semaphore.Weighted // bytes that may still be in flight

	// purge is held shared while appending, alone while forgetting a topic that
	// is gone.
	purge   sync.RWMutex
	mu      sync.Mutex
	purging map[string]bool
	closed  bool
}

const (
	writerRecords = 10_000
	writerBytes   = 32 << 20
	// closeWithin bounds how long Close waits for brokers.
	closeWithin = 3 * time.Second
)

// Writer makes one.
func (c *Client) Writer() (*Writer, error) {
	compression := kgo.Lz4Compression()
	if c.dial.local {
		compression = kgo.NoCompression() // nothing to save in memory-to-memory
	}
	cl, err := c.kgo("writer",
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchMaxBytes(maxRecordBatch),
		kgo.ProducerBatchCompression(compression),
		kgo.ProducerLinger(0),
		// What is in flight is bounded by room; never let kgo block.
		kgo.MaxBufferedRecords(2*writerRecords),
		kgo.UnknownTopicRetries(8),
	)
	if err != nil {
		return nil, fmt.Errorf("log writer: %w", err)
	}
	w := &Writer{c: c, cl: cl, room: semaphore.NewWeighted(writerBytes), purging: map[string]bool{}}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		cl.Close()
		return nil, ErrClosed
	}
	c.writers[w] = struct{}{}
	return w, nil
}

// Append appends one record to the partition set in it, and calls done once
// (from another goroutine, in order of append) when it is acknowledged or has
// failed for good. done must not block. Append blocks while more than 10,000
// records or 32 MiB are in flight. Broker outages are retried for as long as ctx
// lives; when it ends with the record in flight, done gets the context's error at
// once, and whether the record was or will still be written is unknown, as after
// a SIGKILL. ErrTopicRecreated fails the records in flight; later ones go to the
// topic as it is then.
func (w *Writer) Append(ctx context.Context, rec *kgo.Record, done func(*kgo.Record, error)) {
	if rec.Key == nil {
		done(rec, fmt.Errorf("append to %s/%d: %w", rec.Topic, rec.Partition, ErrNoKey))
		return
	}
	if w.c.dial.local {
		// The embedded broker stores LogAppendTime as a setting and leaves the
		// writer's time in the record: so the writer says when.
		rec.Timestamp = time.Now()
	}
	weight := min(max(int64(recordSize(rec)), writerBytes/writerRecords), writerBytes)
	if err := w.room.Acquire(ctx, weight); err != nil {
		done(rec, fmt.Errorf("append to %s/%d: %w", rec.Topic, rec.Partition, err))
		return
	}
	// The context is watched here and not handed to the producer, which would
	// fail every record of the partition with the one whose context ended.
	var once sync.Once
	finish := func(r *kgo.Record, err error) {
		once.Do(func() {
			if err != nil {
				err = fmt.Errorf("append to %s/%d: %w", rec.Topic, rec.Partition, err)
			}
			done(r, err)
		})
	}
	unwatch := context.AfterFunc(ctx, func() { finish(rec, ctx.Err()) })
	w.purge.RLock()
	defer w.purge.RUnlock()
	w.cl.Produce(context.Background(), rec, func(r *kgo.Record, err error) {
		w.room.Release(weight)
		unwatch()
		finish(r, w.failed(r, err))
	})
}

func (w *Writer) failed(r *kgo.Record, err error) error {
	switch {
	case errors.Is(err, kerr.UnknownTopicID), errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.InconsistentTopicID):
		w.forget(r.Topic)
		return fmt.Errorf("%w: %w", ErrTopicRecreated, err)
	case errors.Is(err, kgo.ErrClientClosed):
		return ErrClosed
	}
	return err
}

// forget makes the producer learn the topic anew; in a goroutine, for it is
// called while the producer finishes the records of the old one.
func (w *Writer) forget(topic string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.purging[topic] || w.closed {
		return
	}
	w.purging[topic] = true
	go func() {
		w.purge.Lock()
		w.cl.PurgeTopicsFromProducing(topic)
		w.purge.Unlock()
		w.mu.Lock()
		delete(w.purging, topic)
		w.mu.Unlock()
	}()
}

// AppendSync appends records and waits for all of them. The first error is
// returned; the other records may have been appended nevertheless.
func (w *Writer) AppendSync(ctx context.Context, recs ...*kgo.Record) error {
	results := make(chan error, len(recs))
	for _, r := range recs {
		w.Append(ctx, r, func(_ *kgo.Record, err error) { results <- err })
	}
	var first error
	for range recs {
		select {
		case err := <-results:
			if first == nil {
				first = err
			}
		case <-ctx.Done():
			return fmt.Errorf("append: %w", ctx.Err())
		}
	}
	return first
}

// Flush waits until nothing is in flight.
func (w *Writer) Flush(ctx context.Context) error { return w.cl.Flush(ctx) }

// Close flushes and closes. It waits for the brokers at most 3 s; what is then
// still in flight fails with ErrClosed.
func (w *Writer) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	_ = w.cl.Flush(ctx) // fails only with its context
	w.abort()
}

// abort closes without waiting; what is in flight fails with ErrClosed.
func (w *Writer) abort() {
	w.mu.Lock()
	closed := w.closed
	w.closed = true
	w.mu.Unlock()
	if closed {
		return
	}
	w.c.mu.Lock()
	delete(w.c.writers, w)
	w.c.mu.Unlock()
	w.cl.Close()
}
