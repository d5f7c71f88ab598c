package restorer

import (
	"sync"
	"time"
)

// progressEvery is how often counts are told.
const progressEvery = 200 * time.Millisecond

// progress tells how far a recovery is, phases at once and counts now and then.
type progress struct {
	tell func(Progress)

	mu   sync.Mutex
	now  Progress
	last time.Time
}

func (p *progress) phase(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now.Phase == name {
		return
	}
	p.now.Phase, p.last = name, time.Now()
	p.tell(p.now)
}

func (p *progress) count(done, total, failed int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Done, p.now.Total, p.now.Failed = done, total, failed
	if time.Since(p.last) >= progressEvery || done == total {
		p.last = time.Now()
		p.tell(p.now)
	}
}
