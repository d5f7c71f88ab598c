package ensemble

import (
	"bufio"
	"crypto/tls"
	"net"
	"sync/atomic"
	"time"
)

// conn is a connection as the client library uses it, with two differences: many
// small answers are read in one system call, and until the first of them no wait is
// longer than patience (the library waits ten times as long for the answer to its first
// packet, which a server that is stopped would never give).
type conn struct {
	net.Conn
	reader   *bufio.Reader
	patience time.Duration
	answered atomic.Bool
}

// readBuffer takes some hundred answers about small nodes.
const readBuffer = 64 << 10

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.reader.Read(b)
	if n > 0 {
		c.answered.Store(true)
	}
	return n, err
}

func (c *conn) SetReadDeadline(t time.Time) error { return c.Conn.SetReadDeadline(c.bound(t)) }

func (c *conn) SetWriteDeadline(t time.Time) error { return c.Conn.SetWriteDeadline(c.bound(t)) }

func (c *conn) bound(t time.Time) time.Time {
	if t.IsZero() || c.answered.Load() {
		return t
	}
	if most := time.Now().Add(c.patience); t.After(most) {
		return most
	}
	return t
}

// dialer makes such connections, with TLS where that is asked for: certificates are held
// against what name makes of the address.
func dialer(config *tls.Config, patience time.Duration, name func(address string) string) func(network, address string, timeout time.Duration) (net.Conn, error) {
	return func(network, address string, timeout time.Duration) (net.Conn, error) {
		d := net.Dialer{Timeout: max(timeout, 5*time.Second)}
		var raw net.Conn
		var err error
		if config == nil {
			raw, err = d.Dial(network, address)
		} else {
			c := config.Clone()
			if host, _, splitErr := net.SplitHostPort(name(address)); splitErr == nil && c.ServerName == "" {
				c.ServerName = host
			}
			raw, err = tls.DialWithDialer(&d, network, address, c)
		}
		if err != nil {
			return nil, err
		}
		return &conn{Conn: raw, reader: bufio.NewReaderSize(raw, readBuffer), patience: patience}, nil
	}
}
