// Package ensemble is how a ZooKeeper ensemble is reached.
package ensemble

import (
	"crypto/tls"
	"time"
)

// Options says how to reach an ensemble.
type Options struct {
	// Servers as host:port.
	Servers []string
	// Chroot is put before every path; empty: none.
	Chroot string
	// SessionTimeout to ask for.
	SessionTimeout time.Duration
	// TLS of the connections; nil: plain.
	TLS *tls.Config
	// Username and Password sign in by digest authentication; empty: nobody does.
	Username, Password string
}
