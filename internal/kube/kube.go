// Package kube is what Afterimage needs of a Kubernetes API server: pages,
// watches and single objects as bytes, and preconditioned writes.
//
// It caches nothing, retries nothing and logs nothing: every method is one
// request (but [Client.ClusterUID] and [Client.Resolve], also one), every error
// is the caller's to judge. An error answer of the server is an
// *apierrors.StatusError, so that apierrors.IsNotFound, IsConflict,
// IsResourceExpired and the like work; everything that kept an answer from
// coming makes [Unavailable] true. Bodies are JSON both ways and are never
// decoded beyond what a method promises.
package kube

import (
	"fmt"
	"net/http"
	"net/url"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"
)

// DefaultTimeout of a request that is not a watch, from its first byte sent to
// the last byte of the answer.
const DefaultTimeout = 30 * time.Second

// userAgent unless the configuration names one.
const userAgent = "afterimage"

// Transport lets tests put a fault before the server (see [WithTransport]).
type Transport = http.RoundTripper

// Client reaches one cluster. Safe for concurrent use.
type Client struct {
	base      *url.URL
	transport http.RoundTripper
	limiter   flowcontrol.RateLimiter // nil: no limit
	agent     string
	timeout   time.Duration
	metadata  bool
	dryRun    bool
}

// Option changes how a client talks.
type Option func(*options)

type options struct {
	timeout time.Duration
	wrap    func(http.RoundTripper) http.RoundTripper
	http2   bool
}

// WithTimeout sets the time a request may take; see [DefaultTimeout].
func WithTimeout(d time.Duration) Option { return func(o *options) { o.timeout = d } }

// WithTransport wraps the client's transport: requests pass through what wrap
// returns, before credentials are added.
func WithTransport(wrap func(http.RoundTripper) http.RoundTripper) Option {
	return func(o *options) { o.wrap = wrap }
}

// WithHTTP2 sends all requests over one HTTP/2 connection instead of one
// HTTP/1.1 connection each. The default is HTTP/1.1 because a connection that
// hangs then takes one request with it and not all, and because it is faster.
func WithHTTP2() Option { return func(o *options) { o.http2 = true } }

// New makes a client; it does not connect yet. Protobuf is not used: bodies are
// JSON all the way. A QPS of -1, or none, leaves pacing to API Priority and
// Fairness. The configuration's Timeout, if any, replaces [DefaultTimeout].
func New(cfg *rest.Config, opts ...Option) (*Client, error) {
	o := options{timeout: DefaultTimeout}
	if cfg.Timeout > 0 {
		o.timeout = cfg.Timeout
	}
	for _, opt := range opts {
		opt(&o)
	}
	base, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("address of the API server: %w", err)
	}
	transport, err := newTransport(cfg, base, o.http2)
	if err != nil {
		return nil, fmt.Errorf("transport to %s: %w", base.Redacted(), err)
	}
	if o.wrap != nil {
		transport = o.wrap(transport)
	}
	c := &Client{base: base, transport: transport, limiter: limiterOf(cfg), agent: cfg.UserAgent, timeout: o.timeout}
	if c.agent == "" {
		c.agent = userAgent
	}
	return c, nil
}

// WithTimeout returns a client that shares everything with c but the timeout.
func (c *Client) WithTimeout(d time.Duration) *Client {
	d2 := *c
	d2.timeout = d
	return &d2
}

// Metadata returns a client that shares everything with c, but whose answers
// (of reads, watches and writes alike) are PartialObjectMetadata: apiVersion,
// kind and metadata (managedFields included) only, which spares both sides the
// bodies. A server that cannot do that answers in full.
func (c *Client) Metadata() *Client {
	d := *c
	d.metadata = true
	return &d
}

// DryRun returns a client that shares everything with c, but whose writes are
// checked by the server in full (admission and validation included) and not
// persisted.
func (c *Client) DryRun() *Client {
	d := *c
	d.dryRun = true
	return &d
}

// Host is the address of the API server, without credentials.
func (c *Client) Host() string { return c.base.Redacted() }

func limiterOf(cfg *rest.Config) flowcontrol.RateLimiter {
	switch {
	case cfg.RateLimiter != nil:
		return cfg.RateLimiter
	case cfg.QPS > 0:
		return flowcontrol.NewTokenBucketRateLimiter(cfg.QPS, max(cfg.Burst, int(cfg.QPS), 1))
	}
	return nil
}
