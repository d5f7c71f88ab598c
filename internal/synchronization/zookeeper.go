package synchronization

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"time"

	"github.com/afterimage-dr/afterimage/consumers/zookeeper"
	"github.com/afterimage-dr/afterimage/internal/breaker"
	"github.com/afterimage-dr/afterimage/internal/manifest"
	"github.com/afterimage-dr/afterimage/internal/nodecopy"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	producer "github.com/afterimage-dr/afterimage/producers/zookeeper"
	"github.com/afterimage-dr/afterimage/topology"
)

// ZooKeeperOptions of the plugin zookeeper-to-zookeeper-nodes.
type ZooKeeperOptions struct {
	Log *stream.Client
	// Embedded: it is the embedded log.
	Embedded bool
	// Instance names this process in consumer groups.
	Instance string
	Session  time.Duration
	// Confirmed is the token of deletes beyond the limit; empty: that of the
	// annotation of the Synchronization.
	Confirmed string
	// FromLog contacts no source.
	FromLog bool
	// Attended: a person waits, so that a tree that something else works on is refused
	// once that is clear, and not tried again.
	Attended bool
	// Turn is how long an attempt waits while something else works on the tree; 0:
	// nodecopy.DefaultTurn.
	Turn time.Duration
	// Progress is told more than a status shows.
	Progress func(nodecopy.Progress)
	// Ended is told what an attempt came to.
	Ended  func(*nodecopy.Result)
	Logger *slog.Logger
}

// ZooKeeper is the plugin that copies a tree of one ensemble to another.
func ZooKeeper(o ZooKeeperOptions) Plugin {
	return func(set *manifest.Set, s *v1alpha1.Synchronization) (Attempt, error) {
		c := nodecopy.Options{
			Log: o.Log, Embedded: o.Embedded, InstanceID: o.Instance, Session: o.Session, Turn: o.Turn, FromLog: o.FromLog, Logger: o.Logger,
			Confirmed: cmp.Or(o.Confirmed, s.Annotations[topology.MarkPrefix+"confirm-prune"]),
		}
		if err := c.Configure(set, s.Namespace, &s.Spec.Config); err != nil {
			return nil, err
		}
		return func(ctx context.Context, progress func(v1alpha1.SynchronizationResult)) (Outcome, error) {
			c := c
			c.Incarnation = o.Instance + "-" + rand.Text()[:8]
			c.Progress = func(p nodecopy.Progress) {
				progress(counts(&p.Report))
				if o.Progress != nil {
					o.Progress(p)
				}
			}
			result, err := nodecopy.Run(ctx, c)
			if busy := (*nodecopy.BusyError)(nil); o.Attended && errors.As(err, &busy) {
				err = Permanent(err)
			}
			if result == nil {
				return Outcome{}, err
			}
			if o.Ended != nil {
				o.Ended(result)
			}
			return outcomeOf(result, err)
		}, nil
	}
}

func counts(r *zookeeper.Report) v1alpha1.SynchronizationResult {
	return v1alpha1.SynchronizationResult{
		Created: r.Created, Updated: r.Updated, Deleted: r.Deleted, Unchanged: r.Unchanged, Skipped: r.Skipped, Failed: r.Failed,
	}
}

// outcomeOf a copy. What nothing but a person can mend is not tried again.
func outcomeOf(r *nodecopy.Result, err error) (Outcome, error) {
	out := Outcome{Result: counts(&r.Report)}
	passing := false
	for _, f := range r.Failures {
		out.Failures = append(out.Failures, v1alpha1.Failure{Object: f.Path, Reason: f.Reason, Message: f.Message})
		passing = passing || zookeeper.Passing(f.Reason)
	}
	var blocked *breaker.PathsError
	var root *zookeeper.RootMissingError
	var unlisted *zookeeper.UnlistedError
	var empty *nodecopy.NotLoggedError
	switch {
	case errors.As(err, &blocked):
		err = Permanent(because{err, "PruneBlocked"})
	case errors.As(err, &root):
		err = Permanent(because{err, "DestinationRootMissing"})
	case errors.As(err, &unlisted), errors.As(err, &empty):
		err = Permanent(because{err, "NotInLog"})
	case errors.Is(err, producer.ErrNoRoot):
		err = Permanent(because{err, "SourceRootMissing"})
	case err == nil && r.Failed > 0 && !passing:
		err = Permanent(because{errors.New("nodes could not be copied, and trying again would not help; all others are"), "NodesFailed"})
	}
	return out, err
}

// because is an error with a reason of its own.
type because struct {
	error
	reason string
}

// Reason of the condition Failed.
func (b because) Reason() string { return b.reason }

// Unwrap returns the cause.
func (b because) Unwrap() error { return b.error }
