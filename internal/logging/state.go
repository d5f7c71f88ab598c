package logging

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// State says that something fails once when it begins to, and once when it is
// over, however often it is tried in between. The zero State is a thing that
// works. Safe for concurrent use.
type State struct {
	mu     sync.Mutex
	reason string
	since  time.Time
	tries  int
}

// Failing notes that the thing fails for a reason and logs msg at level warn if
// that is news: if it worked before or failed for another reason. reason must be
// constant for one cause (an error's text is not: it may hold a port or a time).
// It tells whether it logged.
func (s *State) Failing(l *slog.Logger, reason, msg string, attrs ...slog.Attr) bool {
	if reason == "" {
		reason = msg
	}
	s.mu.Lock()
	news := s.reason != reason
	if s.reason == "" {
		s.since, s.tries = time.Now(), 0
	}
	s.reason = reason
	s.tries++
	s.mu.Unlock()
	if news {
		l.LogAttrs(context.Background(), slog.LevelWarn, msg, attrs...)
	}
	return news
}

// Working notes that the thing works and logs msg at level info, with how long
// it did not, if it failed before. It tells whether it logged.
func (s *State) Working(l *slog.Logger, msg string, attrs ...slog.Attr) bool {
	s.mu.Lock()
	news, since, tries := s.reason != "", s.since, s.tries
	s.reason = ""
	s.mu.Unlock()
	if news {
		attrs = append(attrs, slog.Duration("after", Since(since)), slog.Int("attempts", tries))
		l.LogAttrs(context.Background(), slog.LevelInfo, msg, attrs...)
	}
	return news
}

// Reason is why the thing fails, and since when; empty while it works.
func (s *State) Reason() (string, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason, s.since
}

// atLeast drops everything below a level, whatever the handler below lets through.
type atLeast struct {
	slog.Handler
	level slog.Level
}

// Enabled implements [slog.Handler].
func (a atLeast) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= a.level && a.Handler.Enabled(ctx, l)
}

// WithAttrs implements [slog.Handler].
func (a atLeast) WithAttrs(attrs []slog.Attr) slog.Handler {
	return atLeast{a.Handler.WithAttrs(attrs), a.level}
}

// WithGroup implements [slog.Handler].
func (a atLeast) WithGroup(name string) slog.Handler {
	return atLeast{a.Handler.WithGroup(name), a.level}
}
