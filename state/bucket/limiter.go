package bucket

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// limiter bounds the requests in flight of one bucket. The bound grows by one
// with each round of successes and halves when the server asks for patience, as
// in TCP, so that callers need not agree on how many they are.
type limiter struct {
	mu       sync.Mutex
	most     float64
	limit    float64
	inFlight int
	waiting  list.List // of chan struct{}, closed when it is their turn
	// halved is when limit was last halved: answers to requests from before say
	// nothing new.
	halved time.Time
	// until is when the server wants to hear of us again.
	until time.Time
}

func newLimiter(most int) *limiter {
	return &limiter{most: float64(most), limit: float64(most)}
}

// turn is the right to one request; when it began.
type turn time.Time

type outcome int

const (
	granted outcome = iota
	failed
	slowed
)

// acquire waits until a request may be made.
func (l *limiter) acquire(ctx context.Context, t timing) (turn, error) {
	if err := l.enter(ctx); err != nil {
		return turn{}, err
	}
	for {
		l.mu.Lock()
		wait := l.until.Sub(t.now())
		l.mu.Unlock()
		if wait <= 0 {
			return turn(t.now()), nil
		}
		// With the place kept: nobody else gets ahead.
		if err := t.sleep(ctx, wait); err != nil {
			l.leave()
			return turn{}, err
		}
	}
}

func (l *limiter) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	if l.waiting.Len() == 0 && l.free() {
		l.inFlight++
		l.mu.Unlock()
		return nil
	}
	mine := make(chan struct{})
	place := l.waiting.PushBack(mine)
	l.mu.Unlock()
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	select {
	case <-mine:
		// It came at the same moment: pass it on.
		l.inFlight--
	default:
		l.waiting.Remove(place)
	}
	l.wake()
	l.mu.Unlock()
	return ctx.Err()
}

func (l *limiter) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inFlight--
	l.wake()
}

// release ends a request. retryAfter is what the server asked for, if it slowed us.
func (l *limiter) release(began turn, now time.Time, o outcome, retryAfter time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inFlight--
	switch o {
	case granted:
		l.limit = min(l.most, l.limit+1/l.limit)
	case slowed:
		if time.Time(began).After(l.halved) {
			l.limit, l.halved = max(1, l.limit/2), now
		}
		if until := now.Add(retryAfter); until.After(l.until) {
			l.until = until
		}
	case failed:
	}
	l.wake()
}

// free and wake: the caller holds mu.
func (l *limiter) free() bool { return l.inFlight < int(l.limit) }

func (l *limiter) wake() {
	for l.waiting.Len() > 0 && l.free() {
		l.inFlight++
		close(l.waiting.Remove(l.waiting.Front()).(chan struct{})) // only enter fills the list
	}
}
