package archiver

import (
	"context"
	"runtime"
	"time"

	"golang.org/x/time/rate"
)

const (
	// yieldRate is how many operations a second are done for each CPU while
	// replication writes. One costs some 0.4 ms, so this is a fiftieth of the CPUs;
	// reading the log for them costs some more.
	yieldRate = 50
	// yieldFor is how old a waiting original may become by giving way.
	yieldFor = 30 * time.Second
	// yieldPoll is how often it is looked whether there is still something to give
	// way to.
	yieldPoll = 20 * time.Millisecond
)

// pacer lets replication go first: what has to be at the destination should not
// wait for a CPU that is busy with originals. It holds back only while something
// is being written there, and not for long.
type pacer struct {
	a     *Archiver
	limit *rate.Limiter
}

func newPacer(a *Archiver) *pacer {
	n := yieldRate * runtime.GOMAXPROCS(0)
	return &pacer{a: a, limit: rate.NewLimiter(rate.Limit(n), max(1, n/20))}
}

// wait until an operation may begin that stores what was observed at a time.
func (p *pacer) wait(ctx context.Context, observed time.Time) {
	for p.a.Yield != nil && p.a.Yield() && time.Since(observed) < yieldFor {
		if p.limit.Allow() || !sleep(ctx, yieldPoll) {
			return
		}
	}
}
