package testenv_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/afterimage-dr/afterimage/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func client(t *testing.T, c *testenv.Cluster) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func create(t *testing.T, c kubernetes.Interface, name string) *corev1.ConfigMap {
	t.Helper()
	object, err := c.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return object
}

func TestPairIsTwoClusters(t *testing.T) {
	source, destination := testenv.Pair(t)
	again, _ := testenv.Pair(t)
	if again.URL() != source.URL() {
		t.Errorf("the second call gave another source, %s, want %s", again.URL(), source.URL())
	}
	uid := map[string]string{}
	for _, c := range []*testenv.Cluster{source, destination} {
		config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
		if err != nil {
			t.Fatal(err)
		}
		k, err := kubernetes.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		namespace, err := k.CoreV1().Namespaces().Get(t.Context(), "kube-system", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		uid[c.Name()] = string(namespace.UID)
	}
	if uid["source"] == uid["destination"] || len(uid) != 2 {
		t.Errorf("cluster identities %v, want two different ones", uid)
	}
}

// The restart keeps address, credentials and data; a frozen server answers
// nothing and goes on where it was.
func TestStopStartFreeze(t *testing.T) {
	c := testenv.StartCluster(t)
	k := client(t, c)
	create(t, k, "kept")

	c.StopAPIServer()
	if pid := c.APIServerPID(); pid != 0 {
		t.Errorf("a stopped API server has process ID %d", pid)
	}
	if _, err := k.CoreV1().ConfigMaps("default").Get(t.Context(), "kept", metav1.GetOptions{}); err == nil {
		t.Error("a stopped API server answered")
	}
	c.StartAPIServer()
	if _, err := k.CoreV1().ConfigMaps("default").Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
		t.Errorf("after the restart: %v", err)
	}

	c.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := k.CoreV1().ConfigMaps("default").Get(ctx, "kept", metav1.GetOptions{}); err == nil {
		t.Error("a frozen API server answered")
	}
	c.Thaw()
	if _, err := k.CoreV1().ConfigMaps("default").Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
		t.Errorf("after the thaw: %v", err)
	}
}

func TestTCPProxyIsOnTheWay(t *testing.T) {
	source, _ := testenv.Pair(t)
	proxy, config := source.TCPProxy()
	k, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	get := func() error {
		_, err := k.CoreV1().Namespaces().Get(t.Context(), "default", metav1.GetOptions{})
		return err
	}
	if err := get(); err != nil {
		t.Fatal(err)
	}
	if err := proxy.Refuse(true); err != nil {
		t.Fatal(err)
	}
	proxy.Cut()
	if err := get(); err == nil {
		t.Error("the API server was reached past the proxy")
	}
	if err := proxy.Refuse(false); err != nil {
		t.Fatal(err)
	}
	if err := get(); err != nil {
		t.Errorf("after the outage: %v", err)
	}
}

func TestRestoreRewindsResourceVersions(t *testing.T) {
	c := testenv.StartCluster(t)
	k := client(t, c)
	before := create(t, k, "before")
	snapshot := filepath.Join(t.TempDir(), "snapshot")
	c.Snapshot(snapshot)
	last := create(t, k, "after")
	for i := range 200 {
		last = create(t, k, fmt.Sprintf("later-%03d", i))
	}

	c.Restore(snapshot)
	got, err := k.CoreV1().ConfigMaps("default").Get(t.Context(), "before", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got.UID != before.UID || got.ResourceVersion != before.ResourceVersion {
		t.Errorf("the object from before the snapshot has uid %s rv %s, want %s %s", got.UID, got.ResourceVersion, before.UID, before.ResourceVersion)
	}
	if _, err := k.CoreV1().ConfigMaps("default").Get(t.Context(), "after", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the object from after the snapshot: %v, want not found", err)
	}
	// 200 objects were written after "after", so anything but a rewind is above.
	again := create(t, k, "after")
	if order, err := resourceversion.CompareResourceVersion(again.ResourceVersion, last.ResourceVersion); err != nil || order >= 0 {
		t.Errorf("resource version %s is not below %s (%v)", again.ResourceVersion, last.ResourceVersion, err)
	}
}

func TestEmptyHasAnotherIdentity(t *testing.T) {
	c := testenv.StartCluster(t)
	k := client(t, c)
	create(t, k, "gone")
	identity := func() string {
		namespace, err := k.CoreV1().Namespaces().Get(t.Context(), "kube-system", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return string(namespace.UID)
	}
	before := identity()
	c.Empty()
	if after := identity(); after == before {
		t.Errorf("the emptied cluster has the same identity %s", after)
	}
	if _, err := k.CoreV1().ConfigMaps("default").Get(t.Context(), "gone", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("reading an object of the old cluster: %v, want not found", err)
	}
}

func TestCompactExpiresVersions(t *testing.T) {
	c := testenv.StartCluster(t, testenv.WithoutWatchCache())
	k := client(t, c)
	old := create(t, k, "old")
	for i := range 5 {
		create(t, k, "page-"+string(rune('a'+i)))
	}
	page, err := k.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	if page.Continue == "" {
		t.Fatal("the first page has no continue token")
	}
	create(t, k, "after-the-page")
	c.Compact()

	_, err = k.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{Limit: 2, Continue: page.Continue})
	if !apierrors.IsResourceExpired(err) {
		t.Errorf("the second page after compaction: %v, want 410 Expired", err)
	}
	watch, err := k.CoreV1().ConfigMaps("default").Watch(t.Context(), metav1.ListOptions{ResourceVersion: old.ResourceVersion})
	if err == nil {
		defer watch.Stop()
		event := <-watch.ResultChan()
		err = apierrors.FromObject(event.Object)
	}
	if !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
		t.Errorf("watching from before the compaction: %v, want 410", err)
	}
}

func TestControllerManagerDeletesNamespaces(t *testing.T) {
	c := testenv.StartCluster(t, testenv.WithControllerManager())
	k := client(t, c)
	if _, err := k.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "doomed"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := k.CoreV1().Namespaces().Delete(t.Context(), "doomed", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for {
		_, err := k.CoreV1().Namespaces().Get(t.Context(), "doomed", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the namespace is still there after a minute: %v", err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func TestClusterLeavesNothingBehind(t *testing.T) {
	var folder string
	var pid int
	t.Run("a test with a cluster", func(t *testing.T) {
		c := testenv.StartCluster(t)
		folder, pid = c.Dir(), c.APIServerPID()
	})
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("the cluster's folder %s: %v, want it removed", folder, err)
	}
	if process, err := os.FindProcess(pid); err == nil && process.Signal(sigNone) == nil {
		t.Errorf("the API server, process %d, still runs", pid)
	}
}
