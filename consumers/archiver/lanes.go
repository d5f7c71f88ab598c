package archiver

import (
	"context"
	"sync"
	"time"

	"github.com/afterimage-dr/afterimage/topology"
)

// pool runs tasks, at most limit at a time, over all partitions of the process.
type pool struct {
	mu      sync.Mutex
	limit   int
	running int
	queue   []func()
}

func newPool(limit int) *pool { return &pool{limit: limit} }

// setLimit takes effect with the next task that begins.
func (p *pool) setLimit(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limit = n
	p.begin()
}

// submit queues a task; it never blocks.
func (p *pool) submit(task func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue = append(p.queue, task)
	p.begin()
}

// begin starts what may run. p.mu is held.
func (p *pool) begin() {
	for p.running < p.limit && len(p.queue) > 0 {
		task := p.queue[0]
		p.queue[0] = nil
		p.queue = p.queue[1:]
		p.running++
		go func() {
			task()
			p.mu.Lock()
			defer p.mu.Unlock()
			p.running--
			p.begin()
		}()
	}
}

// job is one thing to do for a key.
type job struct {
	key  topology.Key
	name string // the record key
	// record of changes; nil where the comparison concluded that the object has to
	// go, of the version below.
	record  *topology.Record
	version topology.Version
	offset  int64
	// tracked jobs come from the tail: the watermark waits for them.
	tracked bool
	// verify looks at the bucket even where memory says that nothing is to do.
	verify bool
	// listed is the ETag that a comparison found, where it asks for the job.
	listed string
	// folded: the record stands in the stretch that a comparison follows.
	folded bool
}

func (j *job) size() int {
	if j.record == nil {
		return 256
	}
	return len(j.record.Body) + 256
}

// lane is the queue of one key. Only the newest waiting job matters.
//
// Guarantee 5: one job of a key runs at a time, in the order of the log.
type lane struct{ next *job }

// The bounds of what a partition holds unfinished: bodies are in memory.
const (
	maxUnfinished      = 512
	maxUnfinishedBytes = 2 << 20
)

// submit queues a job behind those of its key. It waits while the partition
// holds too much; what waits for one slow object is one slot of it, so that
// object stalls no other.
func (p *partition) submit(ctx context.Context, j *job) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for ctx.Err() == nil && p.ctx.Err() == nil && p.unfinished > 0 && (p.unfinished >= maxUnfinished || p.unfinishedBytes >= maxUnfinishedBytes) {
		p.room.Wait()
	}
	if ctx.Err() != nil || p.ctx.Err() != nil {
		return context.Canceled
	}
	if j.tracked {
		p.track.add(j.offset, observed(j.record))
	}
	l := p.lanes[j.name]
	idle := l == nil
	if idle {
		l = &lane{}
		p.lanes[j.name] = l
	}
	if old := l.next; old != nil {
		if !j.tracked && old.tracked {
			return nil // a newer record of the key is waiting: it makes this one needless
		}
		// Only the last record of those waiting has an effect. What it replaces is
		// done with: should it be lost, so is the position behind it.
		j.verify = j.verify || old.verify
		p.leave(old)
	}
	l.next = j
	p.unfinished++
	p.unfinishedBytes += j.size()
	if idle {
		p.begin(l)
	}
	return nil
}

// begin runs the next job of a lane. p.mu is held.
func (p *partition) begin(l *lane) {
	p.a.pool.submit(func() {
		p.mu.Lock()
		j := l.next
		l.next = nil
		p.mu.Unlock()
		if j.record != nil {
			p.a.pacer.wait(p.ctx, observed(j.record))
		}
		p.finish(j, p.do(j))
	})
}

// leave takes a job out of the accounts. p.mu is held.
func (p *partition) leave(j *job) {
	if j.tracked {
		p.track.done(j.offset)
	}
	p.unfinished--
	p.unfinishedBytes -= j.size()
	p.room.Broadcast()
}

// finish ends a job with what is to be remembered of it, and lets the next of
// its key begin (guarantee 1: the bucket has acknowledged by now).
func (p *partition) finish(j *job, r result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.memory.put(j.name, r)
	if r.lost {
		j.tracked = false // the position stays before it
	}
	p.leave(j)
	l := p.lanes[j.name]
	if l.next != nil {
		p.begin(l)
	} else {
		delete(p.lanes, j.name)
	}
	if p.finished++; p.finished >= commitRecords {
		p.finished = 0
		wake(p.commitNow)
	}
	p.room.Broadcast()
}

// drain waits until no job runs or waits, or until patience ends.
func (p *partition) drain(patience time.Duration) bool {
	impatient := false
	late := time.AfterFunc(patience, func() { p.mu.Lock(); impatient = true; p.room.Broadcast(); p.mu.Unlock() })
	defer late.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.lanes) > 0 && !impatient {
		p.room.Wait()
	}
	return len(p.lanes) == 0
}

// observed is when the change of a record was learned.
func observed(r *topology.Record) time.Time {
	if r.ObservedAt.IsZero() {
		return r.AppendedAt
	}
	return r.ObservedAt
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
