package e2e

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/topology"
)

// withLog opens the embedded log of a rig that is not running.
func withLog(t *testing.T, r *rig, do func(*stream.Embedded, *kadm.Client)) {
	t.Helper()
	e, err := stream.StartEmbedded(filepath.Join(r.dataDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	cl, err := kgo.NewClient(e.Dial().Options...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	do(e, kadm.NewClient(cl))
}

// FAULTS 15: a topic deleted and made anew, each in turn; then all of them.
func TestTopicRecreated(t *testing.T) {
	needsServers(t)
	o := newOrdeal(t)
	topics := topology.TopicsFor("default", o.selector)
	o.work()
	for _, lost := range [][]string{{topics.Changes}, {topics.Desired}, {topics.Outcomes}, topics.All()} {
		o.start()
		o.sleep(3*time.Second, 5*time.Second)
		o.rig.kill()
		withLog(t, o.rig, func(_ *stream.Embedded, adm *kadm.Client) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			for _, topic := range lost {
				res, err := adm.DeleteTopic(ctx, topic)
				if err != nil || res.Err != nil {
					t.Errorf("deleting %s: %v %v", topic, err, res.Err)
				}
			}
		})
	}
	o.start()
	o.rest()
}

// FAULTS 19: compaction between a kill and the next start.
func TestCompactedBetweenKillAndRestart(t *testing.T) {
	needsServers(t)
	o := newOrdeal(t)
	o.work()
	for range 5 {
		o.start()
		o.sleep(2*time.Second, 4*time.Second)
		o.rig.kill()
		withLog(t, o.rig, func(e *stream.Embedded, _ *kadm.Client) {
			if err := e.Compact(); err != nil {
				t.Error(err)
			}
		})
	}
	o.start()
	o.rest()
}
