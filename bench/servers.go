package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/afterimage-dr/afterimage/internal/testcluster"
)

// workers of the bare client.
const workers = 32

type bench struct {
	options             options
	dir, binary         string
	source, destination *testcluster.Cluster
	src, dst            *kubernetes.Clientset
}

func newBench(ctx context.Context, o options) (_ *bench, err error) {
	b := &bench{options: o}
	if b.dir, err = os.MkdirTemp("", "afterimage-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	b.binary = filepath.Join(b.dir, "afterimage")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", b.binary, "github.com/afterimage-dr/afterimage").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building: %w\n%s", err, out)
	}
	if !slices.ContainsFunc(o.only, func(section string) bool { return section != "zookeeper" }) {
		return b, nil
	}
	say("starting two API servers")
	var errs [2]error
	var wg sync.WaitGroup
	wg.Go(func() { b.source, errs[0] = testcluster.Start(ctx, testcluster.Config{Name: "source"}) })
	wg.Go(func() { b.destination, errs[1] = testcluster.Start(ctx, testcluster.Config{Name: "destination"}) })
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	if b.src, err = clientset(b.source); err != nil {
		return nil, err
	}
	b.dst, err = clientset(b.destination)
	return b, err
}

// clientset is the ordinary typed client without a limit of its own.
func clientset(c *testcluster.Cluster) (*kubernetes.Clientset, error) {
	cfg := rest.CopyConfig(c.RESTConfig())
	cfg.QPS = -1
	return kubernetes.NewForConfig(cfg)
}

func (b *bench) close() error {
	var errs []error
	for _, c := range []*testcluster.Cluster{b.source, b.destination} {
		if c != nil {
			errs = append(errs, c.Stop())
		}
	}
	return errors.Join(append(errs, os.RemoveAll(b.dir))...)
}

// namespace makes a namespace on both sides.
func (b *bench) namespace(ctx context.Context, name string) error {
	for _, c := range []*kubernetes.Clientset{b.src, b.dst} {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"bench": name}}}
		if _, err := c.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// fill creates ConfigMaps from..to of 1 KiB in the source.
func (b *bench) fill(ctx context.Context, ns string, from, to int) error {
	say("filling the source with %d ConfigMaps", to-from)
	return parallel(ctx, from, to, func(ctx context.Context, i int) error {
		_, err := b.src.CoreV1().ConfigMaps(ns).Create(ctx, configMap(ns, i, 0), metav1.CreateOptions{})
		return err
	})
}

func configMap(ns string, i, state int) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: fmt.Sprintf("config-%06d", i), Labels: map[string]string{"app": "bench"}},
		Data:       map[string]string{"state": fmt.Sprint(state), "body": strings.Repeat(fmt.Sprintf("%08d", i), 128)},
	}
}

