package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// TopicSettings are written, read back and checked.
type TopicSettings struct {
	Partitions  int32
	Replication int16 // -1: the broker's default
	Configs     map[string]string
}

// Ensure creates a topic or checks the one that exists. A wrong partition count
// is an error; a setting the broker lacks or holds otherwise is a warning (a
// topic that exists is not altered: it may be somebody's decision).
func (c *Client) Ensure(ctx context.Context, topic string, s TopicSettings) (warnings []string, err error) {
	err = c.retry(ctx, func(ctx context.Context) error {
		d, err := c.metadata(ctx, topic)
		switch {
		case errors.Is(err, ErrNoTopic):
			if err := c.create(ctx, topic, s); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
				return err
			}
			return kerr.LeaderNotAvailable // look again until it is there
		case err != nil:
			return err
		case len(d.Partitions) != int(s.Partitions):
			return &partitionCountError{topic: topic, has: len(d.Partitions), want: int(s.Partitions)}
		}
		for _, p := range d.Partitions {
			if p.Leader < 0 {
				return kerr.LeaderNotAvailable
			}
		}
		warnings, err = c.check(ctx, topic, s)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ensure topic %s: %w", topic, err)
	}
	return warnings, nil
}

// ErrPartitionCount: a topic has another number of partitions than asked for.
var ErrPartitionCount = errors.New("wrong number of partitions")

// partitionCountError is final: nothing here can put it right.
type partitionCountError struct {
	topic     string
	has, want int
}

func (e *partitionCountError) Error() string {
	return fmt.Sprintf("topic %s has %d partitions, want %d: keys would change partition", e.topic, e.has, e.want)
}

// Unwrap makes it final for retry.
func (e *partitionCountError) Unwrap() []error {
	return []error{kerr.InvalidPartitions, ErrPartitionCount}
}

func (c *Client) create(ctx context.Context, topic string, s TopicSettings) error {
	if _, told := s.Configs["delete.retention.ms"]; c.dial.local && !told {
		// The embedded broker's own default is a day, and cannot be set for all.
		s.Configs = maps.Clone(s.Configs)
		if s.Configs == nil {
			s.Configs = map[string]string{}
		}
		s.Configs["delete.retention.ms"] = embeddedTombstones
	}
	_, err := c.adm.CreateTopic(ctx, s.Partitions, s.Replication, pointers(s.Configs), topic)
	if !errors.Is(err, kerr.InvalidConfig) && !errors.Is(err, kerr.InvalidRequest) {
		return err
	}
	// A setting this broker does not know: leave out those it refuses one by one;
	// check warns of them.
	known := map[string]string{}
	for k, v := range s.Configs {
		r, err := c.adm.ValidateCreateTopics(ctx, s.Partitions, s.Replication, pointers(map[string]string{k: v}), topic)
		if err != nil {
			return err
		}
		if e := r[topic].Err; e == nil || !errors.Is(e, kerr.InvalidConfig) && !errors.Is(e, kerr.InvalidRequest) {
			known[k] = v
		}
	}
	if len(known) == len(s.Configs) {
		return err // each by itself is fine: it is something else
	}
	_, err = c.adm.CreateTopic(ctx, s.Partitions, s.Replication, pointers(known), topic)
	return err
}

// embeddedTombstones is how long the embedded broker keeps a tombstone where
// nothing else is said: 8 days in ms, as long as state keeps what was deleted.
const embeddedTombstones = "691200000"

// embeddedSettings are what the embedded broker acts on: it stores whatever it
// is given, so its answer says nothing.
var embeddedSettings = []string{
	"cleanup.policy", "compression.type", "delete.retention.ms", "max.message.bytes", "message.timestamp.type",
	"min.insync.replicas", "retention.bytes", "retention.ms", "segment.bytes", "segment.ms",
}

func pointers(m map[string]string) map[string]*string {
	out := make(map[string]*string, len(m))
	for k, v := range m {
		out[k] = &v
	}
	return out
}

