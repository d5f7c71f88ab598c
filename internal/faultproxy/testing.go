package faultproxy

import (
	"testing"

	"k8s.io/client-go/rest"
)

// StartTCP starts a TCP proxy that ends with the test.
func StartTCP(tb testing.TB, upstream string) *TCP {
	tb.Helper()
	p, err := NewTCP(upstream)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := p.Close(); err != nil {
			tb.Errorf("closing the fault proxy: %v", err)
		}
	})
	return p
}

// StartHTTP starts an HTTP proxy that ends with the test.
func StartHTTP(tb testing.TB, target *rest.Config, options ...HTTPOption) *HTTP {
	tb.Helper()
	p, err := NewHTTP(target, options...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := p.Close(); err != nil {
			tb.Errorf("closing the fault proxy: %v", err)
		}
	})
	return p
}
