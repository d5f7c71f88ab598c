package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/afterimage-dr/afterimage/internal/nodecopy"
	"github.com/afterimage-dr/afterimage/internal/status"
	"github.com/afterimage-dr/afterimage/internal/testcluster"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/operator/config"
)

// ensembles are the two ZooKeeper servers that the tests of this package share. Each
// test has a chroot of its own in both.
var ensembles struct {
	once                sync.Once
	source, destination *testcluster.ZooKeeper
	err                 error
}

func startEnsembles() error {
	var errs [2]error
	var wg sync.WaitGroup
	start := func(to **testcluster.ZooKeeper, err *error) {
		*to, *err = testcluster.StartZooKeeper(context.Background(), testcluster.ZooKeeperConfig{})
	}
	wg.Go(func() { start(&ensembles.source, &errs[0]) })
	wg.Go(func() { start(&ensembles.destination, &errs[1]) })
	wg.Wait()
	return errors.Join(errs[:]...)
}

// stopEnsembles ends them with the test binary.
func stopEnsembles() error {
	var errs []error
	for _, z := range []*testcluster.ZooKeeper{ensembles.source, ensembles.destination} {
		if z != nil {
			errs = append(errs, z.Close())
		}
	}
	return errors.Join(errs...)
}

// nodeRig is the binary under test between a tree of each server.
type nodeRig struct {
	*rig
	t                   *testing.T
	source, destination *nodeSide
	random              *rand.Rand
	// brokers is the flag that names them; nil: the log is embedded.
	brokers []string
}

func newNodeRig(t *testing.T) *nodeRig {
	t.Helper()
	needsServers(t)
	ensembles.once.Do(func() { ensembles.err = startEnsembles() })
	if errors.Is(ensembles.err, testcluster.ErrNoJava) && os.Getenv("CI") != "true" {
		t.Skipf("no Apache ZooKeeper: %v", ensembles.err)
	}
	must(t, ensembles.err)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := &nodeRig{
		t: t, rig: &rig{dir: t.TempDir(), binary: afterimage(t)}, random: rand.New(rand.NewPCG(seed, 1)),
		source: newNodeSide(t, ensembles.source), destination: newNodeSide(t, ensembles.destination),
	}
	t.Cleanup(func() { r.close(t.Failed(), func(a ...any) { t.Log(a...) }) })
	return r
}

// databases are the assets that the samples name.
func (r *nodeRig) databases() string {
	database := func(name string, s *nodeSide) string {
		return fmt.Sprintf("apiVersion: assets.astronetes.io/v1alpha1\nkind: Database\nmetadata: {name: %s}\nspec: {zookeeper: {client: {servers: [%q], chroot: %s}}}\n---\n", name, s.proxy.Addr(), s.chroot)
	}
	return database("zookeeper-source", r.source) + database("zookeeper-destination", r.destination)
}

