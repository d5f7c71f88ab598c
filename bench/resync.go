package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"

	"github.com/afterimage-dr/afterimage/internal/testcluster"
)

const (
	resyncObjects = 1000
	resyncPeriod  = 3 * time.Second
)

// resync counts the writes of comparisons that find nothing to do.
func (b *bench) resync(ctx context.Context) ([]row, error) {
	const ns = "bench-resync"
	if err := b.namespace(ctx, ns); err != nil {
		return nil, err
	}
	if err := b.fill(ctx, ns, 0, resyncObjects); err != nil {
		return nil, err
	}
	counter, err := newCounter(b.destination)
	if err != nil {
		return nil, err
	}
	defer counter.close()
	p, err := b.afterimage(ns, resyncPeriod.String(), counter.config())
	if err != nil {
		return nil, err
	}
	defer p.stop()
	if err := b.awaitCount(ctx, ns, resyncObjects, p); err != nil {
		return nil, err
	}
	time.Sleep(2 * resyncPeriod) // whatever the first convergence still has to do
	writes, lists := counter.writes.Load(), counter.lists.Load()
	if writes < resyncObjects {
		return nil, fmt.Errorf("only %d writes were counted for %d objects: the counter sees nothing", writes, resyncObjects)
	}
	time.Sleep(4 * resyncPeriod)
	writes, lists = counter.writes.Load()-writes, counter.lists.Load()-lists
	if lists == 0 {
		return nil, fmt.Errorf("the destination was not listed in %s: no resync ran", 4*resyncPeriod)
	}
	return []row{{fmt.Sprintf("writes of no-op resyncs in %s", 4*resyncPeriod), fmt.Sprint(writes), "0", "", fmt.Sprintf("%d lists", lists), "0"}}, b.equal(ctx, ns)
}

// counter is a plain-text proxy before the destination that counts requests.
type counter struct {
	server        *http.Server
	target        *testcluster.Cluster
	writes, lists atomic.Int64
}

func newCounter(c *testcluster.Cluster) (*counter, error) {
	n := &counter{target: c}
	addresses, release, err := testcluster.Ports(1)
	if err != nil {
		return nil, err
	}
	release()
	u, err := url.Parse(c.URL())
	if err != nil {
		return nil, err
	}
	transport, err := rest.TransportFor(c.RESTConfig())
	if err != nil {
		return nil, err
	}
	proxy := httputil.NewSingleHostReverseProxy(u)
	proxy.Transport = transport
	proxy.FlushInterval = -1
	n.server = &http.Server{Addr: addresses[0], ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodGet:
			if r.URL.Query().Has("labelSelector") {
				n.lists.Add(1)
			}
		default:
			n.writes.Add(1)
		}
		proxy.ServeHTTP(w, r)
	})}
	go func() { _ = n.server.ListenAndServe() }()
	return n, nil
}

func (n *counter) config() *rest.Config { return &rest.Config{Host: "http://" + n.server.Addr} }
func (n *counter) close()               { _ = n.server.Close() }
