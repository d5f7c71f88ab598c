// Package recovery turns what manifests and a person ask for into a recovery of
// consumers/restorer: it finds the configuration, the log and the bucket.
package recovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"k8s.io/client-go/rest"

	"github.com/afterimage-dr/afterimage/consumers/restorer"
	"github.com/afterimage-dr/afterimage/internal/history"
	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/manifest"
	"github.com/afterimage-dr/afterimage/internal/pipeline"
	"github.com/afterimage-dr/afterimage/state/bucket"
	"github.com/afterimage-dr/afterimage/topology"
)

// Request is what is asked for.
type Request struct {
	// Target says whose recovery it is, and what its configuration is today.
	Target manifest.Target
	// Destination says how to reach the cluster that is recovered.
	Destination *rest.Config
	// Log is open for as long as the recovery runs; nil: there is none, NoLog says why.
	Log   *pipeline.LogAccess
	NoLog error
	// From says where to read: see restorer.Options.
	From string
	// Bucket of the originals; nil: there is none.
	Bucket *bucket.Options
	// DataDir names this process among others on the machine.
	DataDir string
	// At is the moment to rebuild; zero: the newest state.
	At time.Time
	// DryRun, Force: see v1alpha1.RecoverySpec.
	DryRun, Force bool
	// Progress and Logger may be nil.
	Progress func(restorer.Progress)
	Logger   *slog.Logger

	// Of the package's own functions.
	mode   restorer.Mode
	prefix string
	clean  bool
}

// requestTimeout of the recovery's requests: shorter than what a recovery that died
// keeps others out for (fence.HoldFor), so that none of it comes after.
const requestTimeout = 10 * time.Second

// answerWithin is how long a log may take to answer before it counts as lost.
const answerWithin = 15 * time.Second

// Run makes the recovery that is asked for. The report is nil where it could not
// begin: ErrRunning where another one of the data directory does what it would.
func Run(ctx context.Context, q Request) (*restorer.Report, error) {
	destination, err := kube.New(q.Destination, kube.WithTimeout(requestTimeout))
	if err != nil {
		return nil, err
	}
	holder, free, err := q.hold()
	if err != nil {
		return nil, err
	}
	defer free()
	o := restorer.Options{
		Mode: q.mode, NamespacePrefix: q.prefix, Config: q.Target.Compute(), Destination: destination, From: q.From,
		PointInTime: !q.At.IsZero(), DryRun: q.DryRun, Force: q.Force, Holder: holder, Progress: q.Progress, Logger: q.Logger,
	}
	if c := q.Target.Config.Components.Restorer; c != nil && c.ConcurrentTasks != nil {
		o.Tasks = int(*c.ConcurrentTasks)
	}
	if q.Bucket != nil && q.From != restorer.FromLog {
		b, err := bucket.New(*q.Bucket)
		if err != nil {
			return nil, fmt.Errorf("bucket of the originals: %w", err)
		}
		o.Bucket = b
	}
	lost, err := q.originals(ctx, &o)
	if err != nil {
		return nil, err
	}
	r, err := restorer.New(o)
	if err != nil {
		return nil, err
	}
	report, err := r.Run(ctx)
	if q.clean {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if left := r.Clean(end); left != nil {
			report.Warnings = append(report.Warnings, fmt.Sprintf("what the rehearsal wrote is left behind: %v", left))
		}
	}
	if err == nil && report.Mode == restorer.Recover && !q.DryRun {
		if note := q.remember(report); note != nil {
			report.Warnings = append(report.Warnings, note.Error())
		}
	}
	if lost != nil {
		report.Warnings = append(report.Warnings, fmt.Sprintf("there is no log (%v): everything was read from the bucket", lost))
	}
	return report, err
}

// originals finds the log, or does without it where the bucket can stand in. lost
// is why there is no log.
func (q *Request) originals(ctx context.Context, o *restorer.Options) (lost, err error) {
	if q.From != restorer.FromBucket {
		err = q.log(ctx, o)
		if err == nil || ctx.Err() != nil || o.Bucket == nil || !q.At.IsZero() {
			return nil, err
		}
		lost = err
	}
	if o.Bucket == nil {
		return nil, errors.New("--from bucket: the configuration names no bucket (bucketName)")
	}
	if o.Config.SourceUID, err = restorer.SourceOf(ctx, o.Bucket, o.Config.Namespace, o.Config.Name); err != nil {
		return nil, errors.Join(lost, err)
	}
	return lost, nil
}

