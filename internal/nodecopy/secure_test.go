package nodecopy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/afterimage-dr/afterimage/internal/ensemble"
	"github.com/afterimage-dr/afterimage/internal/testcert"
	"github.com/afterimage-dr/afterimage/internal/testenv"
)

// Both sides over TLS, one of which asks for a certificate; a certificate of an
// unknown authority, on either side of a connection, is an error that says so.
func TestTLS(t *testing.T) {
	from := testenv.StartZooKeeper(t, testenv.WithZooKeeperTLS())
	to := testenv.StartZooKeeper(t, testenv.WithClientCertificates())
	e := newEnvOf(t, connect(t, []string{from.Addr()}, ""), connect(t, []string{to.Addr()}, ""))
	trust := func(ca []byte, pairs ...testcert.Pair) *tls.Config {
		c := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
		c.RootCAs.AppendCertsFromPEM(ca)
		for _, p := range pairs {
			pair, err := tls.X509KeyPair(p.Certificate, p.Key)
			must(t, err)
			c.Certificates = append(c.Certificates, pair)
		}
		return c
	}
	e.o.Source.Servers, e.o.Destination.Servers = []string{from.SecureAddr()}, []string{to.SecureAddr()}
	e.o.Source.TLS = trust(from.CA())
	e.o.Destination.TLS = trust(to.CA(), to.ClientPair("afterimage"))
	for _, p := range []string{"/test", "/test/a", "/test/a/b"} {
		e.source.put(p, "v")
	}
	e.copied()
	e.equal()
	e.o.Patience = 2 * time.Second
	for name, broken := range map[string]struct {
		change func(*Options)
		want   []string
	}{
		"another authority":       {func(o *Options) { o.Source.TLS = trust(to.CA()) }, []string{"source", "certificate signed by unknown authority"}},
		"no client certificate":   {func(o *Options) { o.Destination.TLS = trust(to.CA()) }, []string{"destination"}},
		"plain to the TLS port":   {func(o *Options) { o.Destination.TLS = nil }, []string{"destination"}},
		"TLS to the plain port":   {func(o *Options) { o.Source.Servers = []string{from.Addr()} }, []string{"source"}},
		"certificate not trusted": {func(o *Options) { o.Destination.TLS = trust(to.CA(), from.ClientPair("afterimage")) }, []string{"destination"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := e.copy(broken.change)
			var unreachable *ensemble.UnreachableError
			if !errors.As(err, &unreachable) {
				t.Fatalf("copy: %v", err)
			}
			for _, w := range broken.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("copy: %v, want it to say %q", err, w)
				}
			}
			if unreachable.Problem == "" {
				t.Errorf("copy: %v: it does not say why", err)
			}
			t.Log(err)
		})
	}
}
