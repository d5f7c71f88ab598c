package manifest

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"path"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/afterimage-dr/afterimage/internal/ensemble"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// The limits of a session's timeout: below, a pause of the garbage collector
// looks like a death; above, a server that hangs is waited for too long.
const (
	minSessionTimeout = time.Second
	maxSessionTimeout = 10 * time.Minute
)

// reservedTree is ZooKeeper's own: its quotas and its configuration.
const reservedTree = "/zookeeper"

// ensembleOf checks how a Database is reached and prepares it; nil where that
// cannot be told.
func (c *checker) ensembleOf(it *item) (*ensemble.Options, Errors) {
	spec := it.database.Spec.Zookeeper
	at := field.NewPath("spec")
	if it.kind == v1alpha1.KindDatabase {
		at = at.Child("zookeeper")
	}
	errs := it.fieldErrors(ValidateZookeeper(&spec, at))
	o := &ensemble.Options{
		Servers: spec.Client.Servers, Chroot: strings.TrimSuffix(spec.Client.Chroot, "/"), SessionTimeout: v1alpha1.DefaultSessionTimeout,
	}
	if spec.SessionTimeout != nil {
		o.SessionTimeout = spec.SessionTimeout.Duration
	}
	errs = append(errs, c.login(it, at.Child("secretName").String(), spec.SecretName, o)...)
	errs = append(errs, c.encryption(it, at.Child("client", "tls", "secretName").String(), spec.Client.TLS, o)...)
	if len(errs) > 0 {
		return nil, errs
	}
	return o, nil
}

// ValidateZookeeper checks what needs no other object and no schema can say. The
// operator calls it too.
func ValidateZookeeper(spec *v1alpha1.ZookeeperSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, server := range spec.Client.Servers {
		_, port, _ := net.SplitHostPort(server) // by the schema it has both
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			errs = append(errs, field.Invalid(at.Child("client", "servers").Index(i), server, "expected host:port with a port from 1 to 65535"))
		}
	}
	if inside(spec.Client.Chroot, reservedTree) {
		errs = append(errs, field.Invalid(at.Child("client", "chroot"), spec.Client.Chroot, "expected a path outside of /zookeeper, which is ZooKeeper's own"))
	}
	if t := spec.SessionTimeout; t != nil && (t.Duration < minSessionTimeout || t.Duration > maxSessionTimeout) {
		errs = append(errs, field.Invalid(at.Child("sessionTimeout"), t.Duration.String(), fmt.Sprintf("expected a duration from %s to %s", minSessionTimeout, maxSessionTimeout)))
	}
	return errs
}

// login reads the name and password of a Secret.
func (c *checker) login(it *item, at, name string, o *ensemble.Options) Errors {
	if name == "" {
		return nil
	}
	if errs := c.secretKeys(it, at, name, v1alpha1.DatabaseUsernameKey, v1alpha1.DatabasePasswordKey); len(errs) > 0 {
		return errs
	}
	holder, _ := c.secretFor(it, at, name)
	if holder == nil {
		return nil // its own error is said already
	}
	// Many files end with a newline, no password does.
	o.Username = string(bytes.TrimRight(holder.Data[v1alpha1.DatabaseUsernameKey], "\r\n"))
	o.Password = string(bytes.TrimRight(holder.Data[v1alpha1.DatabasePasswordKey], "\r\n"))
	if strings.Contains(o.Username, ":") {
		return Errors{it.errorAt(at, fmt.Sprintf("key %s of Secret %s: expected a name without a colon, which ends the name in digest authentication", v1alpha1.DatabaseUsernameKey, name))}
	}
	return nil
}

// encryption reads the certificates of a Secret.
func (c *checker) encryption(it *item, at string, spec *v1alpha1.ZookeeperTLS, o *ensemble.Options) Errors {
	if spec == nil || !spec.Enabled {
		return nil
	}
	o.TLS = &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: spec.InsecureSkipVerify,
	}
	if spec.SecretName == "" {
		return nil
	}
	holder, errs := c.secretFor(it, at, spec.SecretName)
	if holder == nil {
		return errs
	}
	if err := certificates(holder, o.TLS); err != nil {
		return Errors{it.errorAt(at, "Secret "+spec.SecretName+": "+err.Error())}
	}
	return nil
}

// certificates puts those of a Secret into a configuration. What is wrong with a
// key is not shown: the error could hold a part of it.
func certificates(holder *corev1.Secret, config *tls.Config) error {
	ca, certificate, key := holder.Data[v1alpha1.DatabaseCAKey], holder.Data[v1alpha1.DatabaseCertificateKey], holder.Data[v1alpha1.DatabaseKeyKey]
	if len(ca)+len(certificate)+len(key) == 0 {
		return fmt.Errorf("expected the key %s, or %s and %s, or all three", v1alpha1.DatabaseCAKey, v1alpha1.DatabaseCertificateKey, v1alpha1.DatabaseKeyKey)
	}
	if len(ca) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(ca) {
			return fmt.Errorf("key %s: expected at least one certificate in PEM", v1alpha1.DatabaseCAKey)
		}
	}
	switch {
	case len(certificate) == 0 && len(key) == 0:
		return nil
	case len(key) == 0:
		return fmt.Errorf("lacks the key %s: expected it beside %s", v1alpha1.DatabaseKeyKey, v1alpha1.DatabaseCertificateKey)
	case len(certificate) == 0:
		return fmt.Errorf("lacks the key %s: expected it beside %s", v1alpha1.DatabaseCertificateKey, v1alpha1.DatabaseKeyKey)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return fmt.Errorf("keys %s and %s: expected a certificate and its private key in PEM", v1alpha1.DatabaseCertificateKey, v1alpha1.DatabaseKeyKey)
	}
	config.Certificates = []tls.Certificate{pair}
	return nil
}

// inside tells whether a path is a tree's root or below it.
func inside(p, tree string) bool {
	p = path.Clean("/" + p)
	return tree == "/" || p == tree || strings.HasPrefix(p, tree+"/")
}
