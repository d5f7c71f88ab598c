package restorer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/afterimage-dr/afterimage/internal/failpoint"
	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/owned"
	"github.com/afterimage-dr/afterimage/state/bucket"
	"github.com/afterimage-dr/afterimage/topology"
)

// maxTurns of one object in one pass: what changes faster is tried again later.
const maxTurns = 8

// attempt is one object on its way.
type attempt struct {
	r        *Restorer
	o        *original
	d        *decision
	resource kube.Resource
	live     *existing
	body     []byte // of live, where it was read
}

// restore makes an object what was decided, whatever is there. An error ends the
// recovery.
func (r *Restorer) restore(ctx context.Context, o *original, d *decision, live *existing) (Result, error) {
	a := &attempt{r: r, o: o, d: d, live: live}
	if reason, message, err := r.spaces.await(ctx, o); err != nil || reason != "" {
		return a.fail(reason, message), err
	}
	return a.turns(ctx, a.restoreOnce)
}

// patch applies fromPatch to the object as it is.
func (r *Restorer) patch(ctx context.Context, o *original, d *decision, live *existing) (Result, error) {
	a := &attempt{r: r, o: o, d: d, live: live}
	return a.turns(ctx, a.patchOnce)
}

// turns makes attempts until one tells the result; nil: look again.
func (a *attempt) turns(ctx context.Context, once func(context.Context) (*Result, error)) (Result, error) {
	var err error
	if a.resource, err = a.r.served.Get(ctx, a.o.key.GVR()); err != nil {
		return a.failed(ctx, err)
	}
	for range maxTurns {
		var res *Result
		err := a.r.persist(ctx, func(ctx context.Context) (err error) {
			res, err = once(ctx)
			return err
		})
		switch {
		case err != nil:
			return a.failed(ctx, err)
		case res != nil:
			return *res, nil
		}
	}
	return a.fail(owned.ReasonConflict, "it changes faster than it can be written"), nil
}

// failed is the result of an error about the object; the end of the recovery's own
// context is none.
func (a *attempt) failed(ctx context.Context, err error) (Result, error) {
	if ctx.Err() != nil {
		return Result{}, context.Cause(ctx)
	}
	reason, message := owned.Classify(err, a.o.key.Namespace)
	if fields, ok := owned.Immutable(err); ok {
		reason = owned.ReasonImmutable
		message = fmt.Sprintf("the destination refuses to change %s; recreateOnImmutable: true would delete and create the object: %v", fields, err)
	}
	if reason == owned.ReasonNotServed {
		a.r.served.Forget(a.o.key.Group, a.o.key.Resource)
	}
	if reason == owned.ReasonNamespaceMissing && a.r.DryRun && a.r.wouldMake(a.o.key.Namespace) {
		return Result{Key: a.o.name, Action: Restored, Note: "not tried: its namespace would be created first"}, nil
	}
	return a.fail(reason, message), nil
}

// wouldMake tells whether a dry run would have made a namespace.
func (r *Restorer) wouldMake(namespace string) bool {
	if r.spaces.pretended(namespace) {
		return true
	}
	key := topology.Key{Version: "v1", Resource: "namespaces", Name: namespace}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.results[key.String()].Action == Restored
}

func (a *attempt) fail(reason, message string) Result {
	return Result{Key: a.o.name, Action: Failed, Reason: reason, Message: message, Note: a.d.note}
}

// restoreOnce creates or replaces the object as it was last seen.
func (a *attempt) restoreOnce(ctx context.Context) (*Result, error) {
	switch {
	case a.live == nil:
		return a.create(ctx)
	case a.live.terminating:
		res := a.fail(owned.ReasonTerminating, "the object is being deleted at the destination; it is created again when that is done")
		return &res, nil
	case !a.live.ours():
		return a.foreign(ctx)
	case !a.r.PointInTime && !a.r.Force && stateOf(a.o.rec, a.live).Older(a.live.version):
		// Guarantee 3: somebody wrote a newer state since it was decided.
		res := a.fail(ReasonOlder, "the destination holds a newer state by now")
		return &res, nil
	case a.d.confirm && a.body == nil:
		return nil, a.look(ctx)
	case a.d.confirm && owned.Contains(a.body, a.d.state.Body):
		a.r.found(a.o, a.live)
		return &Result{Key: a.o.name, Action: Unchanged, Note: a.d.note}, nil
	}
	return a.replace(ctx)
}

func (a *attempt) create(ctx context.Context) (*Result, error) {
	body, err := a.d.state.Marked(a.r.owner, a.resource, nil)
	if err != nil {
		res := a.fail(owned.ReasonInvalid, err.Error())
		return &res, nil
	}
	failpoint.Hit("restorer/before-write")
	made, err := a.r.kube.Create(ctx, a.resource, a.o.key.Namespace, body, topology.FieldManager)
	if apierrors.IsAlreadyExists(err) {
		return nil, a.look(ctx)
	}
	return a.written(made, err)
}