func (c *Client) check(ctx context.Context, topic string, s TopicSettings) ([]string, error) {
	rs, err := c.adm.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return nil, err
	}
	r, err := rs.On(topic, nil)
	if err != nil {
		return nil, err
	}
	if r.Err != nil {
		return nil, r.Err
	}
	has := map[string]string{}
	for _, k := range r.Configs {
		if !c.dial.local || slices.Contains(embeddedSettings, k.Key) {
			has[k.Key] = k.MaybeValue()
		}
	}
	var warnings []string
	for k, want := range s.Configs {
		switch got, ok := has[k]; {
		case !ok:
			warnings = append(warnings, fmt.Sprintf("topic %s: the broker has no setting %s (want %s)", topic, k, want))
		case !sameSetting(got, want):
			warnings = append(warnings, fmt.Sprintf("topic %s: %s is %s, want %s", topic, k, got, want))
		}
	}
	slices.Sort(warnings)
	return warnings, nil
}

// sameSetting compares values as lists without order: cleanup.policy is one.
func sameSetting(a, b string) bool {
	if a == b {
		return true
	}
	x, y := strings.Split(a, ","), strings.Split(b, ",")
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}

// Delete deletes a topic; one that does not exist is no error. It returns when
// the topic is gone from the metadata.
func (c *Client) Delete(ctx context.Context, topic string) error {
	err := c.retry(ctx, func(ctx context.Context) error {
		if _, err := c.metadata(ctx, topic); errors.Is(err, ErrNoTopic) {
			return nil
		}
		if _, err := c.adm.DeleteTopic(ctx, topic); err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
			return err
		}
		time.Sleep(time.Millisecond)
		return kerr.LeaderNotAvailable // look again until it is gone
	})
	if err != nil {
		return fmt.Errorf("delete topic %s: %w", topic, err)
	}
	return nil
}

// GroupLag is how far a group is behind on a topic (records), and the committed
// offsets' sum, which rises while it advances. A partition without a commit
// counts from its start.
func (c *Client) GroupLag(ctx context.Context, group, topic string) (lag, committed int64, err error) {
	ps, err := c.Partitions(ctx, topic)
	if err != nil {
		return 0, 0, fmt.Errorf("lag of group %s: %w", group, err)
	}
	var offsets kadm.OffsetResponses
	err = c.retry(ctx, func(ctx context.Context) (err error) {
		offsets, err = c.adm.FetchOffsets(ctx, group)
		if errors.Is(err, kerr.GroupIDNotFound) {
			return nil // nobody joined yet
		}
		return err
	})
	if err != nil {
		return 0, 0, fmt.Errorf("lag of group %s on %s: %w", group, topic, err)
	}
	for _, p := range ps {
		at := p.Start
		if o, ok := offsets.Lookup(topic, p.Number); ok && o.Err == nil && o.At >= 0 {
			committed += o.At
			if o.At <= p.End { // beyond: of a topic that was made anew
				at = max(at, o.At)
			}
		}
		lag += max(0, p.End-at)
	}
	return lag, committed, nil
}

// GroupOwner is the instance ID of the member of a group that has a partition; empty:
// none has, or one that gave no instance ID.
func (c *Client) GroupOwner(ctx context.Context, group, topic string, partition int32) (string, error) {
	var found kadm.DescribedGroup
	err := c.retry(ctx, func(ctx context.Context) error {
		all, err := c.adm.DescribeGroups(ctx, group)
		found = all[group]
		return errors.Join(err, found.Err)
	})
	if err != nil {
		return "", fmt.Errorf("members of group %s: %w", group, err)
	}
	for _, m := range found.Members {
		assigned, ok := m.Assigned.AsConsumer()
		if !ok || m.InstanceID == nil {
			continue
		}
		for _, t := range assigned.Topics {
			if t.Topic == topic && slices.Contains(t.Partitions, partition) {
				return *m.InstanceID, nil
			}
		}
	}
	return "", nil
}
