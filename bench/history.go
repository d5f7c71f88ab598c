package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/consumers/audit"
	"github.com/afterimage-dr/afterimage/internal/history"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

const (
	historyKeys   = 10_000
	historyEvents = 100_000
	auditRecords  = 1_000_000
)

// history measures the state at a moment over one LIST of as many objects, and the
// audit of one object in a long log.
func (b *bench) history(ctx context.Context) ([]row, error) {
	const ns = "bench-history"
	if err := b.namespace(ctx, ns); err != nil {
		return nil, err
	}
	if err := b.fill(ctx, ns, 0, historyKeys); err != nil {
		return nil, err
	}
	l, err := b.newLog(ctx, "moment")
	if err != nil {
		return nil, err
	}
	defer l.close()
	at, err := l.events(ctx, ns, historyEvents, false)
	if err != nil {
		return nil, err
	}
	var state, list []time.Duration
	for range b.options.rounds {
		d, err := timed(func() error { return stateAt(ctx, l.log, at) })
		if err != nil {
			return nil, err
		}
		state = append(state, d)
		d, err = timed(func() error {
			all, err := b.src.CoreV1().ConfigMaps(ns).List(ctx, metav1.ListOptions{})
			if err == nil && len(all.Items) < historyKeys {
				err = fmt.Errorf("listed %d objects, want %d", len(all.Items), historyKeys)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		list = append(list, d)
	}
	name := fmt.Sprintf("state at a moment: %d events over %d keys / LIST of %d", historyEvents, historyKeys, historyKeys)
	rows := []row{compared(name, state, list, time.Millisecond, "≤ 5")}
	more, err := b.auditOne(ctx)
	return append(rows, more...), err
}

func timed(do func() error) (time.Duration, error) {
	begin := time.Now()
	err := do()
	return time.Since(begin), err
}

// stateAt computes the state with every body in hand.
func stateAt(ctx context.Context, l history.Log, at time.Time) error {
	s, err := l.Snapshot(ctx, at)
	if err != nil {
		return err
	}
	var n atomic.Int64
	if err := s.Each(ctx, func(r *topology.Record) error {
		if len(r.Body) > 0 {
			n.Add(1)
		}
		return nil
	}); err != nil {
		return err
	}
	if n.Load() != historyKeys {
		return fmt.Errorf("%d objects existed at the moment, want %d", n.Load(), historyKeys)
	}
	return nil
}

// auditOne audits one object among very many records, outcomes included.
func (b *bench) auditOne(ctx context.Context) ([]row, error) {
	l, err := b.newLog(ctx, "audit")
	if err != nil {
		return nil, err
	}
	defer l.close()
	const ns = "bench-audit"
	if _, err := l.events(ctx, ns, auditRecords, true); err != nil {
		return nil, err
	}
	var took []time.Duration
	for range b.options.rounds {
		n := 0
		d, err := timed(func() error {
			return audit.Audit{Client: l.log.Client, Topics: l.log.Topics}.Run(ctx, audit.Query{Object: keyOf(ns, 17)}, func(c *audit.Change) error {
				if c.Applied.Result != "updated" {
					return fmt.Errorf("a change was not told with its outcome: %+v", c.Applied)
				}
				n++
				return nil
			})
		})
		if err != nil {
			return nil, err
		}
		if n != auditRecords/historyKeys {
			return nil, fmt.Errorf("%d changes of the object were told, want %d", n, auditRecords/historyKeys)
		}
		took = append(took, d)
	}
	name := fmt.Sprintf("audit of one object among %d changes and their outcomes", auditRecords)
	return []row{{name, medianDuration(took).Round(time.Millisecond).String(), "", "", fmt.Sprintf("%s–%s of %d", percentile(took, 0).Round(time.Millisecond), percentile(took, 100).Round(time.Millisecond), len(took)), "≤ 3s"}}, nil
}

// benchLog is an embedded log on disk, as a single machine has it.
type benchLog struct {
	log    history.Log
	writer *stream.Writer
	close  func()
}

func (b *bench) newLog(ctx context.Context, name string) (_ *benchLog, err error) {
	e, err := stream.StartEmbeddedWith(filepath.Join(b.dir, name), stream.EmbeddedOptions{CompactBytes: -1})
	if err != nil {
		return nil, err
	}
	c, err := stream.NewClient(e.Dial(), "bench")
	if err != nil {
		return nil, err
	}
	l := &benchLog{log: history.Log{Client: c, Topics: topology.TopicsFor("dr", "bench"), Embedded: true}}
	l.close = func() { c.Close(); _ = e.Close() }
	for _, topic := range []string{l.log.Topics.Changes, l.log.Topics.Outcomes} {
		s := stream.TopicSettings{Partitions: topology.DefaultPartitions, Replication: -1, Configs: map[string]string{"cleanup.policy": "compact"}}
		if _, err := c.Ensure(ctx, topic, s); err != nil {
			l.close()
			return nil, err
		}
	}
	if l.writer, err = c.Writer(); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func keyOf(ns string, i int) string {
	return topology.Key{Version: "v1", Resource: "configmaps", Namespace: ns, Name: fmt.Sprintf("config-%06d", i)}.String()
}

// events appends n updates, evenly over the keys, and returns a moment at which four
// fifths of them were there. With outcomes the log also says that each was applied.
func (l *benchLog) events(ctx context.Context, ns string, n int, outcomes bool) (at time.Time, err error) {
	say("appending %d events to a log", n)
	failed := make(chan error, 1)
	put := func(topic string, r *topology.Record) {
		l.writer.Append(ctx, r.Encode(topic, topology.PartitionOf(r.Key, topology.DefaultPartitions)), func(_ *kgo.Record, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
	}
	if err := l.control(ctx); err != nil {
		return at, err
	}
	result := json.RawMessage(`{"op":"update","result":"updated","version":"1.1.1.1","destinationUID":"2d1b9d3c-0a41-4b7e-8f5c-7f4d3b1c2a10","destinationRV":"123456","at":"2026-01-02T15:04:05.123456789Z"}`)
	for i := range n {
		if i == n*4/5 {
			if err := l.writer.Flush(ctx); err != nil {
				return at, err
			}
			at = time.Now()
			time.Sleep(5 * time.Millisecond)
		}
		r, err := event(ns, i)
		if err != nil {
			return at, err
		}
		put(l.log.Topics.Changes, r)
		if outcomes {
			o := *r
			o.Body, o.Managers, o.NamespaceLabels, o.Reason = result, nil, nil, "updated"
			put(l.log.Topics.Outcomes, &o)
		}
	}
	if err := l.writer.Flush(ctx); err != nil {
		return at, err
	}
	select {
	case err := <-failed:
		return at, err
	default:
	}
	return at, l.verified(ctx)
}

// event is the i-th update, as the eventslistener writes it.
func event(ns string, i int) (*topology.Record, error) {
	o := configMap(ns, i%historyKeys, i)
	o.APIVersion, o.Kind = "v1", "ConfigMap"
	o.UID, o.ResourceVersion = "2d1b9d3c-0a41-4b7e-8f5c-7f4d3b1c2a10", fmt.Sprint(i+1)
	body, err := json.Marshal(o)
	return &topology.Record{
		Key: keyOf(ns, i%historyKeys), Kind: topology.Object, Op: topology.Update, UID: string(o.UID), Body: body, ObservedAt: time.Now(),
		Version: topology.Version{Epoch: 1700000000, RV: o.ResourceVersion, NamespaceRV: "42"}, Writer: "bench",
		NamespaceLabels: map[string]string{"kubernetes.io/metadata.name": ns, "bench": ns}, Hash: "0123456789abcdef0123456789abcdef",
		Managers: []topology.Manager{{Name: "bench", Operation: "Update", Time: "2026-01-02T15:04:05Z"}},
	}, err
}

// control says what the log is about.
func (l *benchLog) control(ctx context.Context) error {
	c := topology.Config{Namespace: "dr", Name: "bench", Generation: 1}
	c.Replication.Resources = []v1alpha1.Resource{{Version: "v1", Resource: "configmaps"}}
	config, err := json.Marshal(c)
	if err != nil {
		return err
	}
	listed, err := json.Marshal(topology.ListedBody{Fresh: true, At: time.Now()})
	if err != nil {
		return err
	}
	if err := l.everywhere(ctx, topology.Record{Key: topology.ControlKey(topology.Configured, ""), Kind: topology.Configured, Body: config}); err != nil {
		return err
	}
	return l.everywhere(ctx, topology.Record{Key: topology.ControlKey(topology.Listed, "core/v1/configmaps"), Kind: topology.Listed, Body: listed})
}

func (l *benchLog) verified(ctx context.Context) error {
	return l.everywhere(ctx, topology.Record{Key: topology.ControlKey(topology.Heartbeat, ""), Kind: topology.Heartbeat, ObservedAt: time.Now(), VerifiedAt: time.Now()})
}

func (l *benchLog) everywhere(ctx context.Context, r topology.Record) error {
	for p := range int32(topology.DefaultPartitions) {
		if err := l.writer.AppendSync(ctx, r.Encode(l.log.Topics.Changes, p)); err != nil {
			return err
		}
	}
	return nil
}
