package bucket

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// withTransport is the client of a bucket with another transport.
func withTransport(b *Bucket, f http.RoundTripper) *s3.Client {
	o := b.client.Options()
	o.HTTPClient = &http.Client{Transport: f}
	return s3.New(o)
}

func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(8)
		ctx := context.Background()
		var turns []turn
		for range 8 {
			turn, err := l.acquire(ctx, realTiming)
			if err != nil {
				t.Fatal(err)
			}
			turns = append(turns, turn)
		}
		// The ninth waits, and one who gives up leaves no trace.
		short, cancel := context.WithTimeout(ctx, time.Second)
		if _, err := l.acquire(short, realTiming); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a ninth: %v", err)
		}
		cancel()
		time.Sleep(time.Second)
		// All eight are told to slow down: that is one piece of news.
		for _, turn := range turns {
			l.release(turn, time.Now(), slowed, 10*time.Second)
		}
		if l.limit != 4 || l.inFlight != 0 {
			t.Errorf("limit %v, %d in flight", l.limit, l.inFlight)
		}
		// Nobody comes back before the server wants it, and then four at a time.
		start := time.Now()
		var mu sync.Mutex
		var wg sync.WaitGroup
		now, most := 0, 0
		for range 20 {
			wg.Go(func() {
				turn, err := l.acquire(ctx, realTiming)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				now++
				most = max(most, now)
				mu.Unlock()
				if wait := time.Since(start); wait < 10*time.Second {
					t.Errorf("back after %s", wait)
				}
				time.Sleep(time.Second)
				mu.Lock()
				now--
				mu.Unlock()
				l.release(turn, time.Now(), failed, 0)
			})
		}
		wg.Wait()
		if most != 4 || l.inFlight != 0 || l.waiting.Len() != 0 {
			t.Errorf("%d at a time, %d in flight, %d waiting", most, l.inFlight, l.waiting.Len())
		}
		// It never goes below one.
		for range 10 {
			turn, err := l.acquire(ctx, realTiming)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
			l.release(turn, time.Now(), slowed, 0)
		}
		if l.limit != 1 {
			t.Errorf("limit %v", l.limit)
		}
	})
}

// TestLimiterUnderCancellation: places are neither lost nor given twice.
func TestLimiterUnderCancellation(t *testing.T) {
	l := newLimiter(3)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i%7)*time.Millisecond)
			defer cancel()
			turn, err := l.acquire(ctx, realTiming)
			if err != nil {
				return
			}
			time.Sleep(time.Millisecond)
			l.release(turn, time.Now(), granted, 0)
		})
	}
	wg.Wait()
	if l.inFlight != 0 || l.waiting.Len() != 0 {
		t.Errorf("%d in flight, %d waiting", l.inFlight, l.waiting.Len())
	}
}
