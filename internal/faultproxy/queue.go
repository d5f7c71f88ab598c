package faultproxy

import (
	"sync"
	"time"
)

// held bounds the bytes in flight per direction while they are delayed or hang:
// beyond it the sender's own socket fills, as on a real network. It is the
// product of 400 MB/s and a delay of 10 ms, so that a delay alone slows nobody
// who keeps many requests in flight.
const held = 4 << 20

// chunk is what one read brought and when it came.
type chunk struct {
	data []byte
	at   time.Time
}

// queue holds the chunks in flight in one direction. It counts bytes, not chunks:
// a client that writes each of its requests by itself has very many of them in
// flight.
type queue struct {
	mu     sync.Mutex
	chunks []chunk
	bytes  int
	ended  bool
	// filled and drained wake the one reader and the one writer.
	filled, drained chan struct{}
}

func newQueue() *queue {
	return &queue{filled: make(chan struct{}, 1), drained: make(chan struct{}, 1)}
}

// put waits until there is room; false means that done was closed.
func (q *queue) put(c chunk, done <-chan struct{}) bool {
	for {
		q.mu.Lock()
		room := q.bytes < held
		if room {
			q.chunks = append(q.chunks, c)
			q.bytes += len(c.data)
		}
		q.mu.Unlock()
		if room {
			wake(q.filled)
			return true
		}
		select {
		case <-q.drained:
		case <-done:
			return false
		}
	}
}

// end says that no more comes.
func (q *queue) end() {
	q.mu.Lock()
	q.ended = true
	q.mu.Unlock()
	wake(q.filled)
}

// take waits for the next chunk; false means that there is none any more, or that
// done was closed.
func (q *queue) take(done <-chan struct{}) (chunk, bool) {
	for {
		q.mu.Lock()
		if len(q.chunks) > 0 {
			c := q.chunks[0]
			q.chunks = q.chunks[1:]
			q.bytes -= len(c.data)
			q.mu.Unlock()
			wake(q.drained)
			return c, true
		}
		ended := q.ended
		q.mu.Unlock()
		if ended {
			return chunk{}, false
		}
		select {
		case <-q.filled:
		case <-done:
			return chunk{}, false
		}
	}
}

func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // woken already
	}
}
