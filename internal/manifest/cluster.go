package manifest

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// access is how to reach a cluster.
type access struct {
	config *rest.Config
	// identity is equal for two assets that are the same cluster, whoever signs in.
	identity string
}

// inClusterIdentity cannot be a URL.
const inClusterIdentity = "in cluster"

// accessTo checks how a KubernetesCluster is reached and prepares it.
func (c *checker) accessTo(it *item) (*access, Errors) {
	spec := it.cluster.Spec
	var (
		a    *access
		errs Errors
	)
	switch {
	case spec.InCluster:
		cfg, err := rest.InClusterConfig()
		if err != nil {
			return nil, Errors{it.errorAt("spec.inCluster", "expected to run in a pod of the cluster: "+err.Error())}
		}
		a = &access{config: cfg, identity: inClusterIdentity}
	case spec.KubeconfigFile != "":
		a, errs = c.fromFile(it)
	default:
		a, errs = c.fromSecret(it)
	}
	if a == nil {
		return nil, errs
	}
	a.config.QPS, a.config.Burst = -1, 0
	if spec.QPS > 0 {
		a.config.QPS, a.config.Burst = float32(spec.QPS), int(spec.Burst)
		if spec.Burst == 0 {
			a.config.Burst = 2 * int(spec.QPS)
		}
	}
	a.config.UserAgent = "afterimage"
	return a, nil
}

func (c *checker) fromSecret(it *item) (*access, Errors) {
	spec := it.cluster.Spec
	const at = "spec.secretName"
	holder, errs := c.secretFor(it, at, spec.SecretName)
	if holder == nil {
		return nil, errs
	}
	key, data := kubeconfigIn(holder)
	if data == nil {
		return nil, Errors{it.errorAt(at, fmt.Sprintf("Secret %s holds no kubeconfig: expected one under the key %s", spec.SecretName, strings.Join(v1alpha1.KubeconfigKeys, ", ")))}
	}
	where := fmt.Sprintf("key %s of Secret %s", key, spec.SecretName)
	cfg, err := clientcmd.Load(data)
	if err != nil {
		return nil, Errors{it.errorAt(at, fmt.Sprintf("%s: expected a kubeconfig: %v", where, err))}
	}
	return c.fromKubeconfig(it, at, where, cfg, true)
}

// kubeconfigIn returns the first kubeconfig of a Secret and its key.
func kubeconfigIn(s *corev1.Secret) (string, []byte) {
	for _, key := range v1alpha1.KubeconfigKeys {
		if data := s.Data[key]; len(data) > 0 {
			return key, data
		}
	}
	return "", nil
}

func (c *checker) fromFile(it *item) (*access, Errors) {
	const at = "spec.kubeconfigFile"
	path := it.cluster.Spec.KubeconfigFile
	if !filepath.IsAbs(path) && it.file != stdinName {
		path = filepath.Join(filepath.Dir(it.file), path)
	}
	c.kubeconfigFiles = append(c.kubeconfigFiles, path)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, Errors{it.errorAt(at, fmt.Sprintf("expected the path of a kubeconfig file: %v", err))}
	}
	cfg, err := clientcmd.Load(data)
	if err != nil {
		return nil, Errors{it.errorAt(at, fmt.Sprintf("%s: expected a kubeconfig: %v", path, err))}
	}
	c.content.Write(data)
	for _, cluster := range cfg.Clusters {
		cluster.LocationOfOrigin = path
	}
	for _, user := range cfg.AuthInfos {
		user.LocationOfOrigin = path
	}
	if err := clientcmd.ResolveLocalPaths(cfg); err != nil {
		return nil, Errors{it.errorAt(at, fmt.Sprintf("%s: expected paths that can be resolved: %v", path, err))}
	}
	return c.fromKubeconfig(it, at, path, cfg, false)
}

