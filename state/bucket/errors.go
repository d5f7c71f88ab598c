package bucket

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// The words of [Reason].
const (
	Unreachable  = "Unreachable"
	TLSFailed    = "TLSFailed"
	Unauthorized = "Unauthorized"
	Forbidden    = "Forbidden"
	NoSuchBucket = "NoSuchBucket"
	WrongRegion  = "WrongRegion"
	SlowDown     = "SlowDown"
	Failing      = "Failing"
)

// Error is a request to the bucket that failed. Its text names the bucket, the
// endpoint and what to do, and holds no secret.
type Error struct {
	// Reason is one of the words above.
	Reason string
	text   string
	cause  error
}

// Error says what failed, where, and what to do.
func (e *Error) Error() string { return e.text }

// Unwrap returns the cause. Its own text may hold more than is fit to be shown.
func (e *Error) Unwrap() error { return e.cause }

// Reason names an error in one word: Unreachable, TLSFailed, Unauthorized,
// Forbidden, NoSuchBucket, WrongRegion, SlowDown, or Failing.
func Reason(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return Failing
}

// codes of S3 and its like, by what they mean for a user. XAdminUserNotFound is
// how versitygw names an unknown accessKeyID.
var codes = map[string][]string{
	Unauthorized: {"SignatureDoesNotMatch", "InvalidAccessKeyId", "InvalidSecurity", "InvalidToken", "ExpiredToken", "TokenRefreshRequired", "AuthFailure", "RequestTimeTooSkewed", "RequestExpired", "NotSignedUp", "Unauthorized", "UnrecognizedClientException", "XAdminUserNotFound"},
	Forbidden:    {"AccessDenied", "AllAccessDisabled", "AccountProblem", "Forbidden", "InvalidPayer", "MethodNotAllowed"},
	NoSuchBucket: {"NoSuchBucket"},
	WrongRegion:  {"PermanentRedirect", "TemporaryRedirect", "Redirect", "MovedPermanently", "IllegalLocationConstraintException", "InvalidRegionName", "InvalidRegion"},
	SlowDown:     {"SlowDown", "SlowDownRead", "SlowDownWrite", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests", "ServiceUnavailable", "Busy"},
}

var advice = map[string]string{
	Unreachable:  "the server cannot be reached",
	TLSFailed:    "no trusted TLS connection: check useSSL and the CA of the bucket",
	Unauthorized: "the credentials are not accepted: check accessKeyID, secretAccessKey and the clock",
	Forbidden:    "the credentials do not allow this: they must be allowed to list, read, write and delete objects",
	NoSuchBucket: "the bucket does not exist, and is not created by Afterimage",
	WrongRegion:  "the region is wrong: set the region of the bucket",
	SlowDown:     "the server asks for patience",
	Failing:      "the request failed",
}

// answer is what a server said, as far as it said anything.
type answer struct {
	status        int
	code, message string
	header        http.Header
}

func answerIn(err error) answer {
	var a answer
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) && response.Response != nil && response.Response.Response != nil {
		a.status, a.header = response.Response.StatusCode, response.Response.Header
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		a.code, a.message = api.ErrorCode(), api.ErrorMessage()
	}
	return a
}

// is tells whether the server answered with a status or a code.
func (a answer) is(status int, code ...string) bool {
	return a.status == status || a.code != "" && slices.Contains(code, a.code)
}

func classify(err error) string {
	a := answerIn(err)
	if a.code == "AuthorizationHeaderMalformed" || a.code == "AuthorizationQueryParametersError" {
		// Said of a wrong region as of a key that is no key.
		if strings.Contains(a.message, "region") {
			return WrongRegion
		}
		return Unauthorized
	}
	for reason, list := range codes {
		if slices.Contains(list, a.code) {
			return reason
		}
	}
	switch a.status {
	case 0:
		return classifyTransport(err)
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return WrongRegion
	case http.StatusUnauthorized:
		return Unauthorized
	case http.StatusForbidden:
		return Forbidden
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return SlowDown
	default:
		return Failing
	}
}

// classifyTransport is for what no server answered to.
func classifyTransport(err error) string {
	var (
		verification *tls.CertificateVerificationError
		unknown      x509.UnknownAuthorityError
		hostname     x509.HostnameError
		record       tls.RecordHeaderError
		alert        tls.AlertError
		send         *smithyhttp.RequestSendError
	)
	switch {
	case errors.As(err, &verification), errors.As(err, &unknown), errors.As(err, &hostname), errors.As(err, &record), errors.As(err, &alert),
		strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return TLSFailed
	case errors.As(err, &send), errors.Is(err, context.DeadlineExceeded), errors.Is(err, errBroken):
		return Unreachable
	default:
		return Failing
	}
}

// errBroken: the connection broke within an answer.
var errBroken = errors.New("the answer broke off")

// fail describes an error for a user. op is what was being done: "listing".
func (b *Bucket) fail(op string, err error) *Error {
	reason := classify(err)
	a := answerIn(err)
	var cause string
	switch {
	case a.code != "":
		cause = a.code
		if a.message != "" {
			cause += ": " + a.message
		}
	case a.status != 0:
		cause = http.StatusText(a.status)
	default:
		cause = transportText(err)
	}
	what := advice[reason]
	if reason == WrongRegion {
		what += ", which is not " + b.options.Region
		if region := a.header.Get("X-Amz-Bucket-Region"); region != "" {
			what += " but " + region
		}
	}
	text := b.String() + ": " + op + ": " + what
	if cause != "" {
		text += " (" + cause + ")"
	}
	return &Error{Reason: reason, text: b.redact(text), cause: err}
}

// transportText is the innermost error that still says what was dialled, without
// the URL of the request.
func transportText(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	return err.Error()
}

// String names the bucket and where it is.
func (b *Bucket) String() string {
	scheme := "http://"
	if b.options.UseSSL {
		scheme = "https://"
	}
	return "bucket " + b.options.Name + " at " + scheme + b.options.Endpoint
}

// redact takes the credentials out: a server may quote them.
func (b *Bucket) redact(text string) string {
	for _, secret := range []string{b.options.SecretAccessKey, b.options.AccessKeyID} {
		// Shorter ones are words of the text, and no secret worth the name.
		if len(secret) >= 4 {
			text = strings.ReplaceAll(text, secret, "<redacted>")
		}
	}
	return text
}
