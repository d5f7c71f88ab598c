package stream_test

import (
	"testing"

	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/internal/stream/streamtest"
)

func TestEmbeddedConforms(t *testing.T) {
	e, err := stream.StartEmbedded(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	streamtest.Run(t, streamtest.Target{Dial: e.Dial(), Stop: e.Stop, Start: e.Start})
}
