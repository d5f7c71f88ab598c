package faultproxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"k8s.io/client-go/rest"

	"github.com/afterimage-dr/afterimage/internal/testcert"
)

// remembered is how many requests Requests can look back on.
const remembered = 200_000

// HTTP stands before one Kubernetes API server. It passes the client's
// credentials on as they come and causes the faults that its rules ask for.
//
// Bodies pass uncompressed and as JSON (Accept headers are narrowed), since
// faults must read them. Upgraded connections (exec, port-forward) do not pass.
type HTTP struct {
	server   *http.Server
	listener net.Listener
	caPEM    []byte // set when it serves TLS
	done     chan struct{}
	once     sync.Once

	mu       sync.Mutex
	target   *target
	rules    []*Active
	streams  map[*stream]struct{}
	requests []*Request
	conns    map[net.Conn]struct{}
}

// target is the API server behind the proxy.
type target struct {
	config    *rest.Config
	url       *url.URL
	transport *http.Transport
}

// HTTPOption changes how an HTTP proxy serves.
type HTTPOption func(*HTTP) (*tls.Config, error)

// WithTLS serves TLS under an authority of its own, which RESTConfig names.
// Clients then may speak HTTP/2. The default is plain HTTP.
func WithTLS() HTTPOption {
	return func(p *HTTP) (*tls.Config, error) {
		authority, err := testcert.NewAuthority("faultproxy")
		if err != nil {
			return nil, err
		}
		pair, err := authority.Serve()
		if err != nil {
			return nil, err
		}
		certificate, err := pair.TLS()
		if err != nil {
			return nil, err
		}
		p.caPEM = authority.PEM
		return &tls.Config{
			Certificates: []tls.Certificate{certificate},
			NextProtos:   []string{"h2", "http/1.1"},
			MinVersion:   tls.VersionTLS12,
		}, nil
	}
}

// NewHTTP starts a proxy on a loopback port before the API server that config
// reaches, which need not answer yet.
func NewHTTP(config *rest.Config, options ...HTTPOption) (*HTTP, error) {
	p := &HTTP{
		done:    make(chan struct{}),
		streams: map[*stream]struct{}{},
		conns:   map[net.Conn]struct{}{},
	}
	if err := p.SetTarget(config); err != nil {
		return nil, err
	}
	listener, err := listenOutsideEphemeral()
	if err != nil {
		return nil, err
	}
	p.listener = listener
	p.server = &http.Server{
		Handler:   p,
		ConnState: p.connState,
		// Aborted handlers are what this is for, not news.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	for _, option := range options {
		if p.server.TLSConfig, err = option(p); err != nil {
			return nil, errors.Join(err, listener.Close())
		}
	}
	go func() {
		if p.server.TLSConfig != nil {
			_ = p.server.ServeTLS(listener, "", "")
		} else {
			_ = p.server.Serve(listener)
		}
	}()
	return p, nil
}

// SetTarget has new requests go to another API server: the same address then
// leads to another cluster. Open watches stay where they are.
func (p *HTTP) SetTarget(config *rest.Config) error {
	u, err := url.Parse(config.Host)
	if err != nil || u.Host == "" {
		return fmt.Errorf("the target's address %q is no URL (%w)", config.Host, err)
	}
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		return fmt.Errorf("reading the target's TLS settings: %w", err)
	}
	transport := &http.Transport{
		TLSClientConfig:     tlsConfig,
		DisableCompression:  true,
		MaxIdleConnsPerHost: 256,
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.target != nil {
		p.target.transport.CloseIdleConnections()
	}
	p.target = &target{config: rest.CopyConfig(config), url: u, transport: transport}
	return nil
}

// URL is where the proxy listens.
func (p *HTTP) URL() string {
	if p.caPEM != nil {
		return "https://" + p.listener.Addr().String()
	}
	return "http://" + p.listener.Addr().String()
}

// RESTConfig reaches the target through the proxy, with the target's
// credentials (a client certificate is presented by the proxy itself).
func (p *HTTP) RESTConfig() *rest.Config {
	p.mu.Lock()
	defer p.mu.Unlock()
	config := rest.CopyConfig(p.target.config)
	config.Host = p.URL()
	config.TLSClientConfig = rest.TLSClientConfig{CAData: p.caPEM}
	return config
}

// Close ends the proxy and every connection.
func (p *HTTP) Close() error {
	p.once.Do(func() { close(p.done) })
	err := p.server.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target.transport.CloseIdleConnections()
	return err
}

// Cut breaks all open connections at once. New ones are taken.
func (p *HTTP) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		// Closed under the server's feet, and with RST: that is the fault.
		if wrapped, ok := c.(*tls.Conn); ok {
			c = wrapped.NetConn()
		}
		if connection, ok := c.(*net.TCPConn); ok {
			_ = connection.SetLinger(0)
		}
		_ = c.Close()
	}
}

