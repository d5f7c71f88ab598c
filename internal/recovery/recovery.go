// Package recovery turns what manifests and a person ask for into a recovery of
// consumers/restorer: it finds the configuration, the log and the bucket.
package recovery

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
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

// requestTimeout of the recovery's requests: below it, others have given up.
const requestTimeout = 30 * time.Second

// answerWithin is how long a log may take to answer before it counts as lost.
const answerWithin = 15 * time.Second

// Run makes the recovery that is asked for. The report is nil where it could not
// begin.
func Run(ctx context.Context, q Request) (*restorer.Report, error) {
	destination, err := kube.New(q.Destination, kube.WithTimeout(requestTimeout))
	if err != nil {
		return nil, err
	}
	o := restorer.Options{
		Mode: q.mode, NamespacePrefix: q.prefix, Config: q.Target.Compute(), Destination: destination, From: q.From, PointInTime: !q.At.IsZero(), DryRun: q.DryRun, Force: q.Force,
		Holder: holder(q.DataDir), Progress: q.Progress, Logger: q.Logger,
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
	incomplete, lost, err := q.originals(ctx, &o)
	if err != nil {
		return nil, err
	}
	r, err := restorer.New(o)
	if err != nil {
		return nil, err
	}
	report, err := r.Run(ctx)
	if q.clean {
		if left := r.Clean(context.WithoutCancel(ctx)); left != nil {
			report.Warnings = append(report.Warnings, fmt.Sprintf("what the rehearsal wrote is left behind: %v", left))
		}
	}
	if err == nil && report.Mode == restorer.Recover && !q.DryRun {
		if note := q.remember(report); note != nil {
			report.Warnings = append(report.Warnings, note.Error())
		}
	}
	report.Warnings = append(report.Warnings, incomplete...)
	if lost != nil {
		report.Warnings = append(report.Warnings, fmt.Sprintf("there is no log (%v): everything was read from the bucket", lost))
	}
	return report, err
}

// originals finds the log, or does without it where the bucket can stand in. lost
// is why there is no log.
func (q *Request) originals(ctx context.Context, o *restorer.Options) (warnings []string, lost, err error) {
	if q.From != restorer.FromBucket {
		warnings, err = q.log(ctx, o)
		if err == nil || ctx.Err() != nil || o.Bucket == nil || !q.At.IsZero() {
			return warnings, nil, err
		}
		lost = err
	}
	if o.Bucket == nil {
		return nil, nil, errors.New("--from bucket: the configuration names no bucket (bucketName)")
	}
	if o.Config.SourceUID, err = restorer.SourceOf(ctx, o.Bucket, o.Config.Namespace, o.Config.Name); err != nil {
		return nil, nil, errors.Join(lost, err)
	}
	return nil, lost, nil
}

// log reads the log up to the moment that is asked for.
func (q *Request) log(ctx context.Context, o *restorer.Options) (warnings []string, err error) {
	if q.Log == nil {
		return nil, q.NoLog
	}
	id := q.Target.LiveSynchronization
	log := history.Log{
		Client: q.Log.Client, Topics: topology.TopicsFor(id.Namespace, id.Name), Embedded: q.Log.Embedded, Floor: q.Log.Floor,
	}
	// Whether it answers at all is asked first: reading it is tried for ever.
	ask, cancel := context.WithTimeout(ctx, answerWithin)
	parts, err := log.Client.Partitions(ask, log.Topics.Outcomes)
	cancel()
	if err != nil {
		return nil, fmt.Errorf("the log of LiveSynchronization %s: %w", id, err)
	}
	snapshot, err := log.Snapshot(ctx, q.At)
	if err != nil {
		return nil, fmt.Errorf("reading the log of LiveSynchronization %s: %w", id, err)
	}
	if gap := snapshot.Window.Check(q.At); !q.At.IsZero() && gap != nil && !q.Force {
		return nil, fmt.Errorf("%w; --force rebuilds it as far as it is known", gap)
	}
	if snapshot.Config.Generation == 0 {
		return nil, fmt.Errorf("the log of LiveSynchronization %s holds no configuration: nothing was replicated yet", id)
	}
	o.Config.Generation, o.Config.SourceUID = snapshot.Config.Generation, snapshot.Config.SourceUID
	o.Config.FormerSourceUIDs = snapshot.Config.FormerSourceUIDs
	o.Log, o.Keys, o.VerifiedAt = logOf{snapshot}, snapshot.Keys, snapshot.Window.VerifiedAt
	o.Gone = func(instance string) bool { return q.Log.Alone && instance == q.Log.Instance }
	if q.mode != restorer.Rehearse { // which changes nothing that an audit is about
		o.Outcomes = &restorer.Outcomes{Client: log.Client, Topic: log.Topics.Outcomes, Partitions: int32(len(parts)), Writer: o.Holder}
	}
	if !q.At.IsZero() {
		o.Untold = snapshot.Window.Incomplete(plurals(q.Target.Compute(), snapshot.Config), q.At)
		for _, gvr := range o.Untold {
			warnings = append(warnings, fmt.Sprintf("%s was not in the log yet at that moment: what there was of it is not known, and nothing of it is deleted", gvr.GroupResource()))
		}
	}
	return warnings, nil
}

// holder names this process at the fence: the same one when it is run again.
func holder(dataDir string) string {
	host, _ := os.Hostname()
	sum := sha256.Sum256([]byte(dataDir))
	return "recover-" + host + "-" + hex.EncodeToString(sum[:4])
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
