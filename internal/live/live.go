// Package live holds a value that changes while others read it.
package live

import "sync"

// Value is a value and the news of its change. The zero Value holds the zero T.
type Value[T any] struct {
	mu      sync.Mutex
	v       T
	changed chan struct{}
}

// New returns a Value that holds v.
func New[T any](v T) *Value[T] { return &Value[T]{v: v} }

// Get returns the current value and a channel that is closed when it changes.
func (l *Value[T]) Get() (T, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.v, l.changed
}

// Load returns the current value.
func (l *Value[T]) Load() T {
	v, _ := l.Get()
	return v
}

// Set replaces the value and wakes everyone who waits for a change.
func (l *Value[T]) Set(v T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.v = v
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}
