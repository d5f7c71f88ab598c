package nodecopy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/afterimage-dr/afterimage/consumers/zookeeper"
	"github.com/afterimage-dr/afterimage/internal/breaker"
	"github.com/afterimage-dr/afterimage/internal/ensemble"
	"github.com/afterimage-dr/afterimage/internal/logging"
	producer "github.com/afterimage-dr/afterimage/producers/zookeeper"
)

// LiveOptions of a live copy.
type LiveOptions struct {
	Options
	// Resync is how often everything is compared; 0: at the start and after a lost
	// connection alone.
	Resync time.Duration
	// Suspend keeps the destination as it is; the source goes on into the log.
	Suspend bool
	// Retry is how often nodes that could not be brought are tried again; 0:
	// zookeeper.DefaultRetry.
	Retry time.Duration
}

const (
	// heartbeat is how often it is proved how far the destination has come.
	heartbeat = 10 * time.Second
	// livePatience is how long a live copy waits for an answer before it connects anew.
	livePatience = 15 * time.Second
	backoffFirst = time.Second
	backoffMost  = 30 * time.Second
)

// Live copies a tree for as long as it runs.
type Live struct {
	o LiveOptions

	mu     sync.Mutex
	source Side
	dest   Side
	found  *producer.Result
	stands zookeeper.Standing
}

// Side is how one side of a live copy is.
type Side struct {
	Ready bool
	// Reason and Message, where it is not.
	Reason, Message string
	Since           time.Time
}

// Status of a live copy.
type Status struct {
	Source, Destination Side
	// Found by the last complete comparison of the source; nil: there was none yet.
	Found    *producer.Result
	Standing zookeeper.Standing
}

// Reasons of a side that is not ready.
const (
	ReasonStarting     = "Starting"
	ReasonUnreachable  = "Unreachable"
	ReasonSuspended    = "Suspended"
	ReasonRootMissing  = "RootMissing"
	ReasonPruneBlocked = "PruneBlocked"
	ReasonElsewhere    = "RunsElsewhere"
	ReasonFailed       = "Failed"
)

// NewLive makes one; Run runs it.
func NewLive(o LiveOptions) *Live {
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	starting := Side{Reason: ReasonStarting, Since: time.Now()}
	return &Live{o: o, source: starting, dest: starting}
}

// Status is what is known now.
func (l *Live) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Status{Source: l.source, Destination: l.dest, Found: l.found, Standing: l.stands}
}

// Run copies until ctx ends. Trouble is told by Status, and tried again.
func (l *Live) Run(ctx context.Context) {
	l.again(ctx, l.setSource, func(ctx context.Context) error {
		if err := Ensure(ctx, l.o.Log, l.o.Topics, l.o.Embedded); err != nil {
			return err
		}
		l.setSource(Side{Reason: ReasonElsewhere, Message: "waits for its turn: another process, or a run, works on this tree"})
		return exclusively(ctx, l.o.Options, forever, l.both)
	})
}

// both runs the two halves. Neither waits for the other: a destination that is down
// does not keep the source's changes out of the log.
func (l *Live) both(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { return l.produce(ctx) })
	g.Go(func() error {
		if l.o.Suspend {
			l.setDestination(Side{Reason: ReasonSuspended, Message: "spec.suspend is true: changes are logged, nothing is written to the destination"})
			return nil
		}
		l.again(ctx, l.setDestination, l.consume)
		return nil
	})
	return g.Wait()
}

// produce reads the source into the log.
func (l *Live) produce(ctx context.Context) error {
	writer, err := l.o.Log.Writer()
	if err != nil {
		return err
	}
	defer writer.Close()
	l.again(ctx, l.setSource, func(ctx context.Context) error {
		in := producer.New(producer.Options{
			Log: l.o.Log, Writer: writer, Changes: l.o.Topics.Changes, Rules: l.o.Rules,
			Incarnation: l.o.Incarnation, Breaker: breaker.Default(), Confirmed: l.o.Confirmed,
		})
		if err := in.Load(ctx); err != nil {
			return err
		}
		for ctx.Err() == nil {
			if err := l.watch(ctx, in); err != nil {
				return err
			}
		}
		return nil
	})
	return nil
}

