package testcluster

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/afterimage-dr/afterimage/internal/testcert"
)

// zooKeeperTLS is what the servers of an ensemble serve TLS with.
type zooKeeperTLS struct {
	authority *testcert.Authority
	serving   testcert.Pair
}

func newZooKeeperTLS() (*zooKeeperTLS, error) {
	authority, err := testcert.NewAuthority("afterimage test ZooKeeper")
	if err != nil {
		return nil, err
	}
	serving, err := authority.Serve()
	if err != nil {
		return nil, err
	}
	return &zooKeeperTLS{authority: authority, serving: serving}, nil
}

const (
	zooKeeperKeyStore   = "server.pem"
	zooKeeperTrustStore = "ca.pem"
)

// write puts key and certificates where settings says.
func (t *zooKeeperTLS) write(folder string) error {
	for name, content := range map[string][]byte{
		zooKeeperKeyStore:   slices.Concat(t.serving.Key, t.serving.Certificate),
		zooKeeperTrustStore: t.authority.PEM,
	} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			return fmt.Errorf("writing the ZooKeeper server's certificate: %w", err)
		}
	}
	return nil
}

// settings open the port. Only the server's Netty transport can do TLS.
func (t *zooKeeperTLS) settings(folder string, port int, requireClientCertificate bool) map[string]string {
	clientAuth := "none"
	if requireClientCertificate {
		clientAuth = "need"
	}
	return map[string]string{
		"serverCnxnFactory":       "org.apache.zookeeper.server.NettyServerCnxnFactory",
		"secureClientPort":        strconv.Itoa(port),
		"secureClientPortAddress": "127.0.0.1",
		"ssl.clientAuth":          clientAuth,
		"ssl.keyStore.location":   filepath.Join(folder, zooKeeperKeyStore),
		"ssl.keyStore.type":       "PEM",
		"ssl.trustStore.location": filepath.Join(folder, zooKeeperTrustStore),
		"ssl.trustStore.type":     "PEM",
	}
}
