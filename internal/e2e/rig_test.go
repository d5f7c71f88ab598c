package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/afterimage-dr/afterimage/internal/faultproxy"
	"github.com/afterimage-dr/afterimage/internal/status"
	"github.com/afterimage-dr/afterimage/internal/testcluster"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// rig is one afterimage run between two clusters, with a way to each that can be cut.
type rig struct {
	dir, binary         string
	source, destination *clusterSide
	// args and env are added to every start.
	args, env []string
	// member tells processes that share the manifests apart; each has a data
	// directory and a log of its own.
	member string

	mu   sync.Mutex
	cmd  *exec.Cmd
	exit chan error
}

// reached is a cluster and the way the binary under test takes to it.
type reached struct {
	*testcluster.Cluster
	proxy *faultproxy.TCP
}

func (r *reached) down() {
	_ = r.proxy.Refuse(true)
	r.proxy.Cut()
}

func (r *reached) up() { _ = r.proxy.Refuse(false) }

// throughProxy is the cluster's client configuration, by way of the proxy.
func (r *reached) throughProxy() *rest.Config {
	c := rest.CopyConfig(r.RESTConfig())
	c.Host = "https://" + r.proxy.Addr()
	return c
}

func newRig(dir, binary string, source, destination *testcluster.Cluster) (*rig, error) {
	r := &rig{dir: dir, binary: binary}
	for _, s := range []struct {
		name    string
		cluster *testcluster.Cluster
		to      **clusterSide
	}{{"source", source, &r.source}, {"destination", destination, &r.destination}} {
		proxy, err := faultproxy.NewTCP(strings.TrimPrefix(s.cluster.URL(), "https://"))
		if err != nil {
			return nil, err
		}
		side, err := newSide(&reached{Cluster: s.cluster, proxy: proxy})
		if err != nil {
			return nil, err
		}
		*s.to = side
		if err := testcluster.WriteKubeconfig(filepath.Join(dir, s.name+".kubeconfig"), s.name, side.cluster.throughProxy()); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func newSide(c *reached) (*clusterSide, error) {
	cfg := rest.CopyConfig(c.RESTConfig())
	cfg.QPS = -1
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	d, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, err
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(d))
	expand := restmapper.NewShortcutExpander(mapper, d, nil)
	return &clusterSide{cluster: c, client: client, find: func(name string) (schema.GroupVersionResource, bool, error) {
		return find(expand, mapper.Reset, name)
	}}, nil
}

// find resolves "configmaps", "deployments.apps" or "Widget.example.com".
func find(m interface {
	KindsFor(schema.GroupVersionResource) ([]schema.GroupVersionKind, error)
	ResourcesFor(schema.GroupVersionResource) ([]schema.GroupVersionResource, error)
}, reset func(), name string,
) (schema.GroupVersionResource, bool, error) {
	resource, group, _ := strings.Cut(name, ".")
	rs, err := m.ResourcesFor(schema.GroupVersionResource{Group: group, Resource: strings.ToLower(resource)})
	if err != nil || len(rs) == 0 {
		reset()
		rs, err = m.ResourcesFor(schema.GroupVersionResource{Group: group, Resource: strings.ToLower(resource)})
	}
	if err != nil {
		return schema.GroupVersionResource{}, false, err
	}
	gvr := rs[0]
	clusterScoped := map[string]bool{"namespaces": true, "customresourcedefinitions": true, "clusterroles": true, "validatingwebhookconfigurations": true, "validatingadmissionpolicies": true, "validatingadmissionpolicybindings": true, "persistentvolumes": true}
	return gvr, !clusterScoped[gvr.Resource], nil
}

func (r *rig) side(which string) *clusterSide {
	if which == "source" {
		return r.source
	}
	return r.destination
}

func (r *rig) dataDir() string     { return filepath.Join(r.dir, "data"+r.member) }
func (r *rig) manifestDir() string { return filepath.Join(r.dir, "manifests") }
func (r *rig) logFile() string     { return filepath.Join(r.dir, "afterimage"+r.member+".log") }

const assets = `apiVersion: assets.astronetes.io/v1alpha1
kind: KubernetesCluster
metadata:
  name: source
spec:
  kubeconfigFile: ../source.kubeconfig
---
apiVersion: assets.astronetes.io/v1alpha1
kind: KubernetesCluster
metadata:
  name: destination
spec:
  kubeconfigFile: ../destination.kubeconfig
`

// writeManifests replaces what the binary reads, as an editor does: by renaming.
func (r *rig) writeManifests(content string) error {
	if err := os.MkdirAll(r.manifestDir(), 0o755); err != nil {
		return err
	}
	for name, text := range map[string]string{"00-clusters.yaml": assets, "10-livesynchronization.yaml": content} {
		file := filepath.Join(r.manifestDir(), name)
		if err := os.WriteFile(file+".tmp", []byte(text), 0o600); err != nil {
			return err
		}
		if err := os.Rename(file+".tmp", file); err != nil {
			return err
		}
	}
	return nil
}

// start runs the binary and returns when it answers.
func (r *rig) start(env ...string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	log, err := os.OpenFile(r.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	r.cmd = exec.Command(r.binary, append([]string{"run", "-f", r.manifestDir(), "--data-dir", r.dataDir()}, r.args...)...)
	r.cmd.Env = append(append(os.Environ(), r.env...), env...)
	r.cmd.Stderr, r.cmd.Stdout = log, log
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := r.cmd.Start(); err != nil {
		return err
	}
	exit := make(chan error, 1)
	r.exit = exit
	cmd := r.cmd
	go func() { exit <- cmd.Wait(); close(exit) }()
	return nil
}

// signal sends a signal to the process.
func (r *rig) signal(s syscall.Signal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cmd == nil {
		return errors.New("not running")
	}
	return r.cmd.Process.Signal(s)
}

// stopped tells whether the process is stopped in its tracks (SIGSTOP).
func (r *rig) stopped() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cmd == nil {
		return errors.New("not running")
	}
	return stoppedProcess(r.cmd)
}

func stoppedProcess(cmd *exec.Cmd) error {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
	if err != nil {
		return err
	}
	// The state follows the name in parentheses.
	_, after, _ := strings.Cut(string(b), ") ")
	if !strings.HasPrefix(after, "T") {
		return fmt.Errorf("the process is in state %.1s, not stopped", after)
	}
	return nil
}

// kill is SIGKILL, and waits until the process is gone. It says whether there was one.
func (r *rig) kill() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cmd == nil {
		return false
	}
	_ = r.cmd.Process.Kill()
	<-r.exit
	r.cmd = nil
	return true
}

