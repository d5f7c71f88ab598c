package faultproxy

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Fault is what a rule does; the functions of this package make them. Some are
// about requests (a watch is one request), some about the events of watches.
type Fault interface{ isFault() }

// requestFault acts before a request goes upstream, or on its response; true
// means that it has answered.
type requestFault interface {
	Fault
	before(x *exchange) bool
	after(x *exchange, response *http.Response) bool
}

// passive is the part of a fault that does nothing.
type passive struct{}

func (passive) isFault()                             {}
func (passive) before(*exchange) bool                { return false }
func (passive) after(*exchange, *http.Response) bool { return false }

type statusFault struct {
	passive
	code       int
	message    string
	retryAfter time.Duration
}

// Status answers with an HTTP error status and a Status object with the reason
// that API servers give with it. The request does not reach the API server.
func Status(code int, message string) Fault { return statusFault{code: code, message: message} }

// Forbid answers 403, as to a client that lacks the permission.
func Forbid() Fault { return Status(http.StatusForbidden, "forbidden by the fault proxy") }

// Gone answers 410 Expired, as to a resource version or continue token that has
// been compacted away.
func Gone() Fault { return Status(http.StatusGone, "too old resource version") }

// TooManyRequests answers 429 with Retry-After in whole seconds, as API Priority
// and Fairness does.
func TooManyRequests(retryAfter time.Duration) Fault {
	return statusFault{code: http.StatusTooManyRequests, message: "the server has received too many requests", retryAfter: retryAfter}
}

func (f statusFault) before(x *exchange) bool {
	x.answer(f.code, f.message, f.retryAfter)
	return true
}

// answer sends a Status object.
func (x *exchange) answer(code int, message string, retryAfter time.Duration) {
	status := statusOf(code, message)
	header := http.Header{"Content-Type": {"application/json"}}
	if retryAfter > 0 {
		seconds := max(1, int(retryAfter/time.Second))
		header.Set("Retry-After", strconv.Itoa(seconds))
		status.Details = &metav1.StatusDetails{RetryAfterSeconds: int32(seconds)}
	}
	body, err := json.Marshal(status)
	if err != nil {
		panic(err) // a Status always encodes
	}
	x.start(code, header)
	_, _ = x.writer.Write(body)
}

func statusOf(code int, message string) *metav1.Status {
	reasons := map[int]metav1.StatusReason{
		http.StatusBadRequest:          metav1.StatusReasonBadRequest,
		http.StatusUnauthorized:        metav1.StatusReasonUnauthorized,
		http.StatusForbidden:           metav1.StatusReasonForbidden,
		http.StatusNotFound:            metav1.StatusReasonNotFound,
		http.StatusConflict:            metav1.StatusReasonConflict,
		http.StatusGone:                metav1.StatusReasonExpired,
		http.StatusUnprocessableEntity: metav1.StatusReasonInvalid,
		http.StatusTooManyRequests:     metav1.StatusReasonTooManyRequests,
		http.StatusInternalServerError: metav1.StatusReasonInternalError,
		http.StatusServiceUnavailable:  metav1.StatusReasonServiceUnavailable,
		http.StatusGatewayTimeout:      metav1.StatusReasonTimeout,
	}
	return &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Message: message, Reason: reasons[code], Code: int32(code),
	}
}

type hangFault struct{ passive }

// Hang never answers and ends nothing. The request does not reach the API server
// and is dead for good, even when the rule is removed.
func Hang() Fault { return hangFault{} }

func (hangFault) before(x *exchange) bool {
	x.hang()
	return true
}

type delayFault struct {
	passive
	delay time.Duration
}

// Delay holds the request back before it is passed on.
func Delay(d time.Duration) Fault { return delayFault{delay: d} }

func (f delayFault) before(x *exchange) bool {
	x.sleep(f.delay)
	return false
}

// sleep waits, and ends the exchange if the client goes meanwhile.
func (x *exchange) sleep(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-x.incoming.Context().Done():
		panic(http.ErrAbortHandler)
	case <-x.proxy.done:
		panic(http.ErrAbortHandler)
	}
}

type abortFault struct{ passive }

// Abort breaks the connection instead of passing the request on.
func Abort() Fault { return abortFault{} }

func (abortFault) before(*exchange) bool { panic(http.ErrAbortHandler) }

type abortBodyFault struct {
	passive
	n int64
}

// AbortBody passes the first n bytes of the response's body and then breaks the
// connection.
func AbortBody(n int64) Fault { return abortBodyFault{n: n} }

func (f abortBodyFault) after(x *exchange, response *http.Response) bool {
	x.start(response.StatusCode, response.Header)
	x.flush()
	x.copyBody(response.Body, f.n)
	panic(http.ErrAbortHandler)
}

type loseFault struct {
	passive
	code int
}

// LoseResponse lets the API server carry the request out and then breaks the
// connection: the client cannot know the outcome.
func LoseResponse() Fault { return loseFault{} }

// LoseResponseAs lets the API server carry the request out and then answers with
// an error status, as a gateway that timed out does (504).
func LoseResponseAs(code int) Fault { return loseFault{code: code} }

func (f loseFault) after(x *exchange, response *http.Response) bool {
	// Read to its end, so that the request has certainly been carried out.
	_, _ = io.Copy(io.Discard, response.Body)
	if f.code == 0 {
		panic(http.ErrAbortHandler)
	}
	x.answer(f.code, "the response was lost", 0)
	return true
}

type partialListFault struct {
	passive
	keep int
}

// EmptyList answers LISTs with no items at the right resource version, as a
// server that lost its data does.
func EmptyList() Fault { return partialListFault{} }

// PartialList answers LISTs with at most so many items, and claims that these
// are all.
func PartialList(keep int) Fault { return partialListFault{keep: keep} }

func (f partialListFault) after(x *exchange, response *http.Response) bool {
	if x.Verb != "list" || response.StatusCode != http.StatusOK {
		return false
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	body, err = truncateList(body, f.keep)
	if err != nil {
		panic("faultproxy: the API server's list cannot be read: " + err.Error())
	}
	response.Header.Del("Content-Length")
	x.start(response.StatusCode, response.Header)
	x.copyBody(bytes.NewReader(body), -1)
	return true
}

func truncateList(body []byte, keep int) ([]byte, error) {
	var list map[string]json.RawMessage
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, err
	}
	var items []json.RawMessage
	if err := json.Unmarshal(list["items"], &items); err != nil {
		return nil, err
	}
	var metadata map[string]json.RawMessage
	if err := json.Unmarshal(list["metadata"], &metadata); err != nil {
		return nil, err
	}
	delete(metadata, "continue")
	delete(metadata, "remainingItemCount")
	var err error
	if list["metadata"], err = json.Marshal(metadata); err != nil {
		return nil, err
	}
	// Never null: API servers send an empty list as [].
	if list["items"], err = json.Marshal(append([]json.RawMessage{}, items[:min(keep, len(items))]...)); err != nil {
		return nil, err
	}
	return json.Marshal(list)
}
