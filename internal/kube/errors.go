package kube

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// ErrNotServed: the cluster does not serve the resource (yet).
var ErrNotServed = errors.New("the cluster does not serve this resource")

// transportError is everything that kept an answer from coming.
type transportError struct {
	what string
	err  error
}

func (e *transportError) Error() string { return e.what + ": " + e.err.Error() }
func (e *transportError) Unwrap() error { return e.err }

// errTimeout is the cause of a request that took longer than the client's timeout.
var errTimeout = errors.New("no complete answer within the timeout")

// RetryAfter is what the server asked for, if anything.
func RetryAfter(err error) (time.Duration, bool) {
	seconds, ok := apierrors.SuggestsClientDelay(err)
	return time.Duration(seconds) * time.Second, ok
}

// Unavailable tells whether an error is about the server as a whole and not
// about one object: no connection, TLS, a timeout, an answer cut short, 401, or
// an answer that no API server gave (a load balancer's 502). The end of the
// caller's own context is not. A timeout may also be one object's admission
// webhook: who must know reads something else from the server.
func Unavailable(err error) bool {
	var transport *transportError
	if errors.As(err, &transport) {
		return true
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return false
	}
	if apierrors.IsUnauthorized(err) {
		return true
	}
	return status.Status().Code >= 500 && apierrors.IsUnexpectedServerError(err)
}

// maxErrorBody is how much of an error answer is read.
const maxErrorBody = 1 << 20

// errorOf makes the error of an answer that is none of the 2xx.
func errorOf(resp *http.Response, verb string, gr schema.GroupResource, name string) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if err != nil {
		return err
	}
	retryAfter := 0
	if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && n > 0 {
		retryAfter = n
	}
	if se := statusOf(body); se != nil {
		if se.ErrStatus.Code == 0 {
			se.ErrStatus.Code = int32(resp.StatusCode)
		}
		if retryAfter > 0 {
			if se.ErrStatus.Details == nil {
				se.ErrStatus.Details = &metav1.StatusDetails{}
			}
			if se.ErrStatus.Details.RetryAfterSeconds == 0 {
				se.ErrStatus.Details.RetryAfterSeconds = int32(retryAfter)
			}
		}
		return se
	}
	const excerpt = 256 // enough to recognise a proxy's page
	return apierrors.NewGenericServerResponse(resp.StatusCode, verb, gr, name, string(body[:min(len(body), excerpt)]), retryAfter, true)
}

// statusOf decodes a Status; nil if it is none, or of a success.
func statusOf(body []byte) *apierrors.StatusError {
	var s metav1.Status
	if err := json.Unmarshal(body, &s); err != nil || s.Kind != "Status" || s.Status == metav1.StatusSuccess {
		return nil
	}
	return &apierrors.StatusError{ErrStatus: s}
}

func unexpected(what string, err error) error {
	return &transportError{what: "unexpected answer", err: fmt.Errorf("%s: %w", what, err)}
}

// isAnswer tells whether the server answered with this error.
func isAnswer(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status)
}
