package logging

import (
	"io"
	"sync"
)

// Shared lets several loggers write to one place: each line is written whole,
// whatever the others do. Loggers made by [New] lock for themselves only.
func Shared(w io.Writer) io.Writer { return &shared{w: w} }

type shared struct {
	mu sync.Mutex
	w  io.Writer
}

// Write implements [io.Writer].
func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}
