package faultproxy

import "testing"

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