// watch is one connection to the source.
func (l *Live) watch(ctx context.Context, in *producer.Producer) error {
	events := producer.NewEvents()
	client, err := l.connect(ctx, l.o.Source, ensemble.WithEvents(events.Push))
	if err != nil {
		return err
	}
	defer client.Close()
	in.Source = client
	err = in.Watch(ctx, producer.WatchOptions{
		Events: events, Resync: l.o.Resync, Heartbeat: heartbeat,
		Compared: func(r *producer.Result) {
			side := Side{Ready: true}
			if r.Blocked != nil {
				side = Side{Reason: ReasonPruneBlocked, Message: r.Blocked.Error()}
			}
			l.mu.Lock()
			l.found = r
			l.mu.Unlock()
			l.setSource(side)
		},
	})
	if errors.Is(err, producer.ErrNoRoot) {
		return fmt.Errorf("%w: what the destination holds stays", err)
	}
	return err
}

func (l *Live) connect(ctx context.Context, to ensemble.Options, options ...ensemble.Option) (*ensemble.Client, error) {
	return ensemble.Connect(ctx, to, append(options, ensemble.WithPatience(livePatience), ensemble.WithLogger(l.o.Logger))...)
}

// consume brings the log to the destination, over one connection.
func (l *Live) consume(ctx context.Context) error {
	writer, err := l.o.Log.Writer()
	if err != nil {
		return err
	}
	defer writer.Close()
	client, err := l.connect(ctx, l.o.Destination)
	if err != nil {
		return err
	}
	defer client.Close()
	// What is in flight ends with this.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := zookeeper.New(ctx, zookeeper.Options{
		Destination: client, Log: l.o.Log, Writer: writer, Topics: l.o.Topics, Rules: l.o.Rules, CreateRoot: l.o.CreateRoot,
		Incarnation: l.o.Incarnation, Breaker: breaker.Default(), Confirmed: l.o.Confirmed, Retry: l.o.Retry,
	})
	return out.Live(ctx, func(s zookeeper.Standing) {
		side := Side{Ready: true}
		if s.Blocked != nil {
			side = Side{Reason: ReasonPruneBlocked, Message: s.Blocked.Error()}
		}
		l.mu.Lock()
		l.stands = s
		l.mu.Unlock()
		l.setDestination(side)
	})
}

// again calls fn until ctx ends, with growing pauses while it fails.
func (l *Live) again(ctx context.Context, say func(Side), fn func(context.Context) error) {
	for pause := backoffFirst; ctx.Err() == nil; {
		began := time.Now()
		err := fn(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > backoffMost {
			pause = backoffFirst
		}
		if err == nil {
			err = errors.New("ended")
		}
		say(sideOf(err))
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause)): //nolint:gosec // no secret: it spreads retries
		}
		pause = min(2*pause, backoffMost)
	}
}

// sideOf an error.
func sideOf(err error) Side {
	s := Side{Reason: ReasonFailed, Message: err.Error()}
	var unreachable *ensemble.UnreachableError
	var root *zookeeper.RootMissingError
	switch {
	case errors.As(err, &unreachable), errors.Is(err, producer.ErrConnectionLost), errors.Is(err, ensemble.ErrLost):
		s.Reason = ReasonUnreachable
	case errors.As(err, &root), errors.Is(err, producer.ErrNoRoot):
		s.Reason = ReasonRootMissing
	}
	return s
}

func (l *Live) setSource(s Side)      { l.set(&l.source, "source", s) }
func (l *Live) setDestination(s Side) { l.set(&l.dest, "destination", s) }

// set notes how a side is, and says so when it changes.
func (l *Live) set(at *Side, name string, s Side) {
	l.mu.Lock()
	before := *at
	s.Since = before.Since
	changed := before.Ready != s.Ready || before.Reason != s.Reason
	if changed {
		s.Since = time.Now()
	}
	*at = s
	l.mu.Unlock()
	switch {
	case !changed || s.Reason == ReasonElsewhere:
	case s.Ready:
		l.o.Logger.Info("the " + name + " is followed")
	default:
		l.o.Logger.Warn("the "+name+" is not followed", slog.String("reason", s.Reason), logging.Err(errors.New(s.Message)))
	}
}
