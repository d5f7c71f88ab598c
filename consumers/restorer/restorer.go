package restorer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/afterimage-dr/afterimage/internal/fence"
	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/owned"
	"github.com/afterimage-dr/afterimage/topology"
)

// Manager is the field manager of fromPatch on an object that stays otherwise as
// it is. It is not that of the synchronizer, so that what a recovery added can be
// told, and taken away, when replication goes on.
const Manager = owned.RecoveryManager

// ErrSameCluster: the destination is the source.
var ErrSameCluster = errors.New("the destination is the source cluster: there is nothing to recover into")

// Restorer makes one recovery; New makes it, Run runs it, once.
type Restorer struct {
	Options
	owner topology.Owner
	// rules hold nothing back; holding are those of a standby.
	rules, holding *topology.Rules
	// strict leave out what a log may never have held, whatever is included today.
	strict   *topology.Rules
	recovery *topology.Recovery
	source   source
	beside   *bucketBeside
	kube     *kube.Client // Destination, or a dry run of it
	served   *kube.Served
	fence    *fence.Fence
	spaces   *spaces
	live     *index

	term                 int64
	writing              time.Time
	silent               []string
	wave                 wave
	mu                   sync.Mutex
	results              map[string]Result
	wrote                map[string]written // what is to be found afterwards
	atRisk, done, failed int
	warnings             []string
	progress             progress
}

// written is what is remembered of a write, to verify it, and whose result it is.
type written struct{ uid, mark, name string }

// New checks and prepares a recovery; it does not connect yet.
func New(o Options) (*Restorer, error) {
	o.setDefaults()
	r := &Restorer{Options: o, results: map[string]Result{}, wrote: map[string]written{}}
	r.fence = fence.New(o.Destination, o.Config.Namespace, o.Config.Name)
	r.owner = topology.OwnerOf(r.Config)
	if r.NamespacePrefix != "" {
		r.owner.LiveSynchronization += "@" + r.NamespacePrefix
	}
	var err error
	if r.holding, err = topology.Compile(r.Config); err != nil {
		return nil, err
	}
	released := r.Config
	released.Replication.HoldBackWebhooks = new(bool)
	if r.rules, err = topology.Compile(released); err != nil {
		return nil, err
	}
	strict := r.Config
	strict.Replication.IncludeSystemNamespaces, strict.Replication.IncludeGenerated = false, false
	if r.strict, err = topology.Compile(strict); err != nil {
		return nil, err
	}
	if r.Mode == Replay {
		r.rules = r.holding
	}
	if r.recovery, err = topology.CompileRecovery(r.Config); err != nil {
		return nil, err
	}
	if r.source, err = r.sourceOf(); err != nil {
		return nil, err
	}
	if _, log := r.source.(*fromLog); log && r.Bucket != nil && r.From == FromAuto && !r.PointInTime && r.Mode != Replay {
		r.beside = &bucketBeside{bucket: r.Bucket, namespace: r.Config.Namespace, name: r.Config.Name}
	}
	r.kube = o.Destination
	if o.DryRun {
		r.kube = o.Destination.DryRun()
	}
	r.served = kube.NewServed(o.Destination)
	r.spaces = newSpaces(r)
	r.progress.tell = o.Progress
	return r, nil
}

// Run makes the recovery. The report is complete as far as it came, also where an
// error ended it. While the destination cannot be reached it waits, for as long
// as ctx lives.
func (r *Restorer) Run(ctx context.Context) (*Report, error) {
	report := &Report{Mode: r.Mode, DryRun: r.DryRun, Originals: r.originals(), Started: time.Now()}
	if !r.VerifiedAt.IsZero() {
		at := r.VerifiedAt.UTC()
		report.DataAsOf = &at
	}
	err := r.run(ctx, report)
	report.Stopped = err != nil
	report.Term, report.Silent, report.AtRisk = r.term, r.silent, r.atRisk
	report.Writing = r.writing
	for _, res := range r.results {
		report.Results = append(report.Results, res)
	}
	if r.beside != nil {
		if why := r.beside.lost.Load(); why != nil {
			r.warnings = append(r.warnings, *why)
		}
	}
	report.Warnings = append(report.Warnings, r.warnings...)
	report.finish()
	r.progress.phase(PhaseDone)
	return report, err
}

// originals says in words where they are read.
func (r *Restorer) originals() string {
	if r.beside != nil {
		return "what is to be there from the change log, originals from the bucket"
	}
	return r.source.String()
}

func (r *Restorer) run(ctx context.Context, report *Report) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := r.reach(ctx); err != nil {
		return err
	}
	if err := r.resolve(ctx); err != nil {
		return err
	}
	if r.raises() {
		stop, err := r.takeOver(ctx, cancel)
		defer stop()
		if err != nil {
			return err
		}
	}
	if r.Mode == Replay && !r.DryRun {
		stop, err := r.takePart(ctx, cancel)
		defer stop()
		if err != nil {
			return err
		}
	}
	r.writing = time.Now()
	if err := r.open(ctx, report); err != nil {
		return err
	}
	r.progress.phase("reading the destination")
	var err error
	if r.live, err = r.survey(ctx); err != nil {
		return err
	}
	if err := r.passes(ctx, foundations, everything); err != nil {
		return err
	}
	if r.PointInTime {
		// Before the gates: a webhook that does not answer would stand in the way.
		if report.Blocked, err = r.prune(ctx); err != nil {
			return err
		}
	}
	if err := r.passes(ctx, gates, gates); err != nil {
		return err
	}
	if !r.DryRun {
		r.progress.phase("verifying")
		if err := r.verify(ctx); err != nil {
			return err
		}
	}
	r.note(ctx)
	return nil
}

