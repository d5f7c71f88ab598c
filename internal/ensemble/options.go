package ensemble

import (
	"crypto/tls"
	"time"
)

// Options say which ensemble, and how to sign in.
type Options struct {
	// Servers are host:port of its members.
	Servers []string
	// Chroot is put before every path; empty: none.
	Chroot string
	// SessionTimeout asked for; the servers bound it. 0: DefaultSessionTimeout.
	SessionTimeout time.Duration
	// TLS to the servers; nil: plain.
	TLS *tls.Config
	// Username and Password of digest authentication; empty: none.
	Username, Password string
}

// DefaultSessionTimeout is long enough to ride out the election of a leader.
const DefaultSessionTimeout = 30 * time.Second
