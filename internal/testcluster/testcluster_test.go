package testcluster

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// parentVariable has the test binary be the parent of a child that must not
// outlive it.
const parentVariable = "AFTERIMAGE_TEST_PARENT"

func TestMain(m *testing.M) {
	if folder := os.Getenv(parentVariable); folder != "" {
		parent(folder)
	}
	os.Exit(m.Run())
}

// parent starts a child, says its process ID and waits to be killed.
func parent(folder string) {
	p := &process{name: "sleep", logFile: filepath.Join(folder, "log")}
	if err := p.start(os.Environ(), "sleep", "1000"); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(p.pid())
	select {}
}

func lives(pid int) bool {
	// A zombie waiting for its new parent has ended as well.
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z")
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func TestChildrenDieWithAKilledParent(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Log("only Linux ties a child's life to its parent's")
		return
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), parentVariable+"="+t.TempDir())
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("the parent said %q", line)
	}
	if !lives(pid) {
		t.Fatal("the child does not live while its parent does")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	eventually(t, "the child of a killed parent ends", func() bool { return !lives(pid) })
}

func newSleep(t *testing.T) *process {
	t.Helper()
	p := &process{name: "sleep", logFile: filepath.Join(t.TempDir(), "log")}
	t.Cleanup(func() { _ = p.kill() })
	return p
}

func TestProcessLife(t *testing.T) {
	p := newSleep(t)
	if err := p.signal(syscall.SIGSTOP); err == nil {
		t.Error("a process that was never started was frozen")
	}
	if err := p.kill(); err != nil {
		t.Errorf("killing nothing: %v", err)
	}
	for range 2 {
		if err := p.start(os.Environ(), "sleep", "1000"); err != nil {
			t.Fatal(err)
		}
		if err := p.start(os.Environ(), "sleep", "1000"); err == nil {
			t.Error("a second child was started beside the first")
		}
		// A frozen process must end as well, and in good order.
		if err := p.signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		if err := p.stop(10 * time.Second); err != nil {
			t.Fatal(err)
		}
		if p.pid() != 0 {
			t.Error("a stopped process has a process ID")
		}
	}
}

func TestAwaitSaysWhyAServerEnded(t *testing.T) {
	p := newSleep(t)
	if err := p.start(os.Environ(), "sh", "-c", "echo the reason; exit 7"); err != nil {
		t.Fatal(err)
	}
	err := p.await(t.Context(), func(context.Context) error { return os.ErrNotExist })
	if err == nil || !strings.Contains(err.Error(), "the reason") || !strings.Contains(err.Error(), "exit status 7") {
		t.Errorf("got %v, want the log's end and the exit status", err)
	}
	if err := p.start(os.Environ(), "sleep", "1000"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := p.await(ctx, func(context.Context) error { return os.ErrNotExist }); err == nil || !strings.Contains(err.Error(), "not ready") {
		t.Errorf("got %v, want that it is not ready", err)
	}
}

func TestPortsAreOursUntilReleased(t *testing.T) {
	seen := map[string]bool{}
	addresses, release, err := Ports(50)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		_, number, err := net.SplitHostPort(a)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := strconv.Atoi(number); err != nil || n < firstPort || n >= lastPort {
			t.Errorf("port %s is outside the range", number)
		}
		if seen[a] {
			t.Errorf("%s was given twice", a)
		}
		seen[a] = true
	}
	_, number, _ := net.SplitHostPort(addresses[0])
	if lockable(t, number) {
		t.Error("another process could take a port that is ours")
	}
	release()
	if !lockable(t, number) {
		t.Error("a released port cannot be taken")
	}
}

// lockable tries what takePort does in another process.
func lockable(t *testing.T, number string) bool {
	t.Helper()
	lock, err := os.Open(filepath.Join(portLocks(), number))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Close() }()
	return syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}

// asset writes an executable that reports a version, as the servers do.
func asset(t *testing.T, folder, name, version string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(folder, name), []byte("#!/bin/sh\necho '"+version+"'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}

// KUBEBUILDER_ASSETS counts only with the versions that the nested modules name:
// a test that passes on other servers proves something else.
func TestAssetsScriptChecksVersions(t *testing.T) {
	root, err := repositoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	version := func(module, file string) string {
		out, err := exec.Command("go", "-C", filepath.Join(root, filepath.Dir(file)), "list", "-m", "-f", "{{.Version}}", module).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimPrefix(strings.TrimSpace(string(out)), "v")
	}
	kube := version("k8s.io/kubernetes", "bench/tools/kube/go.mod")
	etcd := version("go.etcd.io/etcd/server/v3", "bench/tools/etcd/go.mod")
	given, cache := t.TempDir(), t.TempDir()
	cached := filepath.Join(cache, "kube", kube+"-etcd"+etcd)
	if err := os.MkdirAll(cached, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{given, cached} {
		asset(t, folder, "kube-apiserver", "Kubernetes v"+kube)
		asset(t, folder, "kube-controller-manager", "Kubernetes v"+kube)
		asset(t, folder, "etcd", "etcd Version: "+etcd)
	}
	run := func() string {
		t.Helper()
		cmd := exec.Command(filepath.Join(root, script))
		cmd.Env = append(os.Environ(), AssetsVariable+"="+given, "AFTERIMAGE_CACHE="+cache)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	if got := run(); got != given {
		t.Errorf("got %s, want the complete folder given, %s", got, given)
	}
	asset(t, given, "kube-apiserver", "Kubernetes v1.2.3")
	if got := run(); got != cached {
		t.Errorf("got %s, want the cache %s instead of an older API server", got, cached)
	}
	asset(t, given, "kube-apiserver", "Kubernetes v"+kube)
	if err := os.Remove(filepath.Join(given, "etcd")); err != nil {
		t.Fatal(err)
	}
	if got := run(); got != cached {
		t.Errorf("got %s, want the cache %s instead of a folder without etcd", got, cached)
	}
}