// replace brings an object of ours to what was decided, in one request where it
// can: only what differs from the standby form, where that is what is there.
func (a *attempt) replace(ctx context.Context) (*Result, error) {
	if !a.live.applied && a.d.standby != nil && a.live.recovered == "" {
		patch, err := a.d.state.Change(a.r.owner, a.d.standby, a.live.pre)
		if err != nil {
			res := a.fail(owned.ReasonInvalid, err.Error())
			return &res, nil
		}
		failpoint.Hit("restorer/before-write")
		made, err := a.r.kube.MergePatch(ctx, a.resource, a.o.key, patch, topology.FieldManager)
		if a.changed(err) {
			return nil, a.look(ctx)
		}
		if err == nil && !owned.Contains(made, a.d.state.Body) {
			// Somebody had changed it: now it is written whole.
			if err := a.seen(made); err != nil {
				return nil, err
			}
			return a.apply(ctx)
		}
		return a.written(made, err)
	}
	return a.apply(ctx)
}

// apply writes the whole object over what is there.
func (a *attempt) apply(ctx context.Context) (*Result, error) {
	if !a.live.applied {
		if a.body == nil { // which entry is ours?
			if err := a.look(ctx); err != nil || a.live == nil || !a.live.ours() {
				return nil, err
			}
		}
		m, err := kube.MetaOf(a.body)
		if err != nil {
			return nil, err
		}
		migration, err := owned.Migration(&m, a.live.pre)
		if err != nil {
			return nil, err
		}
		made, err := a.r.kube.JSONPatch(ctx, a.resource, a.o.key, migration, topology.FieldManager)
		if a.changed(err) || apierrors.IsInvalid(err) {
			return nil, a.look(ctx)
		}
		if err != nil {
			return nil, err
		}
		if err := a.seen(made); err != nil {
			return nil, err
		}
	}
	body, err := a.d.state.Marked(a.r.owner, a.resource, &a.live.pre)
	if err != nil {
		res := a.fail(owned.ReasonInvalid, err.Error())
		return &res, nil
	}
	failpoint.Hit("restorer/before-write")
	made, err := a.r.kube.Apply(ctx, a.resource, a.o.key, body, topology.FieldManager)
	if a.changed(err) {
		return nil, a.look(ctx)
	}
	if _, immutable := owned.Immutable(err); immutable && a.r.Config.Replication.RecreateOnImmutable && !a.live.adopted && !cascades(a.o.key) {
		return a.recreate(ctx)
	}
	return a.written(made, err)
}

// recreate deletes an object of ours whose immutable fields differ, and creates it
// in the next turn.
func (a *attempt) recreate(ctx context.Context) (*Result, error) {
	err := a.r.kube.Delete(ctx, a.resource, a.o.key, kube.Preconditions{UID: a.live.pre.UID, ResourceVersion: a.live.pre.ResourceVersion})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return nil, err
	}
	if a.r.DryRun {
		return &Result{Key: a.o.name, Action: Restored, Note: "it would be deleted and created, because an immutable field differs"}, nil
	}
	return nil, a.look(ctx)
}

// foreign deals with an object that is not ours.
//
// Guarantee 9: it is left alone unless it is as it must be already, every cluster
// makes it by itself, or the user wants it taken over.
func (a *attempt) foreign(ctx context.Context) (*Result, error) {
	if a.body == nil {
		return nil, a.look(ctx)
	}
	if a.live.whose == owned.Foreign && owned.Contains(a.body, a.d.state.Body) {
		return &Result{Key: a.o.name, Action: Unchanged, Note: "it was not made by Afterimage, and is as it must be"}, nil
	}
	if a.live.whose == owned.Foreign && a.r.NamespacePrefix == "" && (a.r.Config.Replication.AdoptExisting || owned.MadeByEveryCluster(a.o.key)) {
		a.d.state.Adopted = true
		return a.apply(ctx)
	}
	res := a.fail(owned.ReasonNotOwned, "an object of this name exists at the destination and was not made by Afterimage for this LiveSynchronization; adoptExisting: true would take over one that nobody else owns")
	return &res, nil
}

