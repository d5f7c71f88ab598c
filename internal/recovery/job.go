package recovery

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/consumers/restorer"
	"github.com/afterimage-dr/afterimage/internal/fence"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/manifest"
	"github.com/afterimage-dr/afterimage/internal/pipeline"
	"github.com/afterimage-dr/afterimage/internal/status"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

// Jobs runs the Recoveries of manifests, each once, as a Job is run: what became of
// it is kept in the data directory, and one that a crash has cut off is run again,
// which does nothing twice. Safe for concurrent use.
type Jobs struct {
	DataDir string
	Brokers []string
	Logger  *slog.Logger

	running sync.WaitGroup
	mu      sync.Mutex
	jobs    map[string]*job
}

// job is what is kept of a Recovery.
type job struct {
	// Spec is a hash of what was asked for: another spec under the name is another run.
	Spec   string                  `json:"spec"`
	Status v1alpha1.RecoveryStatus `json:"status"`
	// LiveSynchronization is <namespace>/<name>.
	LiveSynchronization string `json:"liveSynchronization"`
}

// maxFailures of a status.
const maxFailures = 50

// Apply begins the Recoveries of a set that were not run yet.
func (j *Jobs) Apply(ctx context.Context, set *manifest.Set) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.jobs == nil {
		j.jobs = map[string]*job{}
	}
	for _, r := range set.Recoveries {
		name := r.Namespace + "/" + r.Name
		spec := hashOf(r)
		if known := j.jobs[name]; known != nil && known.Spec == spec {
			continue
		}
		kept, err := j.load(name)
		if err != nil {
			j.Logger.Error("what became of a recovery cannot be read: it is run again, which does nothing twice", slog.String("recovery", name), logging.Err(err))
		}
		if kept != nil && kept.Spec == spec && (kept.Status.State == v1alpha1.StateCompleted || kept.Status.State == v1alpha1.StateFailed) {
			j.jobs[name] = kept
			continue
		}
		begun := &job{Spec: spec, LiveSynchronization: r.LiveSynchronization().String()}
		begun.Status.State, begun.Status.ObservedGeneration = v1alpha1.StatePending, r.Generation
		j.jobs[name] = begun
		j.running.Go(func() { j.run(ctx, set, r, name) })
	}
}

// Wait returns when no recovery runs any more.
func (j *Jobs) Wait() { j.running.Wait() }

// Status of all of them, in the order of their names.
func (j *Jobs) Status() []status.Recovery {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := make([]status.Recovery, 0, len(j.jobs))
	for name, k := range j.jobs {
		ns, name, _ := strings.Cut(name, "/")
		out = append(out, status.Recovery{Namespace: ns, Name: name, LiveSynchronization: k.LiveSynchronization, Status: *k.Status.DeepCopy()})
	}
	status.SortRecoveries(out)
	return out
}

func (j *Jobs) run(ctx context.Context, set *manifest.Set, r *v1alpha1.Recovery, name string) {
	logger := j.Logger.With(slog.String("recovery", name))
	began := metav1.Now()
	j.set(name, func(s *v1alpha1.RecoveryStatus) { s.State, s.StartTime = v1alpha1.StateRunning, &began })
	logger.Info("recovery begins")
	report, err := j.recover(ctx, set, r, logger)
	var said logging.State
	for err != nil && (report == nil || report.Writing.IsZero()) && again(err) && ctx.Err() == nil {
		// Nothing was begun: what keeps it from beginning may end.
		said.Failing(logger, err.Error(), "recovery cannot begin yet, it is tried again", logging.Err(err))
		select {
		case <-ctx.Done():
		case <-time.After(retryEvery):
			report, err = j.recover(ctx, set, r, logger)
		}
	}
	if ctx.Err() != nil {
		return // stopped, not failed: it goes on when this process starts again
	}
	j.set(name, func(s *v1alpha1.RecoveryStatus) { finish(s, report, err) })
	if err != nil {
		logger.Error("recovery failed", logging.Err(err))
		return
	}
	logger.Info("recovery ended", slog.Bool("complete", report.Complete()), slog.Any("summary", report.Summary))
}

// retryEvery is the pause before a recovery that could not begin is tried again.
const retryEvery = 5 * time.Second

// again tells whether what kept a recovery from beginning may pass: another one that
// runs, a log that does not answer.
func again(err error) bool {
	return errors.Is(err, ErrRunning) || errors.Is(err, fence.ErrHeld) || errors.Is(err, context.DeadlineExceeded)
}

