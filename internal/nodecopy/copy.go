// Package nodecopy copies a ZooKeeper tree through the log: its producer appends what
// the source holds to changes, and its consumer makes the destination hold what
// changes says, at the same time.
package nodecopy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/afterimage-dr/afterimage/consumers/zookeeper"
	"github.com/afterimage-dr/afterimage/internal/breaker"
	"github.com/afterimage-dr/afterimage/internal/ensemble"
	"github.com/afterimage-dr/afterimage/internal/stream"
	producer "github.com/afterimage-dr/afterimage/producers/zookeeper"
	"github.com/afterimage-dr/afterimage/topology"
)

// Options of a copy.
type Options struct {
	Log *stream.Client
	// Embedded: the log is the embedded one, which knows no times of compaction.
	Embedded bool
	// Topics of the tree, see [topology.NodeTopics].
	Topics topology.Topics
	// InstanceID of this process in the consumer group whose member alone works on
	// the tree; Incarnation marks its records.
	InstanceID, Incarnation string
	Session                 time.Duration
	// Turn is how long Run waits while something else works on the tree, until it
	// returns a BusyError; 0: DefaultTurn.
	Turn time.Duration

	Source, Destination ensemble.Options
	Rules               topology.NodeRules
	CreateRoot          bool
	// Confirmed is the token of deletes beyond the limit.
	Confirmed string
	// FromLog reads the log alone: the source is not contacted.
	FromLog bool
	// Patience is how long an ensemble may be unreachable; 0: ensemble.DefaultPatience.
	Patience time.Duration

	Progress func(Progress)
	Logger   *slog.Logger
}

// Progress of a copy.
type Progress struct {
	// Read nodes of the source and Appended records, so far.
	Read, Appended int64
	zookeeper.Report
}

// Result of a copy.
type Result struct {
	zookeeper.Report
	// Nodes in the source.
	Nodes int64 `json:"nodes"`
	// Appended records: what differed from the log.
	Appended int64 `json:"appended"`
	// Took is how long it took, without waiting for another copy of the same tree.
	Took time.Duration `json:"took"`
}

// Complete tells whether the destination is shown to hold all that it must.
func (r *Result) Complete() bool { return r.Failed == 0 }

// Run copies once. The result is returned with an error too, as far as it came.
func Run(ctx context.Context, o Options) (result *Result, err error) {
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	if err := Ensure(ctx, o.Log, o.Topics, o.Embedded); err != nil {
		return nil, err
	}
	err = inTurn(ctx, o, func(ctx context.Context) error {
		result, err = o.copy(ctx)
		return err
	})
	return result, err
}

// copier is one copy being made.
type copier struct {
	Options
	writer *stream.Writer
	source *ensemble.Client
	in     *producer.Producer
	out    *zookeeper.Consumer
}

