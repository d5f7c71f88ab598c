package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Setting reads one setting of a topic back from the brokers; ok is false where
// they do not know it. The embedded broker stores whatever it is told, so only
// settings it acts upon are told.
func (c *Client) Setting(ctx context.Context, topic, name string) (value string, ok bool, err error) {
	if c.dial.local && !slices.Contains(embeddedSettings, name) {
		return "", false, nil
	}
	err = c.retry(ctx, func(ctx context.Context) error {
		rs, err := c.adm.DescribeTopicConfigs(ctx, topic)
		if err != nil {
			return err
		}
		r, err := rs.On(topic, nil)
		if err != nil {
			return err
		}
		if r.Err != nil {
			return r.Err
		}
		for _, k := range r.Configs {
			if k.Key == name && k.Value != nil {
				value, ok = *k.Value, true
			}
		}
		return nil
	})
	if err != nil {
		return "", false, fmt.Errorf("setting %s of topic %s: %w", name, topic, err)
	}
	return value, ok, nil
}

// Topics lists the topics whose names begin with prefix and end with suffix, in
// order.
func (c *Client) Topics(ctx context.Context, prefix, suffix string) ([]string, error) {
	var names []string
	err := c.retry(ctx, func(ctx context.Context) error {
		topics, err := c.adm.ListTopics(ctx)
		if err != nil {
			return err
		}
		names = names[:0]
		for _, t := range topics {
			if t.Err == nil && strings.HasPrefix(t.Topic, prefix) && strings.HasSuffix(t.Topic, suffix) {
				names = append(names, t.Topic)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing topics: %w", err)
	}
	slices.Sort(names)
	return names, nil
}

// Since returns, by partition, the offset of the first record that was appended
// at a moment or later; the end of the log where there is none yet.
func (c *Client) Since(ctx context.Context, topic string, at time.Time) ([]int64, error) {
	var out []int64
	err := c.retry(ctx, func(ctx context.Context) error {
		d, err := c.metadata(ctx, topic)
		if err != nil {
			return err
		}
		// Milliseconds: a moment within one begins with it.
		offsets, err := c.adm.ListOffsetsAfterMilli(ctx, at.UnixMilli(), topic)
		if err != nil {
			return err
		}
		out = make([]int64, len(d.Partitions))
		var errs []error
		for i := range out {
			o, ok := offsets.Lookup(topic, int32(i))
			if !ok {
				return ErrNoTopic
			}
			out[i], errs = o.Offset, append(errs, o.Err)
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return nil, fmt.Errorf("offsets of %s at %s: %w", topic, at.UTC().Format(time.RFC3339), err)
	}
	return out, nil
}
