package testcluster

import (
	"fmt"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// Kubeconfig is a kubeconfig with one context, named like the cluster, that
// reaches what the configuration reaches (address, authority, token). It can be
// the content of a Secret of a KubernetesCluster.
func Kubeconfig(name string, config *rest.Config) ([]byte, error) {
	kubeconfig := api.NewConfig()
	kubeconfig.Clusters[name] = &api.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	kubeconfig.AuthInfos[name] = &api.AuthInfo{Token: config.BearerToken}
	kubeconfig.Contexts[name] = &api.Context{Cluster: name, AuthInfo: name}
	kubeconfig.CurrentContext = name
	content, err := clientcmd.Write(*kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("encoding the kubeconfig of %s: %w", name, err)
	}
	return content, nil
}

// Kubeconfig is the cluster's own kubeconfig, for cluster-admin.
func (c *Cluster) Kubeconfig() ([]byte, error) { return Kubeconfig(c.config.Name, c.RESTConfig()) }

// WriteKubeconfig writes it to a file; without a path into Dir. It returns the
// path.
func (c *Cluster) WriteKubeconfig(path string) (string, error) {
	if path == "" {
		path = c.path("kubeconfig")
	}
	return path, WriteKubeconfig(path, c.config.Name, c.RESTConfig())
}