// open reads the log where it was to be read only now, with nobody writing: what
// was logged until then counts.
func (r *Restorer) open(ctx context.Context, report *Report) error {
	if r.OpenLog == nil || r.Log != nil {
		return nil
	}
	r.progress.phase("reading the log")
	opened, err := r.OpenLog(ctx)
	if err != nil {
		return err
	}
	r.source, r.Keys = &fromLog{opened.Log}, opened.Keys
	if !opened.VerifiedAt.IsZero() {
		at := opened.VerifiedAt.UTC()
		report.DataAsOf = &at
	}
	r.warnings = append(r.warnings, opened.Warnings...)
	return nil
}

// raises tells whether this run takes the destination over.
func (r *Restorer) raises() bool { return r.Mode == Recover && !r.DryRun }

// reach waits until the destination answers, and looks who it is.
func (r *Restorer) reach(ctx context.Context) error {
	var uid string
	err := r.persist(ctx, func(ctx context.Context) (err error) {
		uid, err = r.Destination.ClusterUID(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("reaching the destination: %w", err)
	}
	if uid == r.Config.SourceUID {
		return ErrSameCluster
	}
	r.Config.DestinationUID = uid
	return nil
}

// ownTries is how often a request is tried that fails while the destination as a
// whole answers: then it is this resource's or object's own trouble (a webhook or an
// aggregated API server that is down).
const ownTries = 3

// persist calls fn until the destination answers it, for as long as that is away;
// what is wrong with the answer is the caller's.
func (r *Restorer) persist(ctx context.Context, fn func(context.Context) error) error {
	own := 0
	for wait := 250 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := fn(ctx)
		if err == nil || !owned.Transient(err) {
			return err
		}
		delay := wait
		switch asked, ok := kube.RetryAfter(err); {
		case ctx.Err() != nil:
		case ok && apierrors.IsTooManyRequests(err):
			delay = min(max(asked, wait), time.Minute)
		case r.away(ctx):
			r.progress.phase("waiting for the destination: " + err.Error())
			own = 0
		default:
			if own++; own >= ownTries {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (last: %w)", context.Cause(ctx), err)
		case <-time.After(delay):
		}
	}
}

// away tells whether the destination as a whole does not answer.
func (r *Restorer) away(ctx context.Context) bool {
	_, err := r.Destination.ClusterUID(ctx)
	return err != nil && owned.Transient(err)
}

// resolve names the resources in the plural, as far as the destination serves
// them: a manifest may name a kind.
func (r *Restorer) resolve(ctx context.Context) error {
	changed := false
	for i := range r.Config.Replication.Resources {
		e := &r.Config.Replication.Resources[i]
		var found kube.Resource
		err := r.persist(ctx, func(ctx context.Context) (err error) {
			found, err = r.served.Get(ctx, schema.GroupVersionResource{Group: e.Group, Version: e.Version, Resource: e.Resource})
			return err
		})
		switch {
		case errors.Is(err, kube.ErrNotServed) && e.Resource == strings.ToLower(e.Resource):
			// A plural, most likely, whose definition is yet to be recovered.
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && !errors.Is(err, kube.ErrNotServed):
			r.warn("what the destination serves of %s %s is not known: %v", e.Group+"/"+e.Version, e.Resource, err)
		case errors.Is(err, kube.ErrNotServed):
			r.warn("the destination does not serve %s %s: nothing of it is recovered by that name; name it in the plural", e.Group+"/"+e.Version, e.Resource)
		default:
			changed = changed || e.Resource != found.Resource
			e.Resource = found.Resource
		}
	}
	if !changed {
		return nil
	}
	again, err := New(r.Options)
	if err != nil {
		return err
	}
	r.rules, r.holding, r.strict, r.recovery = again.rules, again.holding, again.strict, again.recovery
	return nil
}

// takeOver raises the fence and waits until nobody else writes. stop gives the
// Lease back; the fence stays.
func (r *Restorer) takeOver(ctx context.Context, cancel context.CancelCauseFunc) (stop func(), err error) {
	stop = func() {}
	err = r.persist(ctx, func(ctx context.Context) (err error) {
		r.term, err = r.fence.Raise(ctx, r.Holder, func(holder string) {
			r.progress.phase("waiting whether recovery " + holder + " is still running")
		})
		return err
	})
	if err != nil {
		return stop, fmt.Errorf("raising the recovery fence: %w", err)
	}
	raised := time.Now()
	hold, end := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.fence.Hold(hold, r.Holder, r.term, cancel)
	}()
	stop = func() { end(); <-done }
	r.progress.phase("waiting for writers to stop")
	r.silent, err = r.fence.Await(ctx, raised, r.Gone, func(left []string) {
		r.progress.phase("waiting for writers to stop: " + strings.Join(left, ", "))
	})
	if err != nil {
		return stop, fmt.Errorf("waiting for writers at the recovery fence: %w", err)
	}
	return stop, nil
}

func (r *Restorer) warn(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.warnings = append(r.warnings, fmt.Sprintf(format, args...))
}