func (p *HTTP) connState(c net.Conn, state http.ConnState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch state {
	case http.StateNew:
		p.conns[c] = struct{}{}
	case http.StateClosed, http.StateHijacked:
		delete(p.conns, c)
	}
}

// Requests are those seen so far that match, oldest first (the last 200,000 are
// remembered).
func (p *HTTP) Requests(m Match) []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []Request
	for _, r := range p.requests {
		if m.request(r, false) {
			found = append(found, *r)
		}
	}
	return found
}

// Count is how many requests matched so far.
func (p *HTTP) Count(m Match) int { return len(p.Requests(m)) }

// Forget forgets the requests seen so far.
func (p *HTTP) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = nil
}

func (p *HTTP) note(r *Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.requests) >= remembered {
		p.requests = append(p.requests[:0], p.requests[remembered/2:]...)
	}
	p.requests = append(p.requests, r)
}

// ServeHTTP passes one request on, with its faults.
func (p *HTTP) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The body is read first: only then does the server notice that a client
	// has gone while its request hangs.
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	x := &exchange{proxy: p, writer: w, incoming: r, body: body, Request: parse(r)}
	p.note(x.Request)
	faults := p.requestFaults(x.Request)
	for _, fault := range faults {
		if fault.before(x) {
			return
		}
	}
	response, err := x.forward()
	if err != nil {
		if r.Context().Err() == nil {
			// An API server that is down refuses connections; so does its proxy.
			panic(http.ErrAbortHandler)
		}
		return
	}
	defer func() { _ = response.Body.Close() }()
	for _, fault := range faults {
		if fault.after(x, response) {
			return
		}
	}
	x.pass(response)
}

// exchange is one request on its way.
type exchange struct {
	*Request
	proxy    *HTTP
	writer   http.ResponseWriter
	incoming *http.Request
	body     []byte
}

// forward sends the request on as it came, but for what faults cannot read.
func (x *exchange) forward() (*http.Response, error) {
	x.proxy.mu.Lock()
	target := x.proxy.target
	x.proxy.mu.Unlock()
	return target.send(x.incoming.Context(), x.incoming, x.body)
}

func (t *target) send(ctx context.Context, incoming *http.Request, body []byte) (*http.Response, error) {
	outgoing := incoming.Clone(ctx)
	outgoing.RequestURI = ""
	outgoing.URL.Scheme, outgoing.URL.Host = t.url.Scheme, t.url.Host
	outgoing.URL.Path = strings.TrimSuffix(t.url.Path, "/") + incoming.URL.Path
	outgoing.Host = t.url.Host
	outgoing.Body, outgoing.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	if len(body) == 0 {
		outgoing.Body = http.NoBody
	}
	outgoing.Header.Del("Connection")
	// Without this header the answer is not compressed.
	outgoing.Header.Del("Accept-Encoding")
	outgoing.Header.Set("Accept", acceptJSON(incoming.Header.Get("Accept")))
	return t.transport.RoundTrip(outgoing)
}

// acceptJSON leaves only the JSON forms of what a client accepts.
func acceptJSON(accept string) string {
	var kept []string
	for part := range strings.SplitSeq(accept, ",") {
		if strings.Contains(part, "json") {
			kept = append(kept, strings.TrimSpace(part))
		}
	}
	if len(kept) == 0 {
		return "application/json"
	}
	return strings.Join(kept, ",")
}

// setStatus notes what the client is sent.
func (x *exchange) setStatus(status int) {
	x.proxy.mu.Lock()
	defer x.proxy.mu.Unlock()
	x.Status = status
}

// start sends the head of a response.
func (x *exchange) start(status int, header http.Header) {
	for name, values := range header {
		switch name {
		case "Connection", "Transfer-Encoding":
		default:
			x.writer.Header()[name] = values
		}
	}
	x.setStatus(status)
	x.writer.WriteHeader(status)
}

// pass sends the response on, watches by event and everything else by bytes.
func (x *exchange) pass(response *http.Response) {
	x.start(response.StatusCode, response.Header)
	if x.Verb == "watch" && response.StatusCode == http.StatusOK {
		x.flush()
		x.passEvents(response.Body)
		return
	}
	x.copyBody(response.Body, -1)
}

// copyBody sends the body on, or its first limit bytes, as it comes. A body that
// breaks off upstream breaks off here.
func (x *exchange) copyBody(body io.Reader, limit int64) {
	if limit >= 0 {
		body = io.LimitReader(body, limit)
	}
	buffer := make([]byte, 32<<10)
	for {
		n, err := body.Read(buffer)
		if n > 0 {
			if _, err := x.writer.Write(buffer[:n]); err != nil {
				return
			}
			x.flush()
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}

func (x *exchange) flush() { _ = http.NewResponseController(x.writer).Flush() }

// hang waits until the client has gone or the proxy ends.
func (x *exchange) hang() {
	select {
	case <-x.incoming.Context().Done():
	case <-x.proxy.done:
	}
	panic(http.ErrAbortHandler)
}
