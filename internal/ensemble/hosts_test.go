package ensemble

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
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

func TestServersInTurn(t *testing.T) {
	h := &hosts{}
	if h.Init(nil) == nil {
		t.Error("no servers are accepted")
	}
	must(t, h.Init([]string{"a:1", "b:1", "c:1"}))
	first, again := h.Next()
	if again {
		t.Error("the first was not tried before")
	}
	h.Next()
	h.Connected() // the second
	h.Next()
	if next, again := h.Next(); next != first || again {
		t.Errorf("next is %s, again %t, want %s, false", next, again, first)
	}
	if _, again := h.Next(); !again {
		t.Error("all were tried since one answered")
	}
}
