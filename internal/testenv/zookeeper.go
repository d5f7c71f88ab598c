package testenv

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/afterimage-dr/afterimage/internal/faultproxy"
	"github.com/afterimage-dr/afterimage/internal/testcert"
	"github.com/afterimage-dr/afterimage/internal/testcluster"
)

// ZooKeeperOption changes how a ZooKeeper server, or each of an ensemble, is
// started.
type ZooKeeperOption func(*zooKeeperOptions)

type zooKeeperOptions struct {
	config testcluster.ZooKeeperConfig
	proxy  bool
}

// WithZooKeeperTLS opens a second port, ZooKeeperServer.SecureAddr, for clients
// that speak TLS.
func WithZooKeeperTLS() ZooKeeperOption {
	return func(o *zooKeeperOptions) { o.config.TLS = true }
}

// WithClientCertificates is WithZooKeeperTLS for clients that show a certificate,
// as ZooKeeperServer.ClientPair makes it.
func WithClientCertificates() ZooKeeperOption {
	return func(o *zooKeeperOptions) { o.config.TLS, o.config.RequireClientCertificate = true, true }
}

// WithoutTTLNodes refuses TTL nodes, as ZooKeeper does unless it is told
// otherwise.
func WithoutTTLNodes() ZooKeeperOption {
	return func(o *zooKeeperOptions) { o.config.WithoutExtendedTypes = true }
}

// WithOldZooKeeper starts ZooKeeper 3.5, from before multiRead.
func WithOldZooKeeper() ZooKeeperOption { return func(o *zooKeeperOptions) { o.config.Old = true } }

// WithJuteMaxBuffer sets the largest packet, in bytes.
func WithJuteMaxBuffer(bytes int) ZooKeeperOption {
	return func(o *zooKeeperOptions) { o.config.JuteMaxBuffer = bytes }
}

// WithZooKeeperHeap lets the server's heap grow to so many MiB; 512 suffice for most
// tests.
func WithZooKeeperHeap(megabytes int) ZooKeeperOption {
	return func(o *zooKeeperOptions) {
		o.config.JavaOptions = append(o.config.JavaOptions, fmt.Sprintf("-Xmx%dm", megabytes))
	}
}

// WithZooKeeperSetting sets one of the server's settings, as in zoo.cfg.
func WithZooKeeperSetting(name, value string) ZooKeeperOption {
	return func(o *zooKeeperOptions) {
		if o.config.Settings == nil {
			o.config.Settings = map[string]string{}
		}
		o.config.Settings[name] = value
	}
}

// WithZooKeeperProxy places a TCP fault proxy before each server, and before its
// TLS port if it has one.
func WithZooKeeperProxy() ZooKeeperOption { return func(o *zooKeeperOptions) { o.proxy = true } }

// ZooKeeperServer is a running server. Methods that start or stop end the test on
// failure.
type ZooKeeperServer struct {
	*testcluster.ZooKeeper
	// Proxy is before the server if WithZooKeeperProxy was given, else nil.
	Proxy *faultproxy.TCP
	// SecureProxy is before its TLS port, if it has one.
	SecureProxy *faultproxy.TCP

	tb testing.TB
}

// StartZooKeeper starts a server that ends with the test. Without mvn or java the
// test is skipped, but under CI=true it fails.
func StartZooKeeper(tb testing.TB, options ...ZooKeeperOption) *ZooKeeperServer {
	tb.Helper()
	needsServers(tb)
	o := zooKeeperOptionsOf(options)
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	own, err := testcluster.StartZooKeeper(ctx, o.config)
	endIfNoZooKeeper(tb, err)
	tb.Cleanup(func() {
		if err := own.Close(); err != nil {
			tb.Errorf("ending ZooKeeper: %v", err)
		}
	})
	return zooKeeperServer(tb, own, o.proxy)
}