// manifests makes a folder with the databases and these samples, as they are.
func (r *nodeRig) manifests(folder string, samples ...string) string {
	r.t.Helper()
	dir := filepath.Join(r.dir, folder)
	must(r.t, os.RemoveAll(dir))
	must(r.t, os.MkdirAll(dir, 0o700))
	must(r.t, os.WriteFile(filepath.Join(dir, "databases.yaml"), []byte(r.databases()), 0o600))
	for _, name := range samples {
		b, err := config.Samples.ReadFile("samples/" + name)
		must(r.t, err)
		must(r.t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	return dir
}

// fullHour is the setting of a time zone in which it is the full hour a second from now.
func (r *nodeRig) fullHour() string {
	r.t.Helper()
	at := time.Now().UTC().Add(time.Second)
	offset := at.Truncate(time.Hour).Add(time.Hour).Sub(at)
	var b bytes.Buffer
	b.WriteString("TZif")
	b.Write(make([]byte, 16))
	for _, count := range []uint32{0, 0, 0, 0, 1, 4} { // one zone without transitions, 4 bytes of names
		_ = binary.Write(&b, binary.BigEndian, count)
	}
	_ = binary.Write(&b, binary.BigEndian, int32(offset/time.Second)) //nolint:gosec // within an hour
	b.WriteString("\x00\x00OUR\x00")
	file := filepath.Join(r.dir, "zone")
	must(r.t, os.WriteFile(file, b.Bytes(), 0o600))
	return "TZ=" + file
}

// running is an afterimage sync.
type running struct {
	t        *testing.T
	cmd      *exec.Cmd
	out, err bytes.Buffer
	ended    chan error
}

// report of one that has ended.
type report struct {
	v1alpha1.SynchronizationStatus
	Copy nodecopy.Result
	// exit status; -1: killed.
	exit int
	// said on standard error.
	said string
}

// begin starts a sync of the manifests in a folder.
func (r *nodeRig) begin(folder string, env ...string) *running {
	r.t.Helper()
	s := &running{t: r.t, ended: make(chan error, 1)}
	s.cmd = exec.Command(r.binary, append([]string{"sync", "-f", folder, "--data-dir", r.dataDir(), "-o", "json"}, r.brokers...)...)
	s.cmd.Env = append(os.Environ(), env...)
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.err
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(r.t, s.cmd.Start())
	go func() { s.ended <- s.cmd.Wait() }()
	return s
}

// wait for its end.
func (s *running) wait() report {
	s.t.Helper()
	select {
	case <-s.ended:
	case <-time.After(settle):
		_ = s.cmd.Process.Kill()
		s.t.Fatalf("sync did not end within %s: %s", settle, s.err.String())
	}
	out := report{exit: s.cmd.ProcessState.ExitCode(), said: s.err.String()}
	if s.out.Len() > 0 {
		if err := json.Unmarshal(s.out.Bytes(), &out); err != nil {
			s.t.Fatalf("report of sync: %v\n%s", err, s.out.String())
		}
	}
	return out
}

// complete waits for the end of one that must have copied everything.
func (s *running) complete() report {
	s.t.Helper()
	got := s.wait()
	if got.exit != 0 || got.State != v1alpha1.StateComplete || got.Result.Failed != 0 {
		s.t.Fatalf("exit status %d, want 0 and Complete: %+v\n%s", got.exit, got.SynchronizationStatus, got.said)
	}
	return got
}

// refused waits for the end of one that must have failed for a reason.
func (s *running) refused(reason string) report {
	s.t.Helper()
	got := s.wait()
	for _, c := range got.Conditions {
		if got.exit == 1 && got.State == v1alpha1.StateFailed && c.Type == v1alpha1.ConditionFailed && c.Reason == reason {
			return got
		}
	}
	s.t.Fatalf("exit status %d, want 1 and Failed because of %s: %+v\n%s", got.exit, reason, got.SynchronizationStatus, got.said)
	return got
}

// killed waits for the end of one that kills itself at a failpoint.
func (s *running) killed() {
	s.t.Helper()
	if got := s.wait(); got.exit != -1 {
		s.t.Fatalf("it ended by itself with status %d before it was to be killed: %+v\n%s", got.exit, got.SynchronizationStatus, got.said)
	}
}

// kill is SIGKILL; it says whether it was running still.
func (s *running) kill() bool {
	s.t.Helper()
	if err := s.cmd.Process.Kill(); !errors.Is(err, os.ErrProcessDone) {
		must(s.t, err)
	}
	return s.wait().exit == -1
}

// process is the status of the running afterimage.
func (r *nodeRig) process() (status.Process, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return status.Get(ctx, r.dataDir())
}

// ready asks for the status as a script does, which waits until all is as it should be.
func (r *nodeRig) ready() {
	r.t.Helper()
	out, err := exec.Command(r.binary, "status", "--data-dir", r.dataDir(), "--wait", settle.String()).CombinedOutput()
	if err != nil {
		r.t.Fatalf("afterimage status: %v\n%s", err, out)
	}
}

// equal compares both trees, node by node, below a root; except: what is not copied.
func (r *nodeRig) equal(root string, except ...string) {
	r.t.Helper()
	if d := r.differences(root, except...); len(d) > 0 {
		r.t.Fatalf("%d differences, among them:\n%s", len(d), strings.Join(d[:min(10, len(d))], "\n"))
	}
}

func (r *nodeRig) differences(root string, except ...string) (out []string) {
	r.t.Helper()
	var wg sync.WaitGroup
	var want, is map[string]znode
	wg.Go(func() { want = r.source.read(root) })
	wg.Go(func() { is = r.destination.read(root) })
	wg.Wait()
	if len(want) == 0 {
		r.t.Fatalf("the source has no %s", root)
	}
	excluded := func(path string) bool {
		return slices.ContainsFunc(except, func(e string) bool { return path == e || strings.HasPrefix(path, e+"/") })
	}
	for path, n := range want {
		switch copied, ok := is[path]; {
		case excluded(path) && ok:
			out = append(out, path+" is excluded, and at the destination")
		case excluded(path):
		case !ok:
			out = append(out, path+" is missing")
		case copied.content != n.content:
			out = append(out, fmt.Sprintf("%s is %.60q, want %.60q", path, copied.content, n.content))
		}
	}
	for path := range is {
		if _, ok := want[path]; !ok {
			out = append(out, path+" is too much")
		}
	}
	return out
}
