package history

import (
	"bytes"
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/topology"
)

// Config is the newest configuration in the log; its Generation is 0 if there is
// none. Every partition holds it: one is read.
func (l Log) Config(ctx context.Context) (topology.Config, error) {
	p, err := l.Client.Bounds(ctx, l.Topics.Changes, 0)
	if err != nil {
		return topology.Config{}, err
	}
	key := []byte(topology.ControlKey(topology.Configured, ""))
	var newest topology.Config
	err = l.Client.Read(ctx, p.Topic, p.Number, p.Start, p.End, func(k *kgo.Record) error {
		if !bytes.Equal(k.Key, key) {
			return nil
		}
		r, err := topology.Decode(k)
		if err != nil {
			return nil // not ours
		}
		if c, err := topology.ConfigIn(&r); err == nil && c.Generation >= newest.Generation {
			newest = c
		}
		return nil
	})
	if err != nil {
		return topology.Config{}, fmt.Errorf("configuration in the log: %w", err)
	}
	return newest, nil
}
