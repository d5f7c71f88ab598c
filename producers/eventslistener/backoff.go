package eventslistener

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/afterimage-dr/afterimage/internal/kube"
)

// backoff waits longer each time, from a quarter of a second to max, each time
// with a jitter of a quarter.
type backoff struct {
	max  time.Duration
	next time.Duration
}

const firstWait = 250 * time.Millisecond

func (b *backoff) reset() { b.next = 0 }

func (b *backoff) step() time.Duration {
	b.next = max(b.next*2, firstWait)
	b.next = min(b.next, b.max)
	return b.next*3/4 + rand.N(b.next/4+1)
}

func (b *backoff) sleep(ctx context.Context) { sleep(ctx, b.step()) }

// after waits as long as the server asked for in err, else the next step.
func (b *backoff) after(ctx context.Context, err error) {
	d := b.step()
	if asked, ok := kube.RetryAfter(err); ok && asked > d {
		d = asked
	}
	sleep(ctx, d)
}

// sleep waits; false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// reasonOf is a constant word for the cause of an error, for status and for
// saying it once.
func reasonOf(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, kube.ErrNotServed):
		return "NotServed"
	case apierrors.IsForbidden(err):
		return "Forbidden"
	case apierrors.IsUnauthorized(err):
		return "Unauthorized"
	case kube.Unavailable(err):
		return "SourceUnavailable"
	case apierrors.ReasonForError(err) != "":
		return string(apierrors.ReasonForError(err))
	}
	return "Error"
}
