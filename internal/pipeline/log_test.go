package pipeline

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/stream"
)

// TestOpenLog holds that a command reaches the same embedded log whether or not
// a process has it open, and is told which of the two it is.
func TestOpenLog(t *testing.T) {
	if _, err := OpenLog(LogOptions{DataDir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "there is no log") {
		t.Fatalf("a directory nothing ran with: %v", err)
	}
	for name, path := range map[string]string{
		"a short path":                         filepath.Join(t.TempDir(), "data"),
		"a path longer than a socket may have": filepath.Join(t.TempDir(), strings.Repeat("deep/", 30), "data"),
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			running, err := Start(ctx, Options{DataDir: path}, nil)
			if err != nil {
				t.Fatal(err)
			}
			beside := openLog(t, path)
			if beside.Alone || !beside.Embedded {
				t.Errorf("beside a running process: alone %v, embedded %v", beside.Alone, beside.Embedded)
			}
			put(ctx, t, beside.Client, "told")
			beside.Close()
			cancel()
			if err := running.Wait(); err != nil {
				t.Fatal(err)
			}

			alone := openLog(t, path)
			defer alone.Close()
			if !alone.Alone || alone.Instance == "" {
				t.Errorf("with nothing running: alone %v, instance %q", alone.Alone, alone.Instance)
			}
			if got := first(t, alone.Client); got != "told" {
				t.Errorf("read %q, want what was written through the other process", got)
			}
			if _, err := Start(t.Context(), Options{DataDir: path}, nil); err == nil {
				t.Error("a process could start on a log that a command has open")
			}
		})
	}
}

func openLog(t *testing.T, path string) *LogAccess {
	t.Helper()
	a, err := OpenLog(LogOptions{DataDir: path})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

const topic = "spoken"

func put(ctx context.Context, t *testing.T, c *stream.Client, value string) {
	t.Helper()
	if _, err := c.Ensure(ctx, topic, stream.TopicSettings{Partitions: 1, Replication: 1}); err != nil {
		t.Fatal(err)
	}
	w, err := c.Writer()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.AppendSync(ctx, &kgo.Record{Topic: topic, Key: []byte("k"), Value: []byte(value)}); err != nil {
		t.Fatal(err)
	}
}

func first(t *testing.T, c *stream.Client) (value string) {
	t.Helper()
	err := c.Read(t.Context(), topic, 0, 0, 1, func(r *kgo.Record) error {
		value = string(r.Value)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return value
}
