package eventslistener

import (
	"context"
	"sync"
	"time"

	"github.com/afterimage-dr/afterimage/topology"
)

// pollPace is how often the consumers' lag is asked for while a listing waits.
const pollPace = 100 * time.Millisecond

// pacer keeps listings from building a backlog that live events would wait
// behind: in an ordered log nothing overtakes. It holds only while consumers
// advance; the log is there to hold everything, and the source may die next.
type pacer struct {
	t *term

	mu          sync.Mutex
	room, given int64         // what is left of what was given
	wake        chan struct{} // closed when room was made
	want        chan struct{} // somebody waits
}

func newPacer(t *term) *pacer {
	return &pacer{t: t, wake: make(chan struct{}), want: make(chan struct{}, 1)}
}

// wait takes room for one record of a listing.
func (p *pacer) wait(ctx context.Context) error {
	if p.t.opts.MaxUnapplied < 0 || p.t.settings().Suspend {
		return nil
	}
	for {
		p.mu.Lock()
		if p.room > 0 {
			p.room--
			p.mu.Unlock()
			return nil
		}
		wake := p.wake
		p.mu.Unlock()
		select {
		case p.want <- struct{}{}:
		default:
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-wake:
		}
	}
}

// allow makes room for n records and returns how much was used since the last time.
func (p *pacer) allow(n int64) (used int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	used = p.given - p.room
	p.room, p.given = n, n
	if n > 0 {
		close(p.wake)
		p.wake = make(chan struct{})
	}
	return used
}

// run asks for the lag as long as a listing appends.
func (p *pacer) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.want:
		}
		p.steer(ctx)
	}
}

// restful is how long nobody may use room until asking for the lag stops.
const restful = 2 * time.Second

// steer gives room according to the lag until nobody uses it any more.
func (p *pacer) steer(ctx context.Context) {
	var applied int64
	advanced, used := time.Now(), time.Now()
	for time.Since(used) < restful {
		lag, sum, err := p.lag(ctx)
		if err == nil && sum != applied {
			applied, advanced = sum, time.Now()
		}
		room := p.t.opts.MaxUnapplied - lag
		if err != nil || room < 0 {
			room = 0
		}
		if time.Since(advanced) > p.t.opts.Stuck || p.t.settings().Suspend {
			// Nobody takes anything: at full speed, until somebody does.
			room = fullSpeed
		}
		if p.allow(room) > 0 {
			used = time.Now()
		}
		if !sleep(ctx, pollPace) {
			return
		}
		select {
		case <-p.want:
			used = time.Now()
		default:
		}
	}
	p.allow(0)
}

// fullSpeed is the room given between two looks while nobody advances.
const fullSpeed = 1 << 20

// lag is how many records are appended and not applied, and a number that rises
// while consumers advance.
func (p *pacer) lag(ctx context.Context) (lag, applied int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	c := p.t.config.named()
	for _, stage := range [...]struct{ component, topic string }{
		{"processor", p.t.opts.Topics.Changes},
		{"synchronizer", p.t.opts.Topics.Desired},
	} {
		l, sum, err := p.t.m.log.GroupLag(ctx, topology.GroupFor(c.Namespace, c.Name, stage.component), stage.topic)
		if err != nil {
			return 0, 0, err
		}
		lag, applied = lag+l, applied+sum
	}
	return lag, applied, nil
}
