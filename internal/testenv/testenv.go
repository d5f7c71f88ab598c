// Package testenv gives tests real servers: Kubernetes API servers, an Apache
// Kafka, ZooKeeper and an S3 server. It wraps internal/testcluster: what goes
// wrong ends the test, and what was started ends with the test (what tests share:
// with the test binary).
//
// With -short, tests that ask for a server are skipped; they are never skipped
// because servers are missing under CI=true.
package testenv

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/afterimage-dr/afterimage/internal/testcluster"
)

// startTimeout covers building the servers on a machine that has none yet.
const startTimeout = 30 * time.Minute

// Assets is the folder with kube-apiserver, kube-controller-manager and etcd,
// built first where it must be.
func Assets(tb testing.TB) string {
	tb.Helper()
	needsServers(tb)
	folder, err := testcluster.Assets(context.Background(), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return folder
}

func needsServers(tb testing.TB) {
	tb.Helper()
	if testing.Short() {
		tb.Skip("needs real servers: run without -short")
	}
}

// Option changes how a cluster is started.
type Option func(*testcluster.Config)

// WithName sets the name used in kubeconfigs and messages.
func WithName(name string) Option { return func(c *testcluster.Config) { c.Name = name } }

// WithControllerManager also starts kube-controller-manager: namespaces are then
// really deleted and garbage is collected. 2 s and 0.1 GB more.
func WithControllerManager() Option {
	return func(c *testcluster.Config) { c.ControllerManager = true }
}

// WithCompactionInterval has the API server compact etcd this often. Without it
// nothing is compacted but by Compact.
func WithCompactionInterval(interval time.Duration) Option {
	return func(c *testcluster.Config) { c.CompactionInterval = interval }
}

// WithoutWatchCache serves lists and watches from etcd itself, so that Compact
// makes older resource versions and continue tokens expire at once.
func WithoutWatchCache() Option { return func(c *testcluster.Config) { c.WithoutWatchCache = true } }

// WithAPIServerArgs adds flags to the API server.
func WithAPIServerArgs(args ...string) Option {
	return func(c *testcluster.Config) { c.APIServerArgs = append(c.APIServerArgs, args...) }
}

// Cluster is a running cluster. Methods that start or stop end the test on
// failure.
type Cluster struct {
	*testcluster.Cluster
	tb testing.TB
}

// StartCluster starts an API server on an etcd of its own and ends both with the
// test. About 5 s.
func StartCluster(tb testing.TB, options ...Option) *Cluster {
	tb.Helper()
	needsServers(tb)
	c, err := startCluster(options...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Stop(); err != nil {
			tb.Errorf("stopping %s: %v", c.Name(), err)
		}
	})
	return &Cluster{Cluster: c, tb: tb}
}

func startCluster(options ...Option) (*testcluster.Cluster, error) {
	var config testcluster.Config
	for _, option := range options {
		option(&config)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	return testcluster.Start(ctx, config)
}

func (c *Cluster) must(err error) {
	c.tb.Helper()
	if err != nil {
		c.tb.Fatal(err)
	}
}

// Kubeconfig writes a kubeconfig for cluster-admin to the path given, else into
// the test's temporary folder, and returns the path.
func (c *Cluster) Kubeconfig(path ...string) string {
	c.tb.Helper()
	if len(path) == 0 {
		path = []string{filepath.Join(c.tb.TempDir(), c.Name()+".kubeconfig")}
	}
	_, err := c.WriteKubeconfig(path[0])
	c.must(err)
	return path[0]
}

// KubeconfigContent is what Kubeconfig writes, for a Secret.
func (c *Cluster) KubeconfigContent() []byte {
	c.tb.Helper()
	content, err := c.Cluster.Kubeconfig()
	c.must(err)
	return content
}

// StopAPIServer ends the API server as a crash would; etcd stays.
func (c *Cluster) StopAPIServer() { c.tb.Helper(); c.must(c.Cluster.StopAPIServer()) }

// StartAPIServer starts it again on the same port and returns once it answers.
func (c *Cluster) StartAPIServer() {
	c.tb.Helper()
	c.must(c.Cluster.StartAPIServer(context.Background()))
}

// Freeze stops the API server in its tracks: connections stay open, nothing is
// answered. Thaw lets it go on.
func (c *Cluster) Freeze() { c.tb.Helper(); c.must(c.Cluster.Freeze()) }

// Thaw lets a frozen API server go on.
func (c *Cluster) Thaw() { c.tb.Helper(); c.must(c.Cluster.Thaw()) }

// Snapshot copies etcd's data to a folder that must not exist yet, without
// disturbing anybody.
func (c *Cluster) Snapshot(folder string) { c.tb.Helper(); c.must(c.Cluster.Snapshot(folder)) }

// Restore puts a snapshot back: servers stop, data is replaced, servers start.
// Resource versions rewind.
func (c *Cluster) Restore(folder string) {
	c.tb.Helper()
	c.must(c.Cluster.Restore(context.Background(), folder))
}

// Empty replaces the cluster by a new, empty one behind the same address and
// credentials.
func (c *Cluster) Empty() { c.tb.Helper(); c.must(c.Cluster.Empty(context.Background())) }

// Compact compacts etcd up to now; see testcluster.Cluster.Compact for when
// clients notice.
func (c *Cluster) Compact() { c.tb.Helper(); c.must(c.Cluster.Compact(context.Background())) }

// shared is the pair of clusters of this test binary.
var shared struct {
	sync.Mutex
	source, destination *testcluster.Cluster
	err                 error
}

// Pair is a source and a destination cluster, started once per test binary and
// shared by its tests, so each test works in namespaces of its own and leaves
// the servers running. Neither has a controller manager. They end in Main.
func Pair(tb testing.TB) (source, destination *Cluster) {
	tb.Helper()
	needsServers(tb)
	shared.Lock()
	defer shared.Unlock()
	if shared.source == nil && shared.err == nil {
		startPair()
	}
	if shared.err != nil {
		tb.Fatal(shared.err)
	}
	return &Cluster{Cluster: shared.source, tb: tb}, &Cluster{Cluster: shared.destination, tb: tb}
}

func startPair() {
	var errSource, errDestination error
	var wg sync.WaitGroup
	wg.Go(func() { shared.source, errSource = startCluster(WithName("source")) })
	wg.Go(func() { shared.destination, errDestination = startCluster(WithName("destination")) })
	wg.Wait()
	shared.err = errors.Join(errSource, errDestination)
}

// Main runs a test binary and ends what its tests shared:
//
//	func TestMain(m *testing.M) { testenv.Main(m) }
func Main(m *testing.M) {
	code := m.Run()
	shared.Lock()
	defer shared.Unlock()
	for _, c := range []*testcluster.Cluster{shared.source, shared.destination} {
		if c == nil {
			continue
		}
		if err := c.Stop(); err != nil {
			println("stopping " + c.Name() + ": " + err.Error())
			code = max(code, 1)
		}
	}
	if err := endSharedZooKeeper(); err != nil {
		println("ending ZooKeeper: " + err.Error())
		code = max(code, 1)
	}
	os.Exit(code)
}