// patchOnce applies fromPatch to the object as the destination has it: with one
// request where the server can do all of it, else on a copy that is read first.
func (a *attempt) patchOnce(ctx context.Context) (*Result, error) {
	if a.live == nil {
		res := a.fail(owned.ReasonConflict, "it was deleted at the destination meanwhile")
		return &res, nil
	}
	if a.live.terminating {
		res := a.fail(owned.ReasonTerminating, "the object is being deleted at the destination")
		return &res, nil
	}
	if !a.live.ours() { // Guarantee 9: it is another one than was listed
		res := a.fail(owned.ReasonNotOwned, "somebody has replaced the object at the destination by one of their own")
		return &res, nil
	}
	if a.body == nil {
		if patch, ok := a.serverPatch(); ok {
			failpoint.Hit("restorer/before-write")
			made, err := a.r.kube.JSONPatch(ctx, a.resource, a.o.key, patch, Manager)
			if err == nil {
				return a.patched(made)
			}
			if !apierrors.IsInvalid(err) && !a.changed(err) {
				return nil, err
			}
		}
		// It changed, or an operation fails: which of them, the copy tells.
		return nil, a.look(ctx)
	}
	if a.live.recovered == a.d.mark {
		a.r.found(a.o, a.live)
		return &Result{Key: a.o.name, Action: Unchanged}, nil
	}
	body, err := a.r.recovery.Patch(a.d.entry, a.o.key, topology.Live, a.body)
	if err != nil {
		res := a.fail(ReasonPatchFailed, "recoveryProcess.fromPatch: "+err.Error())
		return &res, nil
	}
	patch, err := owned.Difference(a.body, body)
	if err != nil {
		return nil, err
	}
	meta, _ := patch["metadata"].(map[string]any)
	if meta == nil {
		meta = map[string]any{}
	}
	annotations, _ := meta["annotations"].(map[string]any)
	if annotations == nil {
		annotations = map[string]any{}
	}
	annotations[topology.RecoveredAnnotation] = a.d.mark
	meta["annotations"], meta["resourceVersion"] = annotations, a.live.pre.ResourceVersion
	patch["metadata"] = meta
	raw, err := owned.Marshal(patch)
	if err != nil {
		return nil, err
	}
	failpoint.Hit("restorer/before-write")
	made, err := a.r.kube.MergePatch(ctx, a.resource, a.o.key, raw, Manager)
	switch {
	case a.changed(err):
		return nil, a.look(ctx)
	case err != nil:
		return nil, err
	}
	return a.patched(made)
}

// serverPatch is fromPatch as one JSON patch, guarded by what was read, which
// leaves the mark in the same write.
func (a *attempt) serverPatch() ([]byte, bool) {
	operations, ok := a.r.recovery.Operations(a.d.entry)
	if !ok {
		return nil, false
	}
	all := []any{
		owned.PatchOp{Op: "test", Path: "/metadata/uid", Value: a.live.pre.UID},
		owned.PatchOp{Op: "test", Path: "/metadata/resourceVersion", Value: a.live.pre.ResourceVersion},
	}
	for _, op := range operations {
		all = append(all, op)
	}
	all = append(all, owned.PatchOp{Op: "add", Path: "/metadata/annotations/afterimage.io~1recovered", Value: a.d.mark})
	patch, err := json.Marshal(all)
	return patch, err == nil
}

func (a *attempt) patched(made []byte) (*Result, error) {
	res, err := a.written(made, nil)
	if res != nil && res.Action == Restored {
		res.Action = Patched
	}
	return res, err
}

// changed tells whether a write was refused because the object is not what was read.
func (a *attempt) changed(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsNotFound(err) && !owned.NamespaceMissing(err)
}

// look reads the object.
func (a *attempt) look(ctx context.Context) error {
	o, err := owned.Read(ctx, a.r.Destination, a.resource, a.o.key)
	if err != nil {
		return err
	}
	a.live, a.body = nil, nil
	if o != nil {
		a.live, a.body = a.r.existingOf(&o.Meta, a.o.key), o.Body
	}
	return nil
}

// seen takes in what a write answered.
func (a *attempt) seen(made []byte) error {
	m, err := kube.MetaOf(made)
	if err != nil {
		return err
	}
	a.live, a.body = a.r.existingOf(&m, a.o.key), made
	return nil
}

// written notes a write that succeeded.
func (a *attempt) written(made []byte, err error) (*Result, error) {
	failpoint.Hit("restorer/after-write")
	if err != nil {
		return nil, err
	}
	if err := a.seen(made); err != nil {
		return nil, err
	}
	if !a.r.DryRun {
		a.r.live.set(a.o.keyText, a.live)
		a.r.found(a.o, a.live)
		a.r.Logger.LogAttrs(context.Background(), slog.LevelInfo, logging.ObjectUpdated,
			logging.Event(topology.Update), logging.SourceObject(a.o.key, a.o.rec.UID, a.o.rec.Version.RV),
			logging.DestinationObject(a.o.key, a.live.pre.UID, a.live.pre.ResourceVersion))
	}
	return &Result{Key: a.o.name, Action: Restored, Note: a.d.note}, nil
}

// cascades tells whether deleting an object deletes what others put under it.
func cascades(key topology.Key) bool { return waveOf(key) == foundations }

// reasonOf what is wrong with an original in the bucket.
func reasonOf(err error) string {
	if errors.Is(err, bucket.ErrForeign) {
		return ReasonForeignContent
	}
	return ReasonDamaged
}