// exited returns a channel that is closed when the process has ended by itself.
func (r *rig) exited() <-chan error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.exit
}

// stop is SIGTERM; the process must end by itself, with status 0, within 15 s.
func (r *rig) stop() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cmd == nil {
		return errors.New("not running")
	}
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-r.exit:
		r.cmd = nil
		if err != nil {
			return fmt.Errorf("after SIGTERM: %w", err)
		}
		return nil
	case <-time.After(15 * time.Second):
		_ = r.cmd.Process.Kill()
		<-r.exit
		r.cmd = nil
		return errors.New("still running 15 s after SIGTERM")
	}
}

// status asks the process for its (first) LiveSynchronization, with what the
// process says of its manifests as a condition.
func (r *rig) status() (v1alpha1.LiveSynchronizationStatus, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	p, err := status.Get(ctx, r.dataDir())
	if err != nil {
		return v1alpha1.LiveSynchronizationStatus{}, err
	}
	if len(p.LiveSynchronizations) == 0 {
		return v1alpha1.LiveSynchronizationStatus{}, errors.New("no LiveSynchronization in the status")
	}
	s := p.LiveSynchronizations[0].Status
	valid := metav1.Condition{Type: "ManifestsValid", Status: metav1.ConditionTrue}
	if p.Manifests.Error != "" {
		valid.Status, valid.Message = metav1.ConditionFalse, p.Manifests.Error
	}
	s.Conditions = append(s.Conditions, valid)
	return s, nil
}

// close ends everything and removes what the test made in both clusters.
func (r *rig) close(failed bool, say func(...any)) {
	if failed && r.signal(syscall.SIGQUIT) == nil { // what it is doing goes to its log
		select {
		case <-r.exited():
		case <-time.After(3 * time.Second):
		}
	}
	r.kill()
	for _, s := range []*clusterSide{r.source, r.destination} {
		if s == nil {
			continue
		}
		_ = s.cluster.proxy.Close()
		if err := s.clean(); err != nil {
			say("cleaning up: ", err)
		}
	}
	if failed {
		if b, err := os.ReadFile(r.logFile()); err == nil {
			say("log kept in ", saveLog(b))
		}
	}
}

func saveLog(b []byte) string {
	f, err := os.CreateTemp("", "afterimage-failure-*.log")
	if err != nil {
		return err.Error()
	}
	_, _ = f.Write(b)
	_ = f.Close()
	return f.Name()
}

// clean removes the cluster-scoped objects the script made, and with the
// namespaces all that is in them. Other scripts may be using the cluster.
func (s *clusterSide) clean() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for gvr, names := range s.made {
		for name := range names {
			if err := s.client.Resource(gvr).Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				errs = append(errs, err)
			}
		}
	}
	// Until they are really gone, the next test's pipeline would track them, and
	// see them vanish.
	for gvr, names := range s.made {
		for name := range names {
			errs = append(errs, eventually(time.Minute, func() error {
				_, err := s.client.Resource(gvr).Get(ctx, name, metav1.GetOptions{})
				if apierrors.IsNotFound(err) {
					return nil
				}
				return fmt.Errorf("%s %s is still there (%v)", gvr.Resource, name, err)
			}))
		}
	}
	return errors.Join(errs...)
}

// note remembers a cluster-scoped object for clean.
func (s *clusterSide) note(gvr schema.GroupVersionResource, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made == nil {
		s.made = map[schema.GroupVersionResource]map[string]bool{}
	}
	if s.made[gvr] == nil {
		s.made[gvr] = map[string]bool{}
	}
	s.made[gvr][name] = true
}
