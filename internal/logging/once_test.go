package logging

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestRepeatedLinesAreSaidOnce(t *testing.T) {
	var out bytes.Buffer
	h := newOnce(New(&out, slog.LevelWarn, "stream", "").Handler(), time.Minute)
	say := func(at time.Duration, msg, addr string) int {
		out.Reset()
		r := slog.NewRecord(time.Unix(1000, 0).Add(at), slog.LevelWarn, msg, 0)
		r.AddAttrs(slog.String("addr", addr), slog.Duration("took", at))
		if err := h.Handle(context.Background(), r); err != nil {
			t.Fatal(err)
		}
		return strings.Count(out.String(), "\n")
	}
	for _, step := range []struct {
		at        time.Duration
		msg, addr string
		want      int
	}{
		{0, "no connection", "a:1", 1},
		{2 * time.Second, "no connection", "a:1", 0},
		{3 * time.Second, "no connection", "b:1", 1}, // another broker
		{4 * time.Second, "no leader", "a:1", 1},     // another trouble
		{50 * time.Second, "no connection", "a:1", 0},
		{100 * time.Second, "no connection", "a:1", 0},             // it went on all the while
		{100*time.Second + time.Minute, "no connection", "a:1", 1}, // it had ended
	} {
		if got := say(step.at, step.msg, step.addr); got != step.want {
			t.Errorf("%s: %q about %s: %d lines, want %d", step.at, step.msg, step.addr, got, step.want)
		}
	}
	if len(h.said.last) != 1 {
		t.Errorf("%d lines remembered, want the newest alone", len(h.said.last))
	}
}
