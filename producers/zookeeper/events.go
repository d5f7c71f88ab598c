package zookeeper

import (
	"sync"

	"github.com/go-zookeeper/zk"
)

// Events gathers what the watches of one connection tell, in the order in which the
// server sent it. Its Push goes to the connection as ensemble.WithEvents.
type Events struct {
	mu    sync.Mutex
	queue []zk.Event
	lost  bool
	ready chan struct{}
}

// NewEvents makes one.
func NewEvents() *Events { return &Events{ready: make(chan struct{}, 1)} }

// Push takes an event.
func (e *Events) Push(ev zk.Event) {
	e.mu.Lock()
	switch {
	case ev.Type != zk.EventSession:
		if ev.Type != zk.EventNotWatching {
			e.queue = append(e.queue, ev)
		}
	case ev.State == zk.StateDisconnected || ev.State == zk.StateExpired:
		e.lost = true
	}
	e.mu.Unlock()
	select {
	case e.ready <- struct{}{}:
	default:
	}
}

// take returns what has come. lost: the connection was, and with it what its watches
// would have told in time.
func (e *Events) take() (events []zk.Event, lost bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	events, e.queue = e.queue, nil
	return events, e.lost
}
