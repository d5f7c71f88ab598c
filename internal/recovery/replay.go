package recovery

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/afterimage-dr/afterimage/consumers/restorer"
	"github.com/afterimage-dr/afterimage/internal/fence"
	"github.com/afterimage-dr/afterimage/internal/history"
	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/topology"
)

// Replayed says what is applied again.
type Replayed struct {
	// Objects by key, in the last state that the log has of them, also of deleted ones.
	Objects []string
	// Since: everything that was changed since, as it is now; zero: nothing.
	Since time.Time
}

// Replay applies what is logged to the destination again, through the filters and
// patches of the manifests, beside a replication that runs. An object that was
// deleted in the source comes back as an adopted one, which is never deleted.
func Replay(ctx context.Context, q Request, what Replayed) (*restorer.Report, error) {
	// As a writer that a recovery waits for, it keeps to the fence's own times.
	destination, err := kube.New(q.Destination, kube.WithTimeout(fence.RequestTimeout))
	if err != nil {
		return nil, err
	}
	q.mode = restorer.Replay
	name, _, err := q.hold()
	if err != nil {
		return nil, err
	}
	o := restorer.Options{
		Mode: restorer.Replay, Config: q.Target.Compute(), Destination: destination, From: restorer.FromLog,
		DryRun: q.DryRun, Force: q.Force, Holder: name, Progress: q.Progress, Logger: q.Logger,
	}
	q.From = restorer.FromLog
	if err := q.log(ctx, &o); err != nil {
		return nil, err
	}
	log := q.history()
	if len(what.Objects) > 0 {
		if err := objects(ctx, log, what.Objects, &o); err != nil {
			return nil, err
		}
	} else {
		changed, err := log.ChangedSince(ctx, what.Since)
		if err != nil {
			return nil, fmt.Errorf("reading the log: %w", err)
		}
		o.Only, o.Keys = func(key string) bool { return changed[key] }, len(changed)
	}
	r, err := restorer.New(o)
	if err != nil {
		return nil, err
	}
	return r.Run(ctx)
}

// objects puts the last states of objects in the place of the whole log.
func objects(ctx context.Context, log history.Log, keys []string, o *restorer.Options) error {
	found, deleted := records{}, map[string]bool{}
	for _, key := range keys {
		rec, gone, err := log.LastState(ctx, key)
		if err != nil {
			return fmt.Errorf("reading the log: %w", err)
		}
		if rec == nil {
			return fmt.Errorf("%s: the log has no state of it (any more)", key)
		}
		found, deleted[key] = append(found, rec), gone
	}
	o.Log, o.Keys, o.Adopt = found, len(found), func(key string) bool { return deleted[key] }
	return nil
}

// records are a log of a few.
type records []*topology.Record

func (l records) Each(_ context.Context, want func(string) bool, fn func(*topology.Record) error) error {
	for _, r := range l {
		if want != nil && !want(r.Key) {
			continue
		}
		if err := fn(r); err != nil {
			return err
		}
	}
	return nil
}

// Foreseen is what today's manifests would make otherwise of an object than the
// configuration in the log does.
type Foreseen struct {
	Key string `json:"object"`
	// What: Fails, Fixed, Enters, Leaves, Changes or RecoveryFails.
	What    string `json:"what"`
	Message string `json:"message,omitempty"`
}

// What a preview foresees.
const (
	Fails         = "fails"          // the patch cannot be applied
	Fixed         = "fixed"          // it can, and could not
	Enters        = "enters"         // comes into scope
	Leaves        = "leaves"         // goes out of scope
	Changes       = "changes"        // is patched otherwise
	RecoveryFails = "recovery fails" // fromPatch cannot be applied to the original
)

// Preview compares what the manifests make of every object in the log with what
// the configuration in the log makes of it. It needs neither cluster.
func Preview(ctx context.Context, q Request) (all []Foreseen, objects int, err error) {
	id, log := q.Target.LiveSynchronization, q.history()
	snapshot, err := log.Snapshot(ctx, time.Time{})
	if err != nil {
		return nil, 0, fmt.Errorf("reading the log of LiveSynchronization %s: %w", id, err)
	}
	if snapshot.Config.Generation == 0 {
		return nil, 0, errors.New("the log holds no configuration to compare with: nothing was replicated yet")
	}
	p := preview{}
	if p.before, err = topology.Compile(snapshot.Config); err != nil {
		return nil, 0, err
	}
	config := plurals(q.Target.Compute(), snapshot.Config)
	if p.after, err = topology.Compile(config); err != nil {
		return nil, 0, err
	}
	if p.recovery, err = topology.CompileRecovery(config); err != nil {
		return nil, 0, err
	}
	err = snapshot.Each(ctx, p.look)
	return p.all, snapshot.Keys, err
}

// plurals names resources as the configuration in the log does, which has asked
// the source for them, where an entry is the same one.
func plurals(c, logged topology.Config) topology.Config {
	known := map[string]bool{}
	for _, e := range logged.Replication.Resources {
		known[e.Group+"/"+e.Version+"/"+e.Resource] = true
	}
	for i := range c.Replication.Resources {
		e := &c.Replication.Resources[i]
		if known[e.Group+"/"+e.Version+"/"+e.Resource] || i >= len(logged.Replication.Resources) {
			continue
		}
		if was := logged.Replication.Resources[i]; was.Group == e.Group && was.Version == e.Version {
			e.Resource = was.Resource
		}
	}
	c.SourceUID, c.DestinationUID = logged.SourceUID, logged.DestinationUID
	return c
}

type preview struct {
	before, after *topology.Rules
	recovery      *topology.Recovery
	mu            sync.Mutex
	all           []Foreseen
}

func (p *preview) look(r *topology.Record) error {
	was, is := p.before.Apply(r), p.after.Apply(r)
	f := Foreseen{Key: r.Key}
	switch {
	case is.InScope && is.Err != nil:
		f.What, f.Message = Fails, is.Err.Error()
	case is.InScope && !was.InScope:
		f.What = Enters
	case !is.InScope && was.InScope:
		f.What = Leaves
	case is.InScope && was.Err != nil:
		f.What = Fixed
	case is.InScope && is.Hash != was.Hash:
		f.What = Changes
	}
	if is.InScope && p.recovery.FromOriginal(is.Entry) && f.What != Fails {
		f = p.original(r, is.Entry, f)
	}
	if f.What == "" {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, f)
	return nil
}

// original looks whether the recovery's patch fits the original.
func (p *preview) original(r *topology.Record, entry int, f Foreseen) Foreseen {
	key, err := topology.ParseKey(r.Key)
	if err != nil {
		return f
	}
	of := p.after.Original(r)
	if err = of.Err; err == nil {
		_, err = p.recovery.Patch(entry, key, topology.Copied, of.Body)
	}
	if err != nil {
		f.What, f.Message = RecoveryFails, err.Error()
	}
	return f
}