func zooKeeperOptionsOf(options []ZooKeeperOption) zooKeeperOptions {
	var o zooKeeperOptions
	for _, option := range options {
		option(&o)
	}
	return o
}

// endIfNoZooKeeper ends the test when the start failed.
func endIfNoZooKeeper(tb testing.TB, err error) {
	tb.Helper()
	if errors.Is(err, testcluster.ErrNoJava) && os.Getenv("CI") != "true" {
		tb.Skipf("no Apache ZooKeeper: %v (install maven and a Java 17)", err)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

func zooKeeperServer(tb testing.TB, own *testcluster.ZooKeeper, proxy bool) *ZooKeeperServer {
	tb.Helper()
	z := &ZooKeeperServer{ZooKeeper: own, tb: tb}
	if !proxy {
		return z
	}
	z.Proxy = faultproxy.StartTCP(tb, own.Addr())
	if own.SecureAddr() != "" {
		z.SecureProxy = faultproxy.StartTCP(tb, own.SecureAddr())
	}
	return z
}

// Addr is host and port for clients without TLS: of Proxy, if there is one.
func (z *ZooKeeperServer) Addr() string {
	if z.Proxy != nil {
		return z.Proxy.Addr()
	}
	return z.ZooKeeper.Addr()
}

// SecureAddr is host and port for clients with TLS: of SecureProxy, if there is
// one. "" without WithZooKeeperTLS.
func (z *ZooKeeperServer) SecureAddr() string {
	if z.SecureProxy != nil {
		return z.SecureProxy.Addr()
	}
	return z.ZooKeeper.SecureAddr()
}

func (z *ZooKeeperServer) must(err error) {
	z.tb.Helper()
	if err != nil {
		z.tb.Fatal(err)
	}
}

// ClientPair is a certificate of the server's authority for a client.
func (z *ZooKeeperServer) ClientPair(name string) testcert.Pair {
	z.tb.Helper()
	pair, err := z.ClientCertificate(name)
	z.must(err)
	return pair
}

// Status is what the server says of itself; it must be serving.
func (z *ZooKeeperServer) Status() testcluster.ZooKeeperStatus {
	z.tb.Helper()
	status, err := z.ZooKeeper.Status(context.Background())
	z.must(err)
	return status
}

// Writes counts the changes that clients made; differences tell how many. See
// testcluster.ZooKeeper.Writes for when.
func (z *ZooKeeperServer) Writes() int64 {
	z.tb.Helper()
	writes, err := z.ZooKeeper.Writes(context.Background())
	z.must(err)
	return writes
}

// Stop ends the server in an orderly way; its data stays.
func (z *ZooKeeperServer) Stop() { z.tb.Helper(); z.must(z.ZooKeeper.Stop()) }

// Kill ends the server as a crash would; its data stays.
func (z *ZooKeeperServer) Kill() { z.tb.Helper(); z.must(z.ZooKeeper.Kill()) }

// Start starts it again on the same data and ports.
func (z *ZooKeeperServer) Start() { z.tb.Helper(); z.must(z.ZooKeeper.Start(context.Background())) }

// Freeze stops the server in its tracks; Thaw lets it go on.
func (z *ZooKeeperServer) Freeze() { z.tb.Helper(); z.must(z.ZooKeeper.Freeze()) }

// Thaw lets a frozen server go on.
func (z *ZooKeeperServer) Thaw() { z.tb.Helper(); z.must(z.ZooKeeper.Thaw()) }

// ZooKeeperEnsemble is a running ensemble. Methods end the test on failure.
type ZooKeeperEnsemble struct {
	// Servers are its members; each is stopped, killed and frozen on its own.
	Servers []*ZooKeeperServer

	own *testcluster.ZooKeeperEnsemble
	tb  testing.TB
}

// electionTimeout is ample: an election takes well under a second on an idle
// machine.
const electionTimeout = time.Minute

// StartZooKeeperEnsemble starts so many servers that end with the test, under the
// rules of StartZooKeeper.
func StartZooKeeperEnsemble(tb testing.TB, size int, options ...ZooKeeperOption) *ZooKeeperEnsemble {
	tb.Helper()
	needsServers(tb)
	o := zooKeeperOptionsOf(options)
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	own, err := testcluster.StartZooKeeperEnsemble(ctx, size, o.config)
	endIfNoZooKeeper(tb, err)
	tb.Cleanup(func() {
		if err := own.Close(); err != nil {
			tb.Errorf("ending the ZooKeeper ensemble: %v", err)
		}
	})
	e := &ZooKeeperEnsemble{own: own, tb: tb}
	for _, z := range own.Servers {
		e.Servers = append(e.Servers, zooKeeperServer(tb, z, o.proxy))
	}
	return e
}

// Addrs are the members' addresses for clients without TLS: of their proxies, if
// there are.
func (e *ZooKeeperEnsemble) Addrs() []string {
	var addresses []string
	for _, z := range e.Servers {
		addresses = append(addresses, z.Addr())
	}
	return addresses
}

// SecureAddrs are those for clients with TLS.
func (e *ZooKeeperEnsemble) SecureAddrs() []string {
	var addresses []string
	for _, z := range e.Servers {
		addresses = append(addresses, z.SecureAddr())
	}
	return addresses
}

// Leader is the member that leads now; an election is waited for.
func (e *ZooKeeperEnsemble) Leader() *ZooKeeperServer {
	e.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), electionTimeout)
	defer cancel()
	leader, err := e.own.Leader(ctx)
	return e.member(leader, err)
}