// parallel does n calls with the bare client's number of workers.
func parallel(ctx context.Context, from, to int, do func(context.Context, int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range next {
				if err := do(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := from; i < to && ctx.Err() == nil; i++ {
		next <- i
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}

// count is the number of ConfigMaps in a namespace, by a list of one.
func count(ctx context.Context, c *kubernetes.Clientset, ns string) (int, error) {
	l, err := c.CoreV1().ConfigMaps(ns).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return 0, err
	}
	n := len(l.Items)
	if l.RemainingItemCount != nil {
		n += int(*l.RemainingItemCount)
	}
	return n, nil
}

// awaitCount waits for a number of ConfigMaps at the destination.
func (b *bench) awaitCount(ctx context.Context, ns string, want int, process *process) error {
	deadline := time.Now().Add(10 * time.Minute)
	for {
		n, err := count(ctx, b.dst, ns)
		if err != nil {
			return err
		}
		if n == want {
			return nil
		}
		if process != nil && process.ended() {
			return fmt.Errorf("afterimage ended early; its log ends: %s", process.tail())
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d objects after 10 minutes", n, want)
		}
		time.Sleep(25 * time.Millisecond)
	}
}

// equal compares every ConfigMap of a namespace.
func (b *bench) equal(ctx context.Context, ns string) error {
	src, err := b.src.CoreV1().ConfigMaps(ns).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	dst, err := b.dst.CoreV1().ConfigMaps(ns).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	got := map[string]string{}
	for i := range dst.Items {
		got[dst.Items[i].Name] = fmt.Sprint(dst.Items[i].Data)
	}
	for i := range src.Items {
		if got[src.Items[i].Name] != fmt.Sprint(src.Items[i].Data) {
			return fmt.Errorf("%s/%s is not equal at the destination", ns, src.Items[i].Name)
		}
	}
	if len(src.Items) != len(dst.Items) {
		return fmt.Errorf("%d objects in the source, %d at the destination", len(src.Items), len(dst.Items))
	}
	return nil
}

// empty removes the namespace's ConfigMaps at the destination.
func (b *bench) empty(ctx context.Context, ns string) error {
	return b.dst.CoreV1().ConfigMaps(ns).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
}

// process is a running afterimage.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// afterimage starts the binary for one namespace with a new data directory.
func (b *bench) afterimage(ns, resync string, proxied *rest.Config) (*process, error) {
	return b.afterimageWith(ns, resync, proxied, "")
}

// afterimageWith is afterimage with a bucket at an endpoint; "": none.
func (b *bench) afterimageWith(ns, resync string, proxied *rest.Config, endpoint string) (*process, error) {
	dir, err := os.MkdirTemp(b.dir, "run-")
	if err != nil {
		return nil, err
	}
	manifests := filepath.Join(dir, "manifests")
	if err := os.Mkdir(manifests, 0o755); err != nil {
		return nil, err
	}
	destination := b.destination.RESTConfig()
	if proxied != nil {
		destination = proxied
	}
	if err := testcluster.WriteKubeconfig(filepath.Join(dir, "source"), "source", b.source.RESTConfig()); err != nil {
		return nil, err
	}
	if err := testcluster.WriteKubeconfig(filepath.Join(dir, "destination"), "destination", destination); err != nil {
		return nil, err
	}
	bucketName, bucket := "", ""
	if endpoint != "" {
		bucketName, bucket = "bucketName: originals", fmt.Sprintf(bucketManifest, endpoint)
	}
	if err := os.WriteFile(filepath.Join(manifests, "all.yaml"), fmt.Appendf(nil, manifest, dir, ns, resync, bucketName, bucket), 0o600); err != nil {
		return nil, err
	}
	p := &process{log: filepath.Join(dir, "log"), done: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	p.cmd = exec.Command(b.binary, "run", "-f", manifests, "--data-dir", filepath.Join(dir, "data"))
	p.cmd.Stderr = log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	go func() { _ = p.cmd.Wait(); _ = log.Close(); close(p.done) }()
	return p, nil
}

const manifest = `apiVersion: assets.astronetes.io/v1alpha1
kind: KubernetesCluster
metadata: {name: source}
spec: {kubeconfigFile: %[1]s/source}
---
apiVersion: assets.astronetes.io/v1alpha1
kind: KubernetesCluster
metadata: {name: destination}
spec: {kubeconfigFile: %[1]s/destination}
---
apiVersion: automation.astronetes.io/v1alpha1
kind: LiveSynchronization
metadata: {name: %[2]s}
spec:
  plugin: kubernetes-objects-to-kubernetes
  config:
    sourceName: source
    destinationName: destination
    %[4]s
    replication:
      resyncPeriod: %[3]s
      resources:
        - version: v1
          resource: configmaps
          filters:
            namespaceSelector:
              matchLabels: {bench: %[2]s}
%[5]s`

const bucketManifest = `---
apiVersion: v1
kind: Secret
metadata: {name: originals}
stringData: {accessKeyID: ` + testcluster.S3AccessKey + `, secretAccessKey: ` + testcluster.S3SecretKey + `}
---
apiVersion: assets.astronetes.io/v1alpha1
kind: Bucket
metadata: {name: originals}
spec: {generic: {endpoint: "%s", name: originals, secretName: originals}}
`

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *process) tail() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2000):])
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

func (p *process) status() (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	return string(b), err
}
