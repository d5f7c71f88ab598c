package synchronizer

import (
	"context"
	"sync"
	"time"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/owned"
	"github.com/afterimage-dr/afterimage/topology"
)

// pool runs tasks, at most limit at a time, over all partitions of the process.
type pool struct {
	mu      sync.Mutex
	limit   int
	running int
	queue   []func()
	head    int
}

func newPool(limit int) *pool { return &pool{limit: limit} }

// setLimit takes effect with the next task that begins.
func (p *pool) setLimit(n int) {
	p.mu.Lock()
	p.limit = n
	for p.running < p.limit && p.head < len(p.queue) {
		p.running++
		go p.work(p.take())
	}
	p.mu.Unlock()
}

// submit queues a task; it never blocks.
func (p *pool) submit(task func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running < p.limit {
		p.running++
		go p.work(task)
		return
	}
	p.queue = append(p.queue, task)
}

func (p *pool) work(task func()) {
	for task != nil {
		task()
		p.mu.Lock()
		if p.head < len(p.queue) && p.running <= p.limit {
			task = p.take()
		} else {
			task = nil
			p.running--
		}
		p.mu.Unlock()
	}
}

func (p *pool) take() func() {
	task := p.queue[p.head]
	p.queue[p.head] = nil
	p.head++
	if p.head == len(p.queue) {
		p.queue, p.head = p.queue[:0], 0
	}
	return task
}

// job is one thing to do for a key.
type job struct {
	want want
	// tracked jobs come from the tail: the watermark waits for them.
	tracked bool
	// retry of what is in quarantine.
	retry bool
	// drifted: found by a comparison; a write then counts as a repair.
	drifted bool
	// redelete: found alive although remembered as deleted.
	redelete bool
}

func (j *job) size() int { return len(j.want.body) + 256 }

// lane is the queue of one key. Only the newest waiting job matters.
//
// Guarantee 5: one job of a key runs at a time, in the order of the log.
type lane struct {
	next    *job
	running bool
}

// The bounds of what a partition holds unfinished: bodies are in memory.
const (
	maxUnfinished      = 512
	maxUnfinishedBytes = 8 << 20
)

// submit queues a job behind those of its key. It waits while the partition
// holds too much; what waits for one slow object is one slot of it, so that
// object stalls no other.
func (p *partition) submit(ctx context.Context, j *job) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for ctx.Err() == nil && p.unfinished > 0 && (p.unfinished >= maxUnfinished || p.unfinishedBytes >= maxUnfinishedBytes) {
		p.room.Wait()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if j.tracked {
		p.track.add(j.want.offset, j.want.observed, nil)
	}
	l := p.lanes[j.want.keyText]
	if l == nil {
		l = &lane{}
		p.lanes[j.want.keyText] = l
	}
	if old := l.next; old != nil {
		if !j.tracked && old.tracked {
			return nil // a newer record of the key is waiting: it makes this one needless
		}
		// Only the last record of those waiting has an effect. What it replaces is
		// done with: should it be lost, so is the position behind it.
		j.want.verify = j.want.verify || old.want.verify
		p.leave(old)
		p.superseded++
	}
	l.next = j
	p.unfinished++
	p.unfinishedBytes += j.size()
	if !l.running {
		l.running = true
		p.start(j.want.keyText, l)
	}
	return nil
}

// start runs the next job of a lane. p.mu is held.
func (p *partition) start(key string, l *lane) {
	p.s.pool.submit(func() {
		p.mu.Lock()
		j := l.next
		l.next = nil
		p.mu.Unlock()
		p.do(j)
	})
}

// leave takes a job out of the accounts. p.mu is held.
func (p *partition) leave(j *job) {
	if j.tracked {
		p.track.done(j.want.offset)
	}
	p.unfinished--
	p.unfinishedBytes -= j.size()
	p.room.Broadcast()
}

// finish ends a job with what is to be remembered of it, and lets the next of
// its key begin. It is called when the outcome is acknowledged (guarantee 1).
func (p *partition) finish(j *job, r result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.change != nil {
		p.memory.put(j.want.keyText, r.change)
	}
	if r.lost {
		j.tracked = false // the position stays before it
	}
	p.leave(j)
	p.finished++
	l := p.lanes[j.want.keyText]
	if l.next != nil {
		p.start(j.want.keyText, l)
	} else {
		delete(p.lanes, j.want.keyText)
	}
	if p.finished >= commitRecords {
		p.wakeCommit()
	}
	p.idle.Broadcast()
}

// drain waits until no job runs or waits, or until patience ends.
func (p *partition) drain(patience time.Duration) bool {
	late := time.AfterFunc(patience, func() { p.mu.Lock(); p.impatient = true; p.idle.Broadcast(); p.mu.Unlock() })
	defer late.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.lanes) > 0 && !p.impatient {
		p.idle.Wait()
	}
	return len(p.lanes) == 0
}

// want is what a record asks for.
type want struct {
	key     topology.Key
	keyText string
	op      topology.Op
	version topology.Version
	uid     string // of the object in the source
	hash    string
	body    []byte
	offset  int64
	entry   int
	// stamp of the namespace
	namespaceLabels, namespaceAnnotations map[string]string
	observed                              time.Time
	reason                                string
	// verify looks at the destination even where memory says that nothing is to do.
	verify bool
}

// marked is the body to write: what is desired, with the marks of its owner.
func (w *want) marked(owner topology.Owner, r kube.Resource, adopted bool, pre *owned.Precondition) ([]byte, error) {
	s := owned.State{Key: w.key, Version: w.version, UID: w.uid, Hash: w.hash, Body: w.body, Adopted: adopted}
	return s.Marked(owner, r, pre)
}

func wantOf(r *topology.Record) (want, error) {
	key, err := topology.ParseKey(r.Key)
	if err != nil {
		return want{}, err
	}
	w := want{
		key: key, keyText: r.Key, op: r.Op, version: r.Version, uid: r.UID, hash: r.Hash, body: r.Body,
		offset: r.Offset, entry: r.Entry, namespaceLabels: r.NamespaceLabels, namespaceAnnotations: r.NamespaceAnnotations,
		observed: r.ObservedAt, reason: r.Reason, verify: r.Requested,
	}
	if w.observed.IsZero() {
		w.observed = r.AppendedAt
	}
	if w.body == nil && w.op != topology.Hold {
		w.op = topology.Delete // a null value deletes, whatever else it says
	}
	return w, nil
}

// live tells whether the record wants the object to exist.
func (w *want) live() bool { return w.op == topology.Create || w.op == topology.Update }
