package synchronizer

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/afterimage-dr/afterimage/internal/failpoint"
	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/owned"
	"github.com/afterimage-dr/afterimage/topology"
)

// opError is an error with the message of the log contract for what failed.
type opError struct {
	msg string
	err error
}

func (e *opError) Error() string { return e.err.Error() }
func (e *opError) Unwrap() error { return e.err }

// read returns an object; nil if there is none.
func (s *Synchronizer) read(ctx context.Context, r kube.Resource, key topology.Key) (*owned.Object, error) {
	return owned.Read(ctx, s.kube, r, key)
}

// write makes one write request. Nothing is written before the gate allows it,
// and a create that took too long to be believed in is looked into.
func (a *attempt) write(ctx context.Context, creates bool, request func(context.Context) ([]byte, error)) (*owned.Object, error) {
	checked, err := a.s.gate.enter(ctx, a.p.alive)
	if err != nil {
		return nil, err
	}
	failpoint.Hit("synchronizer/before-apply")
	body, err := request(a.p.effects)
	failpoint.Hit("synchronizer/after-apply")
	a.s.gate.leave()
	var live *owned.Object
	if err == nil && body != nil {
		live, err = owned.Parse(body)
	}
	if creates && (time.Since(checked) > a.s.Session/2 || !a.p.alive()) && (err == nil || unknownOutcome(err)) {
		a.s.undoIfDeleted(a.p, *a.w, a.r, live)
	}
	return live, err
}

// unknownOutcome tells whether a write may have had its effect although it failed.
func unknownOutcome(err error) bool { return kube.Unavailable(err) || apierrors.IsTimeout(err) }

func (a *attempt) create(ctx context.Context) (step, result, error) {
	body, err := a.w.marked(a.owner, a.r, a.adopted, nil)
	if err != nil {
		return stepDrop, a.fail(ReasonInvalid, err.Error(), err), nil
	}
	if a.s.debug() {
		a.s.log(slog.LevelDebug, logging.CreatingObject, a.w, "", "")
	}
	live, err := a.write(ctx, true, func(ctx context.Context) ([]byte, error) {
		return a.s.kube.Create(ctx, a.r, a.w.key.Namespace, body, topology.FieldManager)
	})
	switch {
	case err == nil:
		return stepDrop, a.written(Created, live), nil
	case apierrors.IsAlreadyExists(err):
		return stepLook, result{}, nil
	}
	return 0, result{}, &opError{logging.ErrCreatingObject, err}
}

// update applies over the object as it was last read or written. What changed
// since refuses it, and is read again.
func (a *attempt) update(ctx context.Context) (step, result, error) {
	pre, migrate := owned.Precondition{UID: a.e.DestinationUID, ResourceVersion: a.e.DestinationRV}, a.known && !has(a.e, markApplied)
	if a.live != nil {
		pre, migrate = a.live.Precondition(), !owned.Applied(&a.live.Meta)
	}
	if a.s.debug() {
		a.s.log(slog.LevelDebug, logging.UpdatingObject, a.w, pre.UID, pre.ResourceVersion)
	}
	if migrate {
		live, err := a.migrate(ctx, pre)
		switch {
		case apierrors.IsNotFound(err) || apierrors.IsConflict(err) || apierrors.IsInvalid(err) && a.live == nil:
			return a.lookAgain()
		case err != nil:
			return 0, result{}, &opError{logging.ErrUpdatingObject, err}
		}
		a.live, pre.ResourceVersion = live, live.Meta.ResourceVersion
	}
	body, err := a.w.marked(a.owner, a.r, a.adopted, &pre)
	if err != nil {
		return stepDrop, a.fail(ReasonInvalid, err.Error(), err), nil
	}
	live, err := a.write(ctx, false, func(ctx context.Context) ([]byte, error) {
		return a.s.kube.Apply(ctx, a.r, a.w.key, body, topology.FieldManager)
	})
	if err == nil {
		live, err = a.withdraw(ctx, live)
	}
	switch {
	case err == nil:
		return stepDrop, a.written(Updated, live), nil
	case apierrors.IsConflict(err), apierrors.IsNotFound(err) && !owned.NamespaceMissing(err):
		return a.lookAgain()
	}
	if fields, ok := owned.Immutable(err); ok {
		return a.immutable(ctx, pre, fields, err)
	}
	return 0, result{}, &opError{logging.ErrUpdatingObject, err}
}

