package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/afterimage-dr/afterimage/internal/testcluster"
)

// pair is the two clusters all tests of this package share: real API servers
// with real controller managers, so that namespaces end, garbage is collected
// and Deployments get their ReplicaSets. Each test works in namespaces of its
// own, one after the other.
var pair struct {
	once                sync.Once
	source, destination *testcluster.Cluster
	err                 error
}

// program is the binary under test, built once with failpoints compiled in.
var program struct {
	once sync.Once
	path string
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, c := range []*testcluster.Cluster{pair.source, pair.destination} {
		if c != nil {
			if err := c.Stop(); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}
	for _, stop := range []func() error{stopBroker, stopEnsembles} {
		if err := stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	if program.path != "" {
		_ = os.RemoveAll(filepath.Dir(program.path))
	}
	os.Exit(code)
}

// clusters returns the shared pair.
func clusters(t testing.TB) (source, destination *testcluster.Cluster) {
	t.Helper()
	pair.once.Do(func() {
		var errs [2]error
		var wg sync.WaitGroup
		wg.Go(func() { pair.source, errs[0] = startCluster("source") })
		wg.Go(func() { pair.destination, errs[1] = startCluster("destination") })
		wg.Wait()
		pair.err = errors.Join(errs[:]...)
	})
	if pair.err != nil {
		t.Fatal(pair.err)
	}
	return pair.source, pair.destination
}

func startCluster(name string) (*testcluster.Cluster, error) {
	return testcluster.Start(context.Background(), testcluster.Config{Name: name, ControllerManager: true})
}

// afterimage returns the path of the binary under test.
func afterimage(t testing.TB) string {
	t.Helper()
	program.once.Do(func() {
		var dir string
		if dir, program.err = os.MkdirTemp("", "afterimage-e2e-"); program.err != nil {
			return
		}
		program.path = filepath.Join(dir, "afterimage")
		build := exec.Command("go", "build", "-tags", "failpoints", "-o", program.path, "github.com/afterimage-dr/afterimage")
		if out, err := build.CombinedOutput(); err != nil {
			program.err = fmt.Errorf("building the binary under test: %w\n%s", err, out)
		}
	})
	if program.err != nil {
		t.Fatal(program.err)
	}
	return program.path
}

// saveLines keeps evidence of a failure beyond the test.
func saveLines(t testing.TB, name string, lines []string) string {
	dir, err := os.MkdirTemp("", "afterimage-failure-")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, name)
	var b []byte
	for _, l := range lines {
		b = append(append(b, l...), '\n')
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