func (j *Jobs) recover(ctx context.Context, set *manifest.Set, r *v1alpha1.Recovery, logger *slog.Logger) (*restorer.Report, error) {
	target := set.ConfigOf(r)
	q := Request{
		Target: target, Bucket: set.BucketOptions(target.Bucket), From: r.Spec.From, DataDir: j.DataDir,
		DryRun: r.Spec.DryRun, Force: r.Spec.Force, Logger: logger,
		Progress: func(p restorer.Progress) {
			logger.Debug("recovery", slog.String("phase", p.Phase), slog.Int("done", p.Done))
		},
	}
	var err error
	if q.At, err = r.Spec.At(); err != nil {
		return nil, err
	}
	if q.Destination, err = set.RESTConfig(target.Destination); err != nil {
		return nil, err
	}
	// As another process would: through the socket of this one.
	if q.Log, q.NoLog = pipeline.OpenLog(pipeline.LogOptions{DataDir: j.DataDir, Brokers: j.Brokers}); q.NoLog == nil {
		defer q.Log.Close()
	}
	return Run(ctx, q)
}

// set changes a status and keeps it.
func (j *Jobs) set(name string, change func(*v1alpha1.RecoveryStatus)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	change(&j.jobs[name].Status)
	if err := j.save(name, j.jobs[name]); err != nil {
		j.Logger.Error("what became of a recovery cannot be kept: it would be run again, which does nothing twice", slog.String("recovery", name), logging.Err(err))
	}
}

// finish fills a status in from a report; nil where there is none.
func finish(s *v1alpha1.RecoveryStatus, report *restorer.Report, err error) {
	now := metav1.Now()
	s.CompletionTime, s.State = &now, v1alpha1.StateFailed
	outcome := metav1.Condition{Type: v1alpha1.ConditionFailed, Status: metav1.ConditionTrue, Reason: "Incomplete", LastTransitionTime: now}
	if report != nil {
		count := report.Summary
		s.Term = report.Term
		s.Summary = v1alpha1.RecoverySummary{
			Total: int64(count.Total), Restored: int64(count.Restored), Patched: int64(count.Patched),
			Unchanged: int64(count.Unchanged + count.Kept), Failed: int64(count.Failed), Deleted: int64(count.Deleted),
		}
		s.RTO = &metav1.Duration{Duration: report.RTO().Round(time.Millisecond)}
		if rpo, ok := report.RPO(); ok {
			s.RPO, s.DataAsOf = &metav1.Duration{Duration: rpo.Round(time.Millisecond)}, new(metav1.MicroTime)
			*s.DataAsOf = metav1.NewMicroTime(*report.DataAsOf)
		}
		s.Failures = failures(report)
		outcome.Message = fmt.Sprintf("%d of %d objects failed: mend the reasons and create another Recovery, which does nothing twice", count.Failed, count.Total)
		if report.Blocked != "" {
			outcome.Reason, outcome.Message = restorer.ReasonPruneBlocked, report.Blocked
		}
	}
	switch {
	case err != nil:
		outcome.Reason, outcome.Message = "Stopped", err.Error()
	case report.Complete():
		s.State = v1alpha1.StateCompleted
		outcome = metav1.Condition{
			Type: v1alpha1.ConditionComplete, Status: metav1.ConditionTrue, Reason: "Verified", LastTransitionTime: now,
			Message: "every object was found at the destination",
		}
	}
	s.Conditions = []metav1.Condition{outcome}
}

func failures(report *restorer.Report) []v1alpha1.RecoveryFailure {
	var out []v1alpha1.RecoveryFailure
	for i := range report.Results {
		res := &report.Results[i]
		if res.Action != restorer.Failed || len(out) == maxFailures {
			continue
		}
		f := v1alpha1.RecoveryFailure{Name: res.Key, Reason: res.Reason, Message: res.Message}
		if key, err := topology.ParseKey(res.Key); err == nil {
			f.Resource = strings.TrimSuffix(topology.ResourcePrefix(key.GVR()), "/")
			f.Namespace, f.Name = key.Namespace, key.Name
		}
		out = append(out, f)
	}
	return out
}

func hashOf(r *v1alpha1.Recovery) string {
	b, _ := json.Marshal(r.Spec) // plain data always marshals
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// file of a Recovery; a namespace holds no dot.
func (j *Jobs) file(name string) string {
	return filepath.Join(j.DataDir, "recoveries", strings.Replace(name, "/", ".", 1)+".json")
}

func (j *Jobs) load(name string) (*job, error) {
	b, err := os.ReadFile(j.file(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	k := &job{}
	if err := json.Unmarshal(b, k); err != nil {
		return nil, err
	}
	return k, nil
}

func (j *Jobs) save(name string, k *job) error {
	b, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return err
	}
	file := j.file(name)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	// A crash in between leaves the old one or the new one, never half of one.
	if err := os.WriteFile(file+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}
