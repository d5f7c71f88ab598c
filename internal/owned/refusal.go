package owned

import (
	"errors"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/afterimage-dr/afterimage/internal/kube"
)

// Reasons why an object cannot be written.
const (
	ReasonNotOwned             = "NotOwned"             // somebody else's object has the name
	ReasonNotServed            = "NotServed"            // the destination does not serve the resource
	ReasonNamespaceMissing     = "NamespaceMissing"     // waits for its namespace
	ReasonNamespaceTerminating = "NamespaceTerminating" // waits for its namespace to be gone
	ReasonTerminating          = "Terminating"          // waits for the object to be gone
	ReasonImmutable            = "Immutable"            // a field must not change
	ReasonInvalid              = "Invalid"              // refused by validation
	ReasonForbidden            = "Forbidden"            // refused by permission, quota or admission
	ReasonConflict             = "Conflict"             // changes faster than it can be written
	ReasonTimeout              = "Timeout"              // no answer for this object
	ReasonTooManyRequests      = "TooManyRequests"      // the server asks for patience
	ReasonServerError          = "ServerError"          // any other answer
)

// ServerError tells whether the server answered that it failed.
func ServerError(err error) bool {
	var s apierrors.APIStatus
	return errors.As(err, &s) && s.Status().Code >= 500
}

// Classify names the reason of a refusal.
func Classify(err error, namespace string) (reason, message string) {
	switch {
	case NamespaceMissing(err):
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

// NamespaceMissing tells whether a write was refused because its namespace is not there.
func NamespaceMissing(err error) bool {
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

// Immutable tells whether a write was refused because of immutable fields, and which.
func Immutable(err error) (fields string, ok bool) {
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

// Transient tells whether trying again may help: the server was not reached, or
// it failed, or asks for patience.
func Transient(err error) bool {
	return kube.Unavailable(err) && !apierrors.IsUnauthorized(err) || ServerError(err) || apierrors.IsTooManyRequests(err) || apierrors.IsTimeout(err)
}
