package logging

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// quiet is how long a library must not have said something for it to be news
// again: longer than the pauses between its tries.
const quiet = time.Minute

// once drops a line that says the same again while it goes on being said. Lines
// are the same if level, message and the attribute "addr" are, since the rest
// holds counts and ports.
type once struct {
	slog.Handler
	quiet time.Duration
	said  *said
}

type said struct {
	mu   sync.Mutex
	last map[string]time.Time
}

func newOnce(h slog.Handler, quiet time.Duration) once {
	return once{h, quiet, &said{last: map[string]time.Time{}}}
}

// Handle implements [slog.Handler].
func (o once) Handle(ctx context.Context, r slog.Record) error {
	id := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "addr" {
			id += " " + a.Value.String()
		}
		return true
	})
	o.said.mu.Lock()
	last := o.said.last[id]
	o.said.last[id] = r.Time
	for old, at := range o.said.last { // bounded: what was quiet long enough is forgotten
		if r.Time.Sub(at) >= o.quiet {
			delete(o.said.last, old)
		}
	}
	o.said.mu.Unlock()
	if !last.IsZero() && r.Time.Sub(last) < o.quiet {
		return nil
	}
	return o.Handler.Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (o once) WithAttrs(attrs []slog.Attr) slog.Handler {
	return once{o.Handler.WithAttrs(attrs), o.quiet, o.said}
}

// WithGroup implements [slog.Handler].
func (o once) WithGroup(name string) slog.Handler {
	return once{o.Handler.WithGroup(name), o.quiet, o.said}
}
