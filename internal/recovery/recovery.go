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
	// Log is open for as long as the recovery runs.
	Log *pipeline.LogAccess
	// Bucket of the originals; nil: they are read from the log.
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
}

// requestTimeout of the recovery's requests: below it, others have given up.
const requestTimeout = 30 * time.Second

// Run makes the recovery that is asked for. The report is nil where it could not
// begin.
func Run(ctx context.Context, q Request) (*restorer.Report, error) {
	id := q.Target.LiveSynchronization
	log := history.Log{
		Client: q.Log.Client, Topics: topology.TopicsFor(id.Namespace, id.Name), Embedded: q.Log.Embedded, Floor: q.Log.Floor,
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
	config := q.Target.Compute()
	config.Generation, config.SourceUID = snapshot.Config.Generation, snapshot.Config.SourceUID
	config.FormerSourceUIDs = snapshot.Config.FormerSourceUIDs
	destination, err := kube.New(q.Destination, kube.WithTimeout(requestTimeout))
	if err != nil {
		return nil, err
	}
	o := restorer.Options{
		Config: config, Destination: destination, Log: logOf{snapshot}, From: restorer.FromLog, Keys: snapshot.Keys,
		PointInTime: !q.At.IsZero(), DryRun: q.DryRun, Force: q.Force,
		Holder: holder(q.DataDir), VerifiedAt: snapshot.Window.VerifiedAt, Progress: q.Progress, Logger: q.Logger,
		Gone: func(instance string) bool { return q.Log.Alone && instance == q.Log.Instance },
	}
	if q.Bucket != nil {
		originals, err := bucket.New(*q.Bucket)
		if err != nil {
			return nil, fmt.Errorf("bucket of the originals: %w", err)
		}
		o.Bucket, o.From = originals, restorer.FromAuto
	}
	if c := q.Target.Config.Components.Restorer; c != nil && c.ConcurrentTasks != nil {
		o.Tasks = int(*c.ConcurrentTasks)
	}
	if o.Outcomes, err = outcomes(ctx, log); err != nil {
		return nil, err
	}
	r, err := restorer.New(o)
	if err != nil {
		return nil, err
	}
	report, err := r.Run(ctx)
	if !q.At.IsZero() {
		for _, gvr := range snapshot.Window.Incomplete(config, q.At) {
			report.Warnings = append(report.Warnings, fmt.Sprintf("%s was not in the log yet at that moment: what there was of it is not known", gvr.GroupResource()))
		}
	}
	return report, err
}

// outcomes is where the results are noted.
func outcomes(ctx context.Context, log history.Log) (*restorer.Outcomes, error) {
	parts, err := log.Client.Partitions(ctx, log.Topics.Outcomes)
	if err != nil {
		return nil, fmt.Errorf("finding the topic of outcomes: %w", err)
	}
	return &restorer.Outcomes{Client: log.Client, Topic: log.Topics.Outcomes, Partitions: int32(len(parts)), Writer: holder("")}, nil
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
