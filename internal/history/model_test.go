package history

import (
	"errors"
	"testing"
	"time"
)

// Random histories against recorded truth, at random moments.
func TestSnapshotIsTheTruth(t *testing.T) {
	for seed := range uint64(6) {
		log, _ := embeddedLog(t)
		w := newWorld(t, seed, log, log.Topics.TopicConfigs(0)[log.Topics.Changes])
		w.run(1000)
		for _, at := range w.sample(12, nil) {
			w.compare(at)
		}
		w.compare(time.Time{})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func TestEmbeddedFloor(t *testing.T) {
	log, broker := embeddedLog(t)
	w := newWorld(t, 7, log, log.Topics.TopicConfigs(0)[log.Topics.Changes])
	w.run(2500)
	w.compare(w.quiet[len(w.quiet)/2])
	must(t, broker.Compact())
	w.log.Floor = broker.HistoryFloor()
	floor := w.log.Floor
	w.run(2500)
	for _, at := range w.sample(20, func(at time.Time) bool { return at.After(floor.Add(2 * time.Millisecond)) }) {
		w.compare(at)
	}
	for _, at := range w.sample(5, func(at time.Time) bool { return at.Before(floor) }) {
		_, err := w.log.Snapshot(t.Context(), at)
		if outside := (*OutsideError)(nil); !errors.As(err, &outside) || outside.From.Before(floor) {
			t.Errorf("a moment before the floor: %v", err)
		}
	}
	window, err := w.log.Window(t.Context())
	must(t, err)
	if err := window.Check(floor.Add(-time.Second)); err == nil {
		t.Error("a moment before the floor passed")
	}
	if got := window.From.Sub(floor); got < 0 || got > 2*time.Millisecond {
		t.Errorf("the window begins %s after the floor", got)
	}
	if len(window.Resources) != 1 {
		t.Errorf("resources: %v", window.Resources)
	}
}
