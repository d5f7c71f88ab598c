package ensemble

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/afterimage-dr/afterimage/internal/testenv"
)

func trust(ca []byte) *tls.Config {
	c := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	c.RootCAs.AppendCertsFromPEM(ca)
	return c
}

// Certificates are held against the name of the server, not its address.
func TestNamesInCertificates(t *testing.T) {
	server := testenv.StartZooKeeper(t, testenv.WithZooKeeperTLS())
	_, port, err := net.SplitHostPort(server.SecureAddr())
	must(t, err)
	config := trust(server.CA())
	var other atomic.Bool
	config.VerifyConnection = func(s tls.ConnectionState) error {
		if s.ServerName != "localhost" {
			other.Store(true)
		}
		return nil
	}
	c := dial(t, Options{Servers: []string{"localhost:" + port}, TLS: config})
	walk(t, c, "/zookeeper", ReadOptions{})
	if other.Load() {
		t.Error("it is held against another name than the one that was given")
	}
}

// A name that does not resolve is one server less.
func TestNameThatDoesNotResolve(t *testing.T) {
	server := testenv.StartZooKeeper(t)
	c := dial(t, Options{Servers: []string{"nowhere.invalid:2181", server.Addr()}})
	if _, found, err := c.Exists("/zookeeper"); err != nil || !found {
		t.Errorf("exists: %t, %v", found, err)
	}
	c = dial(t, Options{Servers: []string{"nowhere.invalid:2181"}}, WithPatience(2*time.Second))
	var unreachable *UnreachableError
	if _, _, err := c.Exists("/zookeeper"); !errors.As(err, &unreachable) || unreachable.Problem == "" {
		t.Errorf("exists: %v", err)
	}
}

// Every address of every name is tried in turn; names are looked up again each round.
func TestServersInTurn(t *testing.T) {
	known := map[string][]string{"a": {"10.0.0.1", "10.0.0.2"}, "b": {"10.0.0.3"}}
	h := &hosts{lookup: func(_ context.Context, host string) ([]string, error) {
		if found := known[host]; found != nil {
			return found, nil
		}
		return nil, errors.New("no such host")
	}}
	if h.Init(nil) == nil {
		t.Error("no servers are accepted")
	}
	must(t, h.Init([]string{"a:1", "b:2", "c:3"}))
	rounds := 0
	round := func(want ...string) {
		t.Helper()
		var got []string
		for i := range want {
			next, again := h.Next()
			if again != (i == 0 && rounds > 0) {
				t.Errorf("%s: again %t", next, again)
			}
			got = append(got, next)
		}
		rounds++
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("a round of %q, want %q", got, want)
		}
	}
	round("10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:2", "c:3")
	known["a"], known["b"], known["c"] = []string{"10.0.0.4"}, nil, []string{"10.0.0.5"} // b cannot be looked up now
	round("10.0.0.3:2", "10.0.0.4:1", "10.0.0.5:3")
	if name := h.name("10.0.0.4:1"); name != "a:1" {
		t.Errorf("10.0.0.4:1 is %s", name)
	}
	last, _ := h.Next()
	h.Connected()
	for range 2 {
		if next, again := h.Next(); next == last || again {
			t.Errorf("when %s is lost, next is %s, again %t", last, next, again)
		}
	}
}