// KillLeader ends the member that leads, as a crash would, and returns it.
func (e *ZooKeeperEnsemble) KillLeader() *ZooKeeperServer {
	e.tb.Helper()
	leader := e.Leader()
	leader.Kill()
	return leader
}

func (e *ZooKeeperEnsemble) member(z *testcluster.ZooKeeper, err error) *ZooKeeperServer {
	e.tb.Helper()
	if err != nil {
		e.tb.Fatal(err)
	}
	for _, server := range e.Servers {
		if server.ZooKeeper == z {
			return server
		}
	}
	e.tb.Fatal("the leader is no member of the ensemble")
	return nil
}

// Start starts again every member that does not run.
func (e *ZooKeeperEnsemble) Start() {
	e.tb.Helper()
	if err := e.own.Start(context.Background()); err != nil {
		e.tb.Fatal(err)
	}
}

// sharedZooKeeper is the server of this test binary.
var sharedZooKeeper struct {
	sync.Mutex
	server *testcluster.ZooKeeper
	err    error
}

// ZooKeeper is a server started once per test binary and shared by its tests, and
// the path of a znode of the test's own, which does not exist yet. Tests leave the
// server running; it ends in Main. For a source and a destination call it twice.
func ZooKeeper(tb testing.TB) (server *ZooKeeperServer, root string) {
	tb.Helper()
	needsServers(tb)
	sharedZooKeeper.Lock()
	defer sharedZooKeeper.Unlock()
	if sharedZooKeeper.server == nil && sharedZooKeeper.err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		sharedZooKeeper.server, sharedZooKeeper.err = testcluster.StartZooKeeper(ctx, testcluster.ZooKeeperConfig{})
	}
	endIfNoZooKeeper(tb, sharedZooKeeper.err)
	name := strings.NewReplacer("/", "-", " ", "-").Replace(tb.Name())
	return zooKeeperServer(tb, sharedZooKeeper.server, false), fmt.Sprintf("/%s-%08x", name, rand.Uint32())
}

func endSharedZooKeeper() error {
	sharedZooKeeper.Lock()
	defer sharedZooKeeper.Unlock()
	if sharedZooKeeper.server == nil {
		return nil
	}
	return sharedZooKeeper.server.Close()
}
