package testenv

import (
	"k8s.io/client-go/rest"

	"github.com/afterimage-dr/afterimage/internal/faultproxy"
)

// Proxy places an HTTP fault proxy before the API server; it ends with the test.
// Its RESTConfig reaches the cluster through it.
func (c *Cluster) Proxy(options ...faultproxy.HTTPOption) *faultproxy.HTTP {
	c.tb.Helper()
	return faultproxy.StartHTTP(c.tb, c.RESTConfig(), options...)
}

// TCPProxy places a TCP fault proxy before the API server; it ends with the test.
// The configuration reaches the cluster through it, with TLS from end to end.
func (c *Cluster) TCPProxy() (*faultproxy.TCP, *rest.Config) {
	c.tb.Helper()
	p := faultproxy.StartTCP(c.tb, c.Addr())
	config := c.RESTConfig()
	config.Host = "https://" + p.Addr()
	return p, config
}
