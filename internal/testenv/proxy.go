package testenv

import "github.com/afterimage-dr/afterimage/internal/faultproxy"

// Proxy places an HTTP fault proxy before the API server; it ends with the test.
// Its RESTConfig reaches the cluster through it.
func (c *Cluster) Proxy(options ...faultproxy.HTTPOption) *faultproxy.HTTP {
	c.tb.Helper()
	return faultproxy.StartHTTP(c.tb, c.RESTConfig(), options...)
}
