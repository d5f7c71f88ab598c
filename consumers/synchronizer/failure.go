package synchronizer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/owned"
	"github.com/afterimage-dr/afterimage/topology"
)

// Reasons why an object is not as it should be at the destination.
const (
	ReasonPatchFailed          = "PatchFailed" // the processor could not compute it
	ReasonNotOwned             = owned.ReasonNotOwned
	ReasonNotServed            = owned.ReasonNotServed
	ReasonNamespaceMissing     = owned.ReasonNamespaceMissing
	ReasonNamespaceTerminating = owned.ReasonNamespaceTerminating
	ReasonTerminating          = owned.ReasonTerminating
	ReasonMoved                = "Moved"    // waits to be taken over under another API version
	ReasonNotEmpty             = "NotEmpty" // a namespace or CRD others still use
	ReasonImmutable            = owned.ReasonImmutable
	ReasonInvalid              = owned.ReasonInvalid
	ReasonForbidden            = owned.ReasonForbidden
	ReasonConflict             = owned.ReasonConflict
	ReasonOverridden           = "Overridden" // repairs are undone by somebody
	ReasonTimeout              = owned.ReasonTimeout
	ReasonTooManyRequests      = owned.ReasonTooManyRequests
	ReasonServerError          = owned.ReasonServerError
)

// failed deals with an error of a request. It tells whether the attempt may go
// on (the trouble was the server's as a whole and is over), or else the result.
func (a *attempt) failed(ctx context.Context, turn int, err error) (again bool, r result) {
	if ctx.Err() != nil {
		return false, result{lost: true}
	}
	if kube.Unavailable(err) || owned.ServerError(err) {
		// The destination as a whole, or this object's own webhook? The fence tells.
		if a.s.fence.down(ctx) {
			if _, err := a.s.gate.wait(ctx, a.p.alive); err != nil {
				return false, result{lost: true}
			}
			return true, result{}
		}
		if !owned.ServerError(err) {
			return false, a.fail(ReasonTimeout, "no answer from the destination for this object", err)
		}
	}
	if apierrors.IsTooManyRequests(err) && turn < maxTurns-1 {
		delay, ok := kube.RetryAfter(err)
		if !ok || delay <= 0 {
			delay = time.Second
		}
		select {
		case <-time.After(min(delay, a.s.RetryMax)):
			return true, result{}
		case <-ctx.Done():
			return false, result{lost: true}
		}
	}
	reason, message := owned.Classify(err, a.w.key.Namespace)
	if reason == ReasonNotServed {
		a.s.resources.Forget(a.w.key.Group, a.w.key.Resource) // it was, when that was learned
	}
	return false, a.fail(reason, message, err)
}

// waits tells whether a reason is a normal wait and no fault of anybody's.
func waits(reason string) bool {
	switch reason {
	case ReasonNotServed, ReasonNamespaceMissing, ReasonNamespaceTerminating, ReasonTerminating, ReasonMoved:
		return true
	}
	return false
}

// sayFailure logs a failure once per change of its reason.
func (a *attempt) sayFailure(reason, message string, err error) {
	attrs := []slog.Attr{slog.String("reason", reason), slog.String("message", message)}
	switch reason {
	case ReasonNamespaceMissing:
		a.s.log(slog.LevelInfo, logging.NamespaceNotFound, a.w, "", "", attrs...)
		return
	case ReasonNotServed:
		a.s.log(slog.LevelInfo, logging.ResourceNotFound, a.w, "", "", attrs...)
		return
	}
	if waits(reason) {
		a.s.log(slog.LevelInfo, "waiting for object in cluster", a.w, "", "", attrs...)
		return
	}
	if a.w.op == topology.Hold {
		// No request failed; what could not be computed is the processor's error.
		a.s.log(slog.LevelWarn, "object is left as it is in cluster", a.w, a.e.DestinationUID, a.e.DestinationRV, attrs...)
		return
	}
	msg := logging.ErrUpdatingObject
	var op *opError
	switch {
	case errors.As(err, &op):
		msg = op.msg
	case !a.w.live():
		msg = logging.ErrDeletingObject
	case !a.known || a.e.Deleted:
		msg = logging.ErrCreatingObject
	}
	if err == nil {
		err = fmt.Errorf("%s: %s", reason, message)
	}
	a.s.log(slog.LevelError, msg, a.w, a.e.DestinationUID, a.e.DestinationRV, append(attrs, logging.Err(err))...)
}