// log finds the log, and what of it has to be known beforehand. The newest state is
// read when nobody writes any more; a moment is looked at before anything is
// stopped for it.
func (q *Request) log(ctx context.Context, o *restorer.Options) error {
	if q.Log == nil {
		return q.NoLog
	}
	id, log := q.Target.LiveSynchronization, q.history()
	fail := func(err error) error { return fmt.Errorf("reading the log of LiveSynchronization %s: %w", id, err) }
	// Whether it answers at all is asked first: reading it is tried for ever.
	ask, cancel := context.WithTimeout(ctx, answerWithin)
	parts, err := log.Client.Partitions(ask, log.Topics.Outcomes)
	cancel()
	if err != nil {
		return fail(err)
	}
	logged, err := log.Config(ctx)
	if err != nil {
		return fail(err)
	}
	if logged.Generation == 0 {
		return fmt.Errorf("the log of LiveSynchronization %s holds no configuration: nothing was replicated yet", id)
	}
	o.Config = plurals(o.Config, logged)
	o.Config.Generation, o.Config.FormerSourceUIDs = logged.Generation, logged.FormerSourceUIDs
	o.Gone = func(instance string) bool { return q.Log.Alone && instance == q.Log.Instance }
	if q.mode != restorer.Rehearse { // which changes nothing that an audit is about
		o.Outcomes = &restorer.Outcomes{Client: log.Client, Topic: log.Topics.Outcomes, Partitions: int32(len(parts)), Writer: o.Holder}
	}
	open := func(ctx context.Context) (restorer.Opened, error) {
		snapshot, err := log.Snapshot(ctx, q.At)
		if err != nil {
			return restorer.Opened{}, fail(err)
		}
		return q.opened(snapshot, o)
	}
	if q.At.IsZero() {
		o.OpenLog = open
		return nil
	}
	opened, err := open(ctx)
	if err != nil {
		return err
	}
	o.OpenLog = func(context.Context) (restorer.Opened, error) { return opened, nil }
	return nil
}

// opened is a snapshot, with what it does not tell.
func (q *Request) opened(snapshot *history.Snapshot, o *restorer.Options) (restorer.Opened, error) {
	out := restorer.Opened{Log: logOf{snapshot}, Keys: snapshot.Keys, VerifiedAt: snapshot.Window.VerifiedAt}
	at := q.At
	if at.IsZero() {
		at = time.Now()
	} else if gap := snapshot.Window.Check(at); gap != nil && !q.Force {
		return out, fmt.Errorf("%w; --force rebuilds it as far as it is known", gap)
	}
	untold := snapshot.Window.Incomplete(o.Config, at)
	if !q.At.IsZero() {
		o.Untold = untold // it is read before the recovery begins
	}
	for _, gvr := range untold {
		out.Warnings = append(out.Warnings, fmt.Sprintf("the log does not tell all there was of %s: it was never listed completely by then, and what is missing is not recovered", gvr.GroupResource()))
	}
	if n := snapshot.Unreadable; n > 0 {
		out.Warnings = append(out.Warnings, fmt.Sprintf("%d records of the log are not of Afterimage and were passed over", n))
	}
	return out, nil
}

// history is the log of the LiveSynchronization.
func (q *Request) history() history.Log {
	id := q.Target.LiveSynchronization
	return history.Log{Client: q.Log.Client, Topics: topology.TopicsFor(id.Namespace, id.Name), Embedded: q.Log.Embedded, Floor: q.Log.Floor}
}

// logOf reads a snapshot.
type logOf struct{ snapshot *history.Snapshot }

func (l logOf) Each(ctx context.Context, want func(string) bool, fn func(*topology.Record) error) error {
	err := l.snapshot.Each(ctx, func(r *topology.Record) error {
		if want != nil && !want(r.Key) {
			return nil
		}
		return fn(r)
	})
	var damaged *history.DamagedError
	if errors.As(err, &damaged) {
		return &restorer.DamagedLog{Keys: damaged.Keys, Err: damaged}
	}
	return err
}
