package kube

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
)

// idleConnections kept per server: as many as the most workers and watches one
// process has, since each needs its own (client-go keeps 25, and the 26th
// worker would pay for a TLS handshake each time).
const idleConnections = 256

// newTransport is client-go's with its credentials, client certificates and
// their rotation, on a connection pool of our own.
func newTransport(cfg *rest.Config, base *url.URL, http2 bool) (http.RoundTripper, error) {
	if cfg.Transport != nil {
		return rest.TransportFor(cfg)
	}
	tc, err := cfg.TransportConfig()
	if err != nil {
		return nil, err
	}
	tlsConfig, err := transport.TLSConfigFor(tc)
	if err != nil {
		return nil, err
	}
	if tlsConfig == nil && base.Scheme == "https" {
		tlsConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		TLSClientConfig:       tlsConfig,
		TLSHandshakeTimeout:   10 * time.Second,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		MaxIdleConnsPerHost:   idleConnections,
		IdleConnTimeout:       90 * time.Second,
		ForceAttemptHTTP2:     http2,
		DisableCompression:    cfg.DisableCompression || loopback(base.Hostname()),
		ReadBufferSize:        32 << 10,
		WriteBufferSize:       16 << 10,
		ExpectContinueTimeout: time.Second,
	}
	if tc.Proxy != nil {
		t.Proxy = tc.Proxy
	}
	if tc.DialHolder != nil {
		t.DialContext = tc.DialHolder.Dial
	}
	if !http2 {
		t.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
		if tlsConfig != nil {
			tlsConfig.NextProtos = []string{"http/1.1"}
		}
	} else if tlsConfig != nil {
		tlsConfig.NextProtos = []string{"h2", "http/1.1"}
	}
	return transport.HTTPWrappersForConfig(tc, t)
}

// loopback tells whether the server is on this machine, where compressing a
// listing costs more than sending it.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
