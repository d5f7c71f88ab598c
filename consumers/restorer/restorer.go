package restorer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

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
	recovery       *topology.Recovery
	source         source
	beside         *bucketBeside
	kube           *kube.Client // Destination, or a dry run of it
	served         *kube.Served
	fence          *fence.Fence
	spaces         *spaces
	live           *index

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
		if err := r.unfenced(ctx); err != nil {
			return err
		}
	}
	r.writing = time.Now()
	r.progress.phase("reading the destination")
	var err error
	if r.live, err = r.survey(ctx); err != nil {
		return err
	}
	if err := r.passes(ctx); err != nil {
		return err
	}
	if r.PointInTime {
		if report.Blocked, err = r.prune(ctx); err != nil {
			return err
		}
	}
	if !r.DryRun {
		r.progress.phase("verifying")
		if err := r.verify(ctx); err != nil {
			return err
		}
	}
	return r.note(ctx)
}

// unfenced refuses to write where a recovery holds the destination.
func (r *Restorer) unfenced(ctx context.Context) error {
	var s fence.State
	err := r.persist(ctx, func(ctx context.Context) (err error) {
		s, err = r.fence.Read(ctx)
		return err
	})
	if err == nil && s.Fenced() {
		err = fmt.Errorf("a recovery holds the destination (term %d): lift that with \"afterimage resume\" first", s.Term)
	}
	return err
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

// persist calls fn until the destination answers it: whatever else is wrong with
// the answer is the caller's.
func (r *Restorer) persist(ctx context.Context, fn func(context.Context) error) error {
	for wait := 250 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := fn(ctx)
		if err == nil || !owned.Transient(err) {
			return err
		}
		delay := wait
		if asked, ok := kube.RetryAfter(err); ok {
			delay = min(asked, time.Minute)
		} else {
			r.progress.phase("waiting for the destination: " + err.Error())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (last: %w)", context.Cause(ctx), err)
		case <-time.After(delay):
		}
	}
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
		case errors.Is(err, kube.ErrNotServed):
			r.warn("the destination does not serve %s %s: nothing of it is recovered by that name; name it in the plural", e.Group+"/"+e.Version, e.Resource)
		case err != nil:
			return err
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
	r.rules, r.holding, r.recovery = again.rules, again.holding, again.recovery
	return nil
}

// takeOver raises the fence and waits until nobody else writes. stop gives the
// Lease back; the fence stays.
func (r *Restorer) takeOver(ctx context.Context, cancel context.CancelCauseFunc) (stop func(), err error) {
	stop = func() {}
	err = r.persist(ctx, func(ctx context.Context) (err error) {
		r.term, err = r.fence.Raise(ctx, r.Holder)
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
