package stream_test

import (
	"testing"

	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/internal/stream/streamtest"
	"github.com/afterimage-dr/afterimage/internal/testenv"
)

func TestKafkaConforms(t *testing.T) {
	k := testenv.StartKafka(t, testenv.OwnBroker(), testenv.WithSetting("group.initial.rebalance.delay.ms", "0"))
	streamtest.Run(t, streamtest.Target{
		Dial:  stream.Brokers(k.Brokers()...),
		Stop:  func() error { k.Stop(); return nil },
		Start: func() error { k.Start(); return nil },
	})
}
