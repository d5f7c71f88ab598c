package synchronizer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/topology"
)

// Reasons why an object is not as it should be at the destination.
const (
	ReasonPatchFailed          = "PatchFailed"          // the processor could not compute it
	ReasonNotOwned             = "NotOwned"             // somebody else's object has the name
	ReasonNotServed            = "NotServed"            // the destination does not serve the resource
	ReasonNamespaceMissing     = "NamespaceMissing"     // waits for its namespace
	ReasonNamespaceTerminating = "NamespaceTerminating" // waits for its namespace to be gone
	ReasonTerminating          = "Terminating"          // waits for the object to be gone
	ReasonMoved                = "Moved"                // waits to be taken over under another API version
	ReasonNotEmpty             = "NotEmpty"             // a namespace or CRD others still use
	ReasonImmutable            = "Immutable"            // a field must not change
	ReasonInvalid              = "Invalid"              // refused by validation
	ReasonForbidden            = "Forbidden"            // refused by permission, quota or admission
	ReasonConflict             = "Conflict"             // changes faster than it can be written
	ReasonOverridden           = "Overridden"           // repairs are undone by somebody
	ReasonTimeout              = "Timeout"              // no answer for this object
	ReasonTooManyRequests      = "TooManyRequests"      // the server asks for patience
	ReasonServerError          = "ServerError"          // any other answer
)

// failed deals with an error of a request. It tells whether the attempt may go
// on (the trouble was the server's as a whole and is over), or else the result.
func (a *attempt) failed(ctx context.Context, turn int, err error) (again bool, r result) {
	if ctx.Err() != nil {
		return false, result{lost: true}
	}
	if kube.Unavailable(err) || serverError(err) {
		// The destination as a whole, or this object's own webhook? The fence tells.
		if a.s.fence.down(ctx) {
			if _, err := a.s.gate.wait(ctx, a.p.alive); err != nil {
				return false, result{lost: true}
			}
			return true, result{}
		}
		if !serverError(err) {
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
	reason, message := classify(err, a.w.key.Namespace)
	if reason == ReasonNotServed {
		a.s.resources.forget(a.w.key.Group, a.w.key.Resource) // it was, when that was learned
	}
	return false, a.fail(reason, message, err)
}

// serverError tells whether the server answered that it failed.
func serverError(err error) bool {
	var s apierrors.APIStatus
	return errors.As(err, &s) && s.Status().Code >= 500
}

// classify names the reason of a refusal.
func classify(err error, namespace string) (reason, message string) {
	switch {
	case namespaceMissing(err):
		return ReasonNamespaceMissing, "waits for namespace " + namespace
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return ReasonNamespaceTerminating, "waits for namespace " + namespace + " to be gone and to come again"
	case apierrors.IsNotFound(err), errors.Is(err, kube.ErrNotServed):
		return ReasonNotServed, err.Error()
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsRequestEntityTooLargeError(err):
		return ReasonInvalid, err.Error()
	case apierrors.IsForbidden(err):
		return ReasonForbidden, err.Error()
	case apierrors.IsTooManyRequests(err):
		return ReasonTooManyRequests, err.Error()
	case apierrors.IsTimeout(err), apierrors.IsServerTimeout(err):
		return ReasonTimeout, err.Error()
	}
	return ReasonServerError, err.Error()
}

// namespaceMissing tells whether a write was refused because its namespace is not there.
func namespaceMissing(err error) bool {
	var s apierrors.APIStatus
	if !apierrors.IsNotFound(err) || !errors.As(err, &s) {
		return false
	}
	d := s.Status().Details
	return d != nil && d.Kind == "namespaces" && d.Group == ""
}

// immutablePattern is how Kubernetes' validation words a change that is not
// allowed. (Source: k8s.io/kubernetes/pkg/apis/*/validation.)
var immutablePattern = regexp.MustCompile(`(?i)immutable|may not (be )?chang|can ?not (be )?(chang|updat|modif)|updates? to .*(is|are) forbidden|updates may not change|is not allowed to (be )?chang`)

// immutable tells whether a write was refused because of immutable fields, and which.
func immutable(err error) (fields string, ok bool) {
	var s apierrors.APIStatus
	if !errors.As(err, &s) || s.Status().Code != 422 {
		return "", false
	}
	var names []string
	if d := s.Status().Details; d != nil {
		for _, c := range d.Causes {
			if immutablePattern.MatchString(c.Message) {
				names = append(names, c.Field)
			}
		}
	}
	if len(names) == 0 {
		if !immutablePattern.MatchString(err.Error()) {
			return "", false
		}
		return "an immutable field", true
	}
	return strings.Join(names, ", "), true
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
