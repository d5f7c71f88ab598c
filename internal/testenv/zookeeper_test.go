package testenv_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/afterimage-dr/afterimage/internal/testenv"
)

type quiet struct{}

func (quiet) Printf(string, ...any) {}

// zooKeeperSession is a session of its own, with TLS if a configuration is given.
func zooKeeperSession(t *testing.T, config *tls.Config, servers ...string) *zk.Conn {
	t.Helper()
	dialer := func(network, address string, _ time.Duration) (net.Conn, error) {
		// The library would give a handshake one second, which is little for a server
		// that has just been started.
		d := &net.Dialer{Timeout: 20 * time.Second}
		if config != nil {
			return tls.DialWithDialer(d, network, address, config)
		}
		return d.Dial(network, address)
	}
	conn, _, err := zk.Connect(servers, 5*time.Second, zk.WithDialer(dialer), zk.WithLogger(quiet{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// eventually tries for a minute: what a fault or an election interrupts is for the
// library's users to try again.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s: %v", what, err)
		}
	}
}

// keeps writes a znode and reads it back.
func keeps(t *testing.T, conn *zk.Conn, path string) {
	t.Helper()
	eventually(t, "creating "+path, func() error {
		_, err := conn.Create(path, []byte("kept"), 0, zk.WorldACL(zk.PermAll))
		if errors.Is(err, zk.ErrNodeExists) {
			return nil // an attempt whose answer was lost
		}
		return err
	})
	reads(t, conn, path)
}

func reads(t *testing.T, conn *zk.Conn, path string) {
	t.Helper()
	var data []byte
	eventually(t, "reading "+path, func() (err error) {
		data, _, err = conn.Get(path)
		return err
	})
	if string(data) != "kept" {
		t.Fatalf("%s holds %q, want what was written", path, data)
	}
}

func TestSharedZooKeeper(t *testing.T) {
	source, from := testenv.ZooKeeper(t)
	destination, to := testenv.ZooKeeper(t)
	if from == to {
		t.Errorf("both roots are %s, want one each", from)
	}
	if source.Addr() != destination.Addr() {
		t.Errorf("servers at %s and %s, want one", source.Addr(), destination.Addr())
	}
	conn := zooKeeperSession(t, nil, source.Addr())
	keeps(t, conn, from)
	keeps(t, conn, to)
	// Containers and TTL nodes are served.
	if _, err := conn.CreateContainer(from+"/container", nil, zk.FlagContainer, zk.WorldACL(zk.PermAll)); err != nil {
		t.Errorf("creating a container: %v", err)
	}
	if _, err := conn.CreateTTL(from+"/ttl", nil, zk.FlagTTL, zk.WorldACL(zk.PermAll), time.Hour); err != nil {
		t.Errorf("creating a TTL node: %v", err)
	}
	if _, err := conn.CreateTTL(from+"/expired", nil, zk.FlagTTL, zk.WorldACL(zk.PermAll), time.Millisecond); err != nil {
		t.Errorf("creating a TTL node: %v", err)
	}
	eventually(t, "the TTL node expires", func() error {
		there, _, err := conn.Exists(from + "/expired")
		if there {
			return zk.ErrNodeExists
		}
		return err
	})
}

// Every way to end the server keeps what it acknowledged, and sessions go on; the
// proxy is on the way of all of it.
func TestZooKeeperEndsAndGoesOn(t *testing.T) {
	z := testenv.StartZooKeeper(t, testenv.WithZooKeeperProxy())
	conn := zooKeeperSession(t, nil, z.Addr())
	keeps(t, conn, "/kept")
	for _, step := range []struct {
		name       string
		fault, end func()
	}{
		{"stop", z.Stop, z.Start},
		{"kill", z.Kill, z.Start},
		{"freeze", z.Freeze, func() { time.Sleep(time.Second); z.Thaw() }},
		{"cut", z.Proxy.Cut, func() {}},
		{"hang", func() { z.Proxy.Hang(true) }, func() { time.Sleep(time.Second); z.Proxy.Hang(false) }},
	} {
		before := z.Status().Zxid
		step.fault()
		step.end()
		reads(t, conn, "/kept")
		if now := z.Status().Zxid; now < before {
			t.Errorf("after %s the last change is %#x, before it was %#x", step.name, now, before)
		}
	}
}

// Sessions that come and go are no writes.
func TestZooKeeperWrites(t *testing.T) {
	z := testenv.StartZooKeeper(t)
	open := zooKeeperSession(t, nil, z.Addr())
	keeps(t, open, "/kept")
	before := z.Writes()
	for range 3 {
		closed := zooKeeperSession(t, nil, z.Addr())
		reads(t, closed, "/kept")
		closed.Close()
	}
	if n := z.Writes() - before; n != 0 {
		t.Errorf("%d writes were counted, want none", n)
	}
	keeps(t, open, "/more")
	if _, err := open.Multi(&zk.SetDataRequest{Path: "/kept", Version: -1}, &zk.DeleteRequest{Path: "/more", Version: -1}); err != nil {
		t.Fatal(err)
	}
	if n := z.Writes() - before; n != 2 {
		t.Errorf("%d writes were counted, want a creation and a transaction", n)
	}
}

// A delay adds to each round trip and takes nothing from the throughput of a
// client that keeps many requests in flight.
func TestZooKeeperBehindLatency(t *testing.T) {
	z := testenv.StartZooKeeper(t, testenv.WithZooKeeperProxy())
	conn := zooKeeperSession(t, nil, z.Addr())
	keeps(t, conn, "/kept")
	z.Proxy.Delay(10 * time.Millisecond)
	begin := time.Now()
	reads(t, conn, "/kept")
	if took := time.Since(begin); took < 20*time.Millisecond {
		t.Errorf("a read took %s, want at least the round trip of 20ms", took)
	}
	const requests = 2000
	begin = time.Now()
	var wg sync.WaitGroup
	for range requests {
		wg.Go(func() {
			if _, _, err := conn.Get("/kept"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	// One after the other they would take 40 s.
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("%d reads at once took %s", requests, took)
	}
}

func TestZooKeeperTLS(t *testing.T) {
	z := testenv.StartZooKeeper(t, testenv.WithClientCertificates(), testenv.WithZooKeeperProxy())
	certificate, err := z.ClientPair("copier").TLS()
	if err != nil {
		t.Fatal(err)
	}
	trusted := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	trusted.RootCAs.AppendCertsFromPEM(z.CA())
	proven := trusted.Clone()
	proven.Certificates = []tls.Certificate{certificate}
	keeps(t, zooKeeperSession(t, proven, z.SecureAddr()), "/kept")
	// The plain port shows the same tree.
	reads(t, zooKeeperSession(t, nil, z.Addr()), "/kept")

	// Without a certificate TLS itself is refused; TLS 1.3 says so on the first read.
	unproven, err := tls.Dial("tcp", z.SecureAddr(), trusted)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unproven.Close() }()
	_ = unproven.SetDeadline(time.Now().Add(10 * time.Second))
	var refused *net.OpError
	if _, err := unproven.Read(make([]byte, 1)); !errors.As(err, &refused) || refused.Op != "remote error" {
		t.Errorf("reading without a client certificate: %v, want an alert from the server", err)
	}
}

func TestZooKeeperTLSWithoutClientCertificates(t *testing.T) {
	z := testenv.StartZooKeeper(t, testenv.WithZooKeeperTLS())
	trusted := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	trusted.RootCAs.AppendCertsFromPEM(z.CA())
	keeps(t, zooKeeperSession(t, trusted, z.SecureAddr()), "/kept")
}

func TestZooKeeperLimits(t *testing.T) {
	z := testenv.StartZooKeeper(t, testenv.WithoutTTLNodes(), testenv.WithJuteMaxBuffer(10_000),
		testenv.WithZooKeeperSetting("enforce.auth.enabled", "true"), testenv.WithZooKeeperSetting("enforce.auth.schemes", "digest"))
	conn := zooKeeperSession(t, nil, z.Addr())
	if err := conn.AddAuth("digest", []byte("user:secret")); err != nil {
		t.Fatal(err)
	}
	keeps(t, conn, "/kept")
	if _, err := conn.CreateTTL("/ttl", nil, zk.FlagTTL, zk.WorldACL(zk.PermAll), time.Hour); err == nil {
		t.Error("a TTL node was created without extended types")
	}
	if _, err := conn.Create("/large", make([]byte, 20_000), 0, zk.WorldACL(zk.PermAll)); err == nil {
		t.Error("20,000 bytes were taken beyond the limit of 10,000")
	}
	reads(t, conn, "/kept")
	// The setting is at work: nobody reads without having said who he is.
	if _, _, err := zooKeeperSession(t, nil, z.Addr()).Get("/kept"); err == nil {
		t.Error("a session without authentication read")
	}
}

func TestZooKeeperEnsemble(t *testing.T) {
	e := testenv.StartZooKeeperEnsemble(t, 3)
	conn := zooKeeperSession(t, nil, e.Addrs()...)
	keeps(t, conn, "/kept")
	killed := e.KillLeader()
	elected := e.Leader()
	if elected == killed {
		t.Fatal("the killed member still leads")
	}
	if status := elected.Status(); status.Mode != "leader" {
		t.Errorf("the elected member is a %s", status.Mode)
	}
	keeps(t, conn, "/later")
	// Two of three serve, one does not.
	frozen := e.Leader()
	frozen.Freeze()
	if _, err := frozen.ZooKeeper.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("asking a frozen member: %v, want a timeout", err)
	}
	frozen.Thaw()
	e.Start()
	for _, z := range e.Servers {
		reads(t, zooKeeperSession(t, nil, z.Addr()), "/kept")
	}
}
