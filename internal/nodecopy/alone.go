package nodecopy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/topology"
)

// component names the consumer group of a tree.
const component = "zookeeper"

// DefaultSession is how long a copy that was killed keeps its tree from another
// process.
const DefaultSession = 10 * time.Second

// here are the trees that this process works on: one of its members must not take
// the place of another.
var here = struct {
	sync.Mutex
	trees map[string]chan struct{}
}{trees: map[string]chan struct{}{}}

// tenure is how long somebody works on a tree.
type tenure int

const (
	// once: until fn returns.
	once tenure = iota
	// forever: until the context ends; fn is called again whenever the tree was lost to
	// another process and came back.
	forever
)

// exclusively runs fn while nobody else works on the tree: neither here nor in
// another process with the same log (guarantee 4: changes has one writer).
func exclusively(ctx context.Context, o Options, how tenure, fn func(context.Context) error) error {
	release, err := occupy(ctx, o.Topics.Changes)
	if err != nil {
		return err
	}
	defer release()
	outer := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var result error
	began := false
	g := stream.Group{
		Client: o.Log, Name: o.group(), Topic: o.Topics.Changes,
		InstanceID: o.InstanceID, Session: cmp.Or(o.Session, DefaultSession), Leave: how == once, Logger: o.Logger,
	}
	g.Run = func(ctx context.Context, _ *stream.Assignment) error {
		if how == forever {
			return fn(ctx)
		}
		if began {
			<-ctx.Done() // once; the partition was lost and came back
			return nil
		}
		began = true
		result = fn(ctx)
		if result != nil && ctx.Err() != nil && outer.Err() == nil {
			result = errors.Join(errors.New("another process took this tree over"), result)
		}
		cancel()
		return nil
	}
	if err := g.Serve(ctx); err != nil {
		return err
	}
	if !began {
		return ctx.Err() // for once and for ever alike: ctx has ended
	}
	return result
}

// group is the consumer group whose member works on the tree.
func (o Options) group() string { return strings.TrimSuffix(o.Topics.Changes, "changes") + component }

// occupy waits for the tree's turn in this process.
func occupy(ctx context.Context, tree string) (release func(), err error) {
	for {
		here.Lock()
		busy := here.trees[tree]
		if busy == nil {
			done := make(chan struct{})
			here.trees[tree] = done
			here.Unlock()
			return func() {
				here.Lock()
				delete(here.trees, tree)
				here.Unlock()
				close(done)
			}, nil
		}
		here.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Ensure finds or makes the topics of a tree.
func Ensure(ctx context.Context, log *stream.Client, t topology.Topics, embedded bool) error {
	configs := t.TopicConfigs(topology.DefaultAuditWindow)
	for _, topic := range [...]string{t.Changes, t.Outcomes} {
		s := stream.TopicSettings{Partitions: 1, Replication: -1, Configs: configs[topic]}
		if embedded {
			s.Configs = topology.EmbeddedConfigs(s.Configs)
		}
		if _, err := log.Ensure(ctx, topic, s); err != nil {
			return fmt.Errorf("topic %s: %w", topic, err)
		}
	}
	return nil
}
