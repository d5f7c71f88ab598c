package bucket

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// timing of calls; tests change it.
type timing struct {
	// attempts of one call, and of a probe, which is to answer soon.
	attempts, probeAttempts int
	// timeout of one attempt: an object is a few MiB at most.
	timeout, probeTimeout time.Duration
	// base and most of the pause before another attempt; it doubles each time.
	base, most time.Duration
	// mostRetryAfter bounds what a server may ask for.
	mostRetryAfter time.Duration
	now            func() time.Time
	sleep          func(context.Context, time.Duration) error
	jitter         func() float64 // in [0, 1)
}

var realTiming = timing{
	attempts: 6, probeAttempts: 2,
	timeout: 30 * time.Second, probeTimeout: 10 * time.Second,
	base: 100 * time.Millisecond, most: 5 * time.Second,
	mostRetryAfter: time.Minute,
	now:            time.Now,
	sleep:          sleep,
	jitter:         rand.Float64,
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pause before the attempt after the given one: half of it fixed, half random,
// so that those who failed together do not come back together.
func (t timing) pause(attempt int) time.Duration {
	d := min(t.base<<min(attempt-1, 20), t.most)
	return d/2 + time.Duration(t.jitter()*float64(d)/2)
}

// call does one request, again as long as that may help. op names it in errors.
func (b *Bucket) call(ctx context.Context, op string, request func(context.Context) error) error {
	return b.try(ctx, op, b.timing.attempts, b.timing.timeout, request)
}

func (b *Bucket) try(ctx context.Context, op string, attempts int, timeout time.Duration, request func(context.Context) error) error {
	for attempt := 1; ; attempt++ {
		err := b.attempt(ctx, timeout, request)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			// Not the server's doing, whatever the error says.
			return fmt.Errorf("%s: %s: %w", b, op, ctx.Err())
		}
		if attempt >= attempts || !retryable(err) {
			return b.fail(op, err)
		}
		if err := b.timing.sleep(ctx, b.timing.pause(attempt)); err != nil {
			return fmt.Errorf("%s: %s: %w", b, op, err)
		}
	}
}

// attempt waits for its turn and does the request once.
func (b *Bucket) attempt(ctx context.Context, timeout time.Duration, request func(context.Context) error) error {
	turn, err := b.limiter.acquire(ctx, b.timing)
	if err != nil {
		return err
	}
	requestCtx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err = request(requestCtx)
	switch {
	case err == nil:
		b.limiter.release(turn, b.timing.now(), granted, 0)
	case classify(err) == SlowDown:
		b.limiter.release(turn, b.timing.now(), slowed, b.retryAfter(answerIn(err).header))
	default:
		b.limiter.release(turn, b.timing.now(), failed, 0)
	}
	return err
}

// retryable: the same request may succeed later.
func retryable(err error) bool {
	switch classify(err) {
	case Unreachable, SlowDown:
		return true
	case Unauthorized:
		// The client has learned the server's clock from the answer.
		return answerIn(err).code == "RequestTimeTooSkewed"
	case Failing:
		a := answerIn(err)
		return a.status >= http.StatusInternalServerError && a.status != http.StatusNotImplemented ||
			a.code == "RequestTimeout" || a.code == "InternalError" || a.code == "IncompleteBody" || errors.Is(err, errBroken)
	default:
		return false
	}
}

// retryAfter is how long the server asks to wait: seconds or a date.
func (b *Bucket) retryAfter(header http.Header) time.Duration {
	text := header.Get("Retry-After")
	var d time.Duration
	if seconds, err := strconv.Atoi(text); err == nil {
		d = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		d = at.Sub(b.timing.now())
	}
	return max(0, min(d, b.timing.mostRetryAfter))
}
