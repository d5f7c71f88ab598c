package pipeline

import (
	"crypto/sha256"
	"fmt"

	"k8s.io/client-go/rest"
)

// fingerprint tells whether two configurations reach the same cluster in the
// same way. It is a digest, so that no credential is kept twice.
func fingerprint(c *rest.Config) [sha256.Size]byte {
	if c == nil {
		return [sha256.Size]byte{}
	}
	h := sha256.New()
	for _, v := range []any{
		c.Host, c.APIPath, c.Username, c.Password, c.BearerToken, c.BearerTokenFile,
		c.Impersonate.UserName, c.Impersonate.UID, c.Impersonate.Groups,
		c.Insecure, c.ServerName, c.CertFile, c.KeyFile, c.CAFile,
		c.CertData, c.KeyData, c.CAData,
		c.ExecProvider, c.AuthProvider,
		c.QPS, c.Burst, c.Timeout,
	} {
		_, _ = fmt.Fprintf(h, "%v\x00", v)
	}
	return [sha256.Size]byte(h.Sum(nil))
}
