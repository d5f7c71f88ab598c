package testcluster

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"k8s.io/client-go/rest"
)

func randomToken() (string, error) {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("drawing a token: %w", err)
	}
	return hex.EncodeToString(b), nil
}

func (c *Cluster) binary(name string) string { return filepath.Join(c.config.Assets, name) }

// childEnvironment keeps proxies and Kubernetes variables of the caller away
// from the servers, which talk to loopback only.
func childEnvironment(c *Cluster) []string {
	return []string{"HOME=" + c.config.Dir, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir()}
}

func (c *Cluster) etcdURL() string { return "http://" + c.etcdPort.address() }

func (c *Cluster) startEtcd(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	peer := "http://" + c.peerPort.address()
	err := c.etcd.start(childEnvironment(c), c.binary("etcd"),
		"--name=default",
		"--data-dir="+c.path("etcd"),
		"--listen-client-urls="+c.etcdURL(),
		"--advertise-client-urls="+c.etcdURL(),
		"--listen-peer-urls="+peer,
		"--initial-advertise-peer-urls="+peer,
		"--initial-cluster=default="+peer,
		// The data is thrown away: only SIGKILL must be survived, and what was
		// written to the page cache survives it.
		"--unsafe-no-fsync",
		"--quota-backend-bytes="+strconv.FormatInt(8<<30, 10),
		"--log-level=warn",
	)
	if err != nil {
		return err
	}
	return c.etcd.await(ctx, func(ctx context.Context) error {
		return get(ctx, http.DefaultClient, c.etcdURL()+"/health", "")
	})
}

func (c *Cluster) startAPIServer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	args := []string{
		"--etcd-servers=" + c.etcdURL(),
		"--bind-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(c.apiPort.number),
		"--tls-cert-file=" + c.path("pki", "server.crt"),
		"--tls-private-key-file=" + c.path("pki", "server.key"),
		"--client-ca-file=" + c.path("pki", "ca.crt"),
		"--token-auth-file=" + c.path("pki", "tokens.csv"),
		"--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + c.path("pki", "server.crt"),
		"--service-account-signing-key-file=" + c.path("pki", "server.key"),
		"--service-cluster-ip-range=10.0.0.0/16",
		"--etcd-compaction-interval=" + c.config.CompactionInterval.String(),
		// The loopback address is no valid endpoint of the kubernetes Service.
		"--endpoint-reconciler-type=none",
		"--allow-privileged=true",
		"--profiling=false",
	}
	if !c.config.ControllerManager {
		// Nobody makes the ServiceAccounts without which Pods are refused.
		args = append(args, "--disable-admission-plugins=ServiceAccount")
	}
	if c.config.WithoutWatchCache {
		args = append(args, "--watch-cache=false")
	}
	args = append(args, c.config.APIServerArgs...)
	if err := c.api.start(childEnvironment(c), c.binary("kube-apiserver"), args...); err != nil {
		return err
	}
	client := c.httpClient()
	defer client.CloseIdleConnections()
	// The namespaces are made by a controller that readyz does not wait for;
	// the identity of a cluster is the UID of kube-system.
	for _, path := range []string{
		"/readyz", "/api/v1/namespaces/kube-system", "/api/v1/namespaces/default",
		"/api/v1/namespaces/kube-public", "/api/v1/namespaces/kube-node-lease",
	} {
		err := c.api.await(ctx, func(ctx context.Context) error {
			return get(ctx, client, c.URL()+path, c.token)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) startControllerManager(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	kubeconfig := c.path("controller-manager.kubeconfig")
	if err := WriteKubeconfig(kubeconfig, c.config.Name, c.RESTConfig()); err != nil {
		return err
	}
	err := c.kcm.start(childEnvironment(c), c.binary("kube-controller-manager"),
		"--kubeconfig="+kubeconfig,
		"--bind-address=127.0.0.1",
		"--secure-port="+strconv.Itoa(c.kcmPort.number),
		"--cert-dir="+c.path("pki"),
		"--authentication-skip-lookup=true",
		"--leader-elect=false",
		"--service-account-private-key-file="+c.path("pki", "server.key"),
		"--root-ca-file="+c.path("pki", "ca.crt"),
		"--kube-api-qps=300",
		"--kube-api-burst=600",
	)
	if err != nil {
		return err
	}
	client := c.httpClient()
	defer client.CloseIdleConnections()
	return c.kcm.await(ctx, func(ctx context.Context) error {
		return get(ctx, client, c.URL()+"/api/v1/namespaces/default/serviceaccounts/default", c.token)
	})
}

func (c *Cluster) httpClient() *http.Client {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.caPEM)
	return &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}},
	}
}

// get is nil when the URL answers 200.
func get(ctx context.Context, client *http.Client, url, token string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, response.Body)
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, response.Status)
	}
	return nil
}

// WriteKubeconfig writes a kubeconfig with one context, named like the cluster,
// that reaches what the configuration reaches. Mode 0600.
func WriteKubeconfig(path, name string, config *rest.Config) error {
	content, err := Kubeconfig(name, config)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return fmt.Errorf("writing the kubeconfig of %s: %w", name, err)
	}
	return nil
}