// lookAgain forgets what was read, which is no longer so.
func (a *attempt) lookAgain() (step, result, error) {
	a.live = nil
	return stepLook, result{}, nil
}

// immutable deals with a refused change of an immutable field: report it with the
// field, or delete and create where that was asked for, or where the object in
// the source is another one as well.
func (a *attempt) immutable(ctx context.Context, pre owned.Precondition, fields string, refused error) (step, result, error) {
	was := a.e.UID
	if a.live != nil {
		was = a.live.Meta.Annotations[topology.SourceUIDAnnotation]
	}
	again := a.policy.recreate || was != "" && a.w.uid != "" && was != a.w.uid && !orphans(a.w.key, a.policy)
	if !again || a.adopted || cascades(a.w.key) {
		return stepDrop, a.fail(ReasonImmutable, fmt.Sprintf(
			"the destination refuses to change %s; recreateOnImmutable: true would delete and create the object: %v", fields, refused), refused), nil
	}
	if a.live == nil { // what is deleted is read first: it must be ours
		j, err := a.look(ctx)
		if err != nil {
			return 0, result{}, err
		}
		if j.step != stepUpdate || j.adopted {
			return stepLook, result{}, nil
		}
		pre = a.live.Precondition()
	}
	a.s.log(slog.LevelInfo, logging.DeletingObject, a.w, pre.UID, pre.ResourceVersion, slog.String("reason", "immutable: "+fields))
	_, err := a.write(ctx, false, func(ctx context.Context) ([]byte, error) {
		return nil, a.s.kube.Delete(ctx, a.r, a.w.key, kube.Preconditions{UID: pre.UID, ResourceVersion: pre.ResourceVersion})
	})
	if err != nil && !apierrors.IsNotFound(err) {
		if apierrors.IsConflict(err) {
			return a.lookAgain()
		}
		return 0, result{}, &opError{logging.ErrDeletingObject, err}
	}
	next, res, err := a.create(ctx)
	if res.outcome != nil && res.outcome.Result == string(Created) {
		res.outcome.Result = string(Recreated)
	}
	return next, res, err
}

// delete deletes the object that was just read and judged to be ours.
func (a *attempt) delete(ctx context.Context) (step, result, error) {
	m := &a.live.Meta
	if message, err := a.moves(ctx); err != nil {
		return 0, result{}, &opError{logging.ErrReadingResources, err}
	} else if message != "" {
		return stepDrop, a.fail(ReasonMoved, message, nil), nil
	}
	if cascades(a.w.key) {
		foreign, err := a.s.untracked(a.p.effects, a.w.key, a.live, a.owner)
		if err != nil {
			return 0, result{}, &opError{logging.ErrListingObjects, err}
		}
		if foreign != "" {
			return stepDrop, a.fail(ReasonNotEmpty, "it still holds what Afterimage did not put there: "+foreign, nil), nil
		}
	}
	if a.s.debug() {
		a.s.log(slog.LevelDebug, logging.DeletingObject, a.w, m.UID, m.ResourceVersion)
	}
	_, err := a.write(ctx, false, func(ctx context.Context) ([]byte, error) {
		return nil, a.s.kube.Delete(ctx, a.r, a.w.key, kube.Preconditions{UID: m.UID, ResourceVersion: m.ResourceVersion})
	})
	switch {
	case apierrors.IsConflict(err):
		return a.lookAgain()
	case err != nil && !apierrors.IsNotFound(err):
		return 0, result{}, &opError{logging.ErrDeletingObject, err}
	}
	a.s.lastSync.Store(time.Now().UnixNano())
	// Guarantee 6: an object that lingers is no deleted one.
	if after, err := a.s.read(a.p.effects, a.r, a.w.key); err == nil && after != nil && after.Meta.UID == m.UID {
		return stepDrop, a.fail(ReasonTerminating, after.Terminating(), nil), nil
	}
	a.s.log(slog.LevelInfo, logging.ObjectDeleted, a.w, m.UID, m.ResourceVersion)
	return stepDrop, a.gone(Deleted), nil
}
