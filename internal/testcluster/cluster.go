package testcluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/rest"

	"github.com/afterimage-dr/afterimage/internal/testcert"
)

// startTimeout bounds each start and restart. A server is up in about 5 s on two
// idle cores; tests of many packages share them.
const startTimeout = 2 * time.Minute

// Config is what a cluster is started with. The zero value is fine.
type Config struct {
	// Name is used in kubeconfigs and errors. Default "cluster".
	Name string
	// Dir holds data, logs and certificates. Default: a new temporary folder,
	// removed by Stop; a folder given here is kept.
	Dir string
	// Assets is the folder of the binaries. Default: what Assets finds.
	Assets string
	// ControllerManager also starts kube-controller-manager: namespaces are then
	// really deleted, garbage collected, and Deployments get ReplicaSets and
	// Pods (which nothing runs).
	ControllerManager bool
	// CompactionInterval is how often the API server compacts etcd; older
	// resource versions and continue tokens then end in 410. Default: never.
	CompactionInterval time.Duration
	// WithoutWatchCache has every list and watch served from etcd itself, so that
	// Compact makes older resource versions expire at once.
	WithoutWatchCache bool
	// APIServerArgs are added to the API server's flags; the last of a flag
	// given twice counts.
	APIServerArgs []string
	// Progress receives what is being built when binaries are missing. Default:
	// standard error.
	Progress io.Writer
}

// Cluster is a running one. Its methods are safe for concurrent use.
type Cluster struct {
	config   Config
	ownsDir  bool
	token    string
	caPEM    []byte
	etcdPort *port
	peerPort *port
	apiPort  *port
	kcmPort  *port

	// mu orders starts and stops; reading methods do not need it.
	mu   sync.Mutex
	etcd *process
	api  *process
	kcm  *process
}

// Start starts a cluster and returns once it answers. ctx bounds the start only;
// end the cluster with Stop.
func Start(ctx context.Context, config Config) (_ *Cluster, err error) {
	if config.Name == "" {
		config.Name = "cluster"
	}
	if config.Assets == "" {
		if config.Assets, err = Assets(ctx, config.Progress); err != nil {
			return nil, err
		}
	}
	c := &Cluster{config: config}
	if config.Dir == "" {
		if c.config.Dir, err = os.MkdirTemp("", "afterimage-cluster-"); err != nil {
			return nil, fmt.Errorf("making the cluster's folder: %w", err)
		}
		c.ownsDir = true
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Stop())
		}
	}()
	if err = c.prepare(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err = c.startAll(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// prepare takes the ports and writes certificates, keys and the token.
func (c *Cluster) prepare() error {
	for _, p := range []**port{&c.etcdPort, &c.peerPort, &c.apiPort, &c.kcmPort} {
		taken, err := takePort()
		if err != nil {
			return err
		}
		*p = taken
	}
	for _, folder := range []string{c.config.Dir, c.path("pki"), c.path("logs")} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return fmt.Errorf("making the cluster's folders: %w", err)
		}
	}
	if err := c.writeCredentials(); err != nil {
		return err
	}
	c.etcd = &process{name: "etcd of " + c.config.Name, logFile: c.path("logs", "etcd.log")}
	c.api = &process{name: "kube-apiserver of " + c.config.Name, logFile: c.path("logs", "kube-apiserver.log")}
	c.kcm = &process{name: "kube-controller-manager of " + c.config.Name, logFile: c.path("logs", "kube-controller-manager.log")}
	return nil
}

func (c *Cluster) writeCredentials() error {
	authority, err := testcert.NewAuthority(c.config.Name)
	if err != nil {
		return err
	}
	serving, err := authority.Serve()
	if err != nil {
		return err
	}
	if c.token, err = randomToken(); err != nil {
		return err
	}
	c.caPEM = authority.PEM
	for name, content := range map[string][]byte{
		"ca.crt":     authority.PEM,
		"server.crt": serving.Certificate,
		"server.key": serving.Key,
		"tokens.csv": []byte(c.token + `,admin,admin,"system:masters"` + "\n"),
	} {
		if err := os.WriteFile(c.path("pki", name), content, 0o600); err != nil {
			return fmt.Errorf("writing the cluster's credentials: %w", err)
		}
	}
	return nil
}

func (c *Cluster) path(parts ...string) string {
	return filepath.Join(append([]string{c.config.Dir}, parts...)...)
}

// startAll starts what the configuration asks for, in order. The caller holds mu.
func (c *Cluster) startAll(ctx context.Context) error {
	if err := c.startEtcd(ctx); err != nil {
		return err
	}
	if err := c.startAPIServer(ctx); err != nil {
		return err
	}
	if c.config.ControllerManager {
		return c.startControllerManager(ctx)
	}
	return nil
}

// Stop ends all servers and removes the data unless Config.Dir was given. It may
// be called more than once.
func (c *Cluster) Stop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, p := range []*process{c.kcm, c.api, c.etcd} {
		if p != nil {
			errs = append(errs, p.kill())
		}
	}
	for _, p := range []*port{c.etcdPort, c.peerPort, c.apiPort, c.kcmPort} {
		p.release()
	}
	if c.ownsDir {
		errs = append(errs, os.RemoveAll(c.config.Dir))
	}
	return errors.Join(errs...)
}

// StopAPIServer ends the API server as a crash would: connections break, etcd
// stays.
func (c *Cluster) StopAPIServer() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.api.kill()
}

// StartAPIServer starts the API server again on the same port and returns once
// it answers.
func (c *Cluster) StartAPIServer(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.startAPIServer(ctx)
}

// Freeze stops the API server in its tracks (SIGSTOP): connections stay open and
// new ones are accepted by the kernel, but nothing is answered.
func (c *Cluster) Freeze() error { return c.api.signal(syscall.SIGSTOP) }

// Thaw lets a frozen API server go on.
func (c *Cluster) Thaw() error { return c.api.signal(syscall.SIGCONT) }

// Name is the configured one.
func (c *Cluster) Name() string { return c.config.Name }

// Dir holds the cluster's data, logs and certificates.
func (c *Cluster) Dir() string { return c.config.Dir }

// Addr is host:port of the API server.
func (c *Cluster) Addr() string { return c.apiPort.address() }

// URL is where the API server listens.
func (c *Cluster) URL() string { return "https://" + c.Addr() }

// APIServerPID is the process ID of the API server, 0 while it is stopped.
func (c *Cluster) APIServerPID() int { return c.api.pid() }

// RESTConfig is a new configuration for cluster-admin, without client-side rate
// limits.
func (c *Cluster) RESTConfig() *rest.Config {
	return &rest.Config{
		Host:            c.URL(),
		BearerToken:     c.token,
		TLSClientConfig: rest.TLSClientConfig{CAData: c.caPEM},
		QPS:             -1,
	}
}