// fromKubeconfig checks a kubeconfig and prepares its context. One that came in
// a Secret is somebody else's word: it may not make us read files.
func (c *checker) fromKubeconfig(it *item, at, where string, cfg *clientcmdapi.Config, embedded bool) (*access, Errors) {
	fail := func(field, format string, args ...any) (*access, Errors) {
		return nil, Errors{it.errorAt(field, where+": "+fmt.Sprintf(format, args...))}
	}
	name := it.cluster.Spec.Context
	if name != "" {
		at = "spec.context"
	} else if name = cfg.CurrentContext; name == "" {
		return fail(at, "expected a kubeconfig with a current-context, or spec.context to choose one")
	}
	use, ok := cfg.Contexts[name]
	if !ok {
		return fail(at, "expected a kubeconfig with a context %q; it has %s", name, names(cfg.Contexts))
	}
	cluster, ok := cfg.Clusters[use.Cluster]
	if !ok {
		return fail(at, "expected context %q to name a cluster of the kubeconfig; it names %q", name, use.Cluster)
	}
	user := cfg.AuthInfos[use.AuthInfo]
	if user == nil {
		if use.AuthInfo != "" {
			return fail(at, "expected context %q to name a user of the kubeconfig; it names %q", name, use.AuthInfo)
		}
		user = &clientcmdapi.AuthInfo{}
	}
	if (user.Exec != nil || user.AuthProvider != nil) && !c.allowExec {
		return fail(at, "user %q runs a program to sign in (exec or auth-provider): expected a token or certificate, or that afterimage is started with --allow-kubeconfig-exec", use.AuthInfo)
	}
	server, err := url.Parse(cluster.Server)
	if err != nil || (server.Scheme != "https" && server.Scheme != "http") || server.Host == "" {
		return fail(at, "expected the server of cluster %q to be a URL such as https://host:6443", use.Cluster)
	}
	if file := filesIn(cluster, user); embedded && file != "" {
		return fail(at, "%s names a file: expected a kubeconfig that holds everything itself, as kubectl config view --flatten --minify --raw writes it, or spec.kubeconfigFile", file)
	}
	ready, err := clientcmd.NewNonInteractiveClientConfig(*cfg, name, &clientcmd.ConfigOverrides{}, nil).ClientConfig()
	if err != nil {
		return fail(at, "expected a usable kubeconfig: %v", err)
	}
	return &access{config: ready, identity: identityOf(server, cluster)}, nil
}

// identityOf a cluster: its address, and what else decides who answers there.
// Who signs in does not: two users of a cluster see the same cluster.
func identityOf(server *url.URL, c *clientcmdapi.Cluster) string {
	host := strings.ToLower(server.Host)
	if server.Port() == "" {
		host += map[string]string{"http": ":80", "https": ":443"}[server.Scheme]
	}
	return strings.Join([]string{host + strings.TrimRight(server.Path, "/"), c.ProxyURL, c.TLSServerName}, "\x00")
}

// filesIn names the first field that would make us read a file.
func filesIn(c *clientcmdapi.Cluster, u *clientcmdapi.AuthInfo) string {
	for _, f := range [...]struct{ name, value string }{
		{"certificate-authority", c.CertificateAuthority},
		{"client-certificate", u.ClientCertificate},
		{"client-key", u.ClientKey},
		{"tokenFile", u.TokenFile},
	} {
		if f.value != "" {
			return f.name
		}
	}
	return ""
}

// secretFor finds the Secret a field names.
func (c *checker) secretFor(it *item, at, name string) (*corev1.Secret, Errors) {
	key := types.NamespacedName{Namespace: it.key.Namespace, Name: name}
	if found := c.items[kindSecret][key]; found != nil {
		if c.broken[found] {
			return nil, nil // its own error is said already
		}
		return found.secret, nil
	}
	if c.incomplete {
		return nil, nil
	}
	return nil, Errors{it.errorAt(at, c.missing(kindSecret, key))}
}