// copy is alone on the tree.
func (o Options) copy(ctx context.Context) (*Result, error) {
	started := time.Now()
	c, err := o.open(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	result := &Result{}
	stop := c.tell(ctx)
	defer stop()
	if o.FromLog {
		err = c.fromLog(ctx)
	} else {
		var found *producer.Result
		found, err = c.through(ctx)
		if found != nil {
			result.Nodes = found.Nodes
		}
	}
	_, result.Appended = c.in.Progress()
	result.Report, result.Took = c.out.Report(), time.Since(started)
	return result, err
}

func (o Options) open(ctx context.Context) (_ *copier, err error) {
	c := &copier{Options: o}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.writer, err = o.Log.Writer(); err != nil {
		return nil, err
	}
	connect := func(what string, to ensemble.Options) (*ensemble.Client, error) {
		client, err := ensemble.Connect(ctx, to, ensemble.WithPatience(cmp.Or(o.Patience, ensemble.DefaultPatience)), ensemble.WithLogger(o.Logger))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		return client, nil
	}
	if !o.FromLog {
		if c.source, err = connect("source", o.Source); err != nil {
			return nil, err
		}
	}
	destination, err := connect("destination", o.Destination)
	if err != nil {
		return nil, err
	}
	c.in = producer.New(producer.Options{
		Source: c.source, Log: o.Log, Writer: c.writer, Changes: o.Topics.Changes, Rules: o.Rules,
		Incarnation: o.Incarnation, Breaker: breaker.Default(), Confirmed: o.Confirmed,
	})
	c.out = zookeeper.New(ctx, zookeeper.Options{
		Destination: destination, Log: o.Log, Writer: c.writer, Topics: o.Topics, Rules: o.Rules, CreateRoot: o.CreateRoot,
		Incarnation: o.Incarnation, Breaker: breaker.Default(), Confirmed: o.Confirmed,
	})
	return c, nil
}

func (c *copier) close() {
	if c.source != nil {
		c.source.Close()
	}
	if c.out != nil {
		c.out.Destination.Close()
	}
	if c.writer != nil {
		c.writer.Close()
	}
}

// through reads the source into the log and, at the same time, applies what is there.
func (c *copier) through(ctx context.Context) (found *producer.Result, err error) {
	if err := c.in.FindRoot(); err != nil { // before anything is written anywhere
		return nil, wrap("source", err)
	}
	b, err := c.Log.Bounds(ctx, c.Topics.Changes, 0)
	if err != nil {
		return nil, err
	}
	g, inner := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		if err := c.in.Load(inner); err != nil {
			return err
		}
		found, err = c.in.Compare(inner)
		return wrap("source", err)
	})
	g.Go(func() error {
		if err := c.out.Load(inner); err != nil {
			return wrap("destination", err)
		}
		if err := c.out.Replay(inner, b.End); err != nil {
			return wrap("destination", err)
		}
		return wrap("destination", c.out.Follow(inner, b.End))
	})
	if err := g.Wait(); err != nil {
		return found, err
	}
	// Beyond the limit in one place does not keep the other from being finished.
	blocked := error(nil)
	if found.Blocked != nil {
		blocked = found.Blocked
	}
	return found, errors.Join(blocked, c.finish(ctx, c.out.Prune(ctx, found.Refused)))
}

// NotLoggedError says that the log holds nothing of a tree.
type NotLoggedError struct{ Root, Topic string }

func (e *NotLoggedError) Error() string {
	return fmt.Sprintf("the log holds nothing of rootPath %s of these Databases (topic %s): it was never copied through it", e.Root, e.Topic)
}

// fromLog applies the log alone.
func (c *copier) fromLog(ctx context.Context) error {
	b, err := c.Log.Bounds(ctx, c.Topics.Changes, 0)
	if err != nil {
		return err
	}
	if b.End == b.Start {
		return &NotLoggedError{Root: c.Rules.Root, Topic: c.Topics.Changes}
	}
	if err := c.out.Load(ctx); err != nil {
		return wrap("destination", err)
	}
	if err := c.out.Replay(ctx, b.End); err != nil {
		return wrap("destination", err)
	}
	return c.finish(ctx, c.out.PruneListed(ctx))
}

// finish ends a copy, also one whose deletes were held back.
func (c *copier) finish(ctx context.Context, err error) error {
	var blocked *breaker.PathsError
	var unlisted *zookeeper.UnlistedError
	if err != nil && !errors.As(err, &blocked) && !errors.As(err, &unlisted) {
		return wrap("destination", err)
	}
	if finishErr := c.out.Finish(ctx); finishErr != nil {
		return errors.Join(err, wrap("destination", finishErr))
	}
	return errors.Join(err, c.out.Passed(ctx))
}

// wrap says which side an error is of.
func wrap(side string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	var missing *zookeeper.RootMissingError
	if errors.Is(err, producer.ErrNoRoot) || errors.As(err, &missing) {
		return err // says it itself
	}
	return fmt.Errorf("%s: %w", side, err)
}

const tellEvery = 200 * time.Millisecond

// tell reports progress until it is stopped.
func (c *copier) tell(ctx context.Context) (stop func()) {
	if c.Progress == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			p := Progress{Report: c.out.Report()}
			p.Read, p.Appended = c.in.Progress()
			c.Progress(p)
			select {
			case <-ctx.Done():
				return
			case <-time.After(tellEvery):
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}
