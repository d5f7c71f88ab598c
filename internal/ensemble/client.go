// Package ensemble is a client of a ZooKeeper ensemble whose calls survive what
// ensembles do every day: elections, lost connections and expired sessions.
package ensemble

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-zookeeper/zk"
)

// Client is one session with an ensemble, and the next one where that expires.
// Paths are as the chroot's users see them. Safe for concurrent use: requests in
// flight at the same time are pipelined on one connection.
type Client struct {
	o    Options
	log  *slog.Logger
	ctx  context.Context
	conn *zk.Conn
	stop func() bool

	// Patience is how long a call tries again while no server answers.
	patience time.Duration
	// answered is when a server answered last, in Unix nanoseconds.
	answered atomic.Int64
	lost     atomic.Int64
	onEvent  func(zk.Event)
	hosts    *hosts
	bulk     bulkAccess
	// sessions that expired; synced is for how many of them the server of the next
	// session was brought up to date.
	expired, synced atomic.Int64
	syncing         sync.Mutex

	mu      sync.Mutex
	problem string // why connecting failed last
}

// maxRequest is the largest that is sent; servers take 1 MiB where jute.maxbuffer says
// nothing else.
const maxRequest = 4 << 20

// DefaultPatience outlives an election and the restart of a server.
const DefaultPatience = time.Minute

// Option changes a client.
type Option func(*Client)

// WithPatience is how long a call tries again while no server answers; then its
// error says Unreachable.
func WithPatience(d time.Duration) Option { return func(c *Client) { c.patience = d } }

// WithLogger is told of connections; default: nobody.
func WithLogger(l *slog.Logger) Option { return func(c *Client) { c.log = l } }

// WithEvents is called for every event of the session and its watches, in the
// order in which the server sent them, among the answers to requests: when an
// answer has been returned, every event sent before it has been told. It must not
// block. Paths are those of the ensemble, without the chroot taken off.
func WithEvents(fn func(zk.Event)) Option { return func(c *Client) { c.onEvent = fn } }

// Connect begins a session; it does not wait for it. The client is closed when ctx
// ends.
func Connect(ctx context.Context, o Options, options ...Option) (*Client, error) {
	c := &Client{o: o, ctx: ctx, hosts: &hosts{}, patience: DefaultPatience, log: slog.New(slog.DiscardHandler)}
	for _, option := range options {
		option(c)
	}
	timeout := c.sessionTimeout()
	c.answered.Store(time.Now().UnixNano())
	conn, _, err := zk.Connect(o.Servers, timeout,
		zk.WithDialer(c.dialer()), zk.WithHostProvider(c.hosts), zk.WithLogger((*logger)(c)), zk.WithLogInfo(false), zk.WithMaxConnBufferSize(maxRequest), zk.WithEventCallback(c.event))
	if err != nil {
		return nil, fmt.Errorf("ensemble %s: %w", strings.Join(o.Servers, ","), err)
	}
	c.conn = conn
	c.stop = context.AfterFunc(ctx, conn.Close)
	if o.Username != "" {
		// The library sends it again on every new connection.
		if err := c.do("sign in", "", func() error { return conn.AddAuth("digest", []byte(o.Username+":"+o.Password)) }); err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, nil
}

func (c *Client) sessionTimeout() time.Duration {
	return cmp.Or(c.o.SessionTimeout, DefaultSessionTimeout)
}

func (c *Client) dialer() zk.Dialer {
	return dialer(c.o.TLS, c.sessionTimeout(), c.hosts.name)
}

// Close ends the session.
func (c *Client) Close() {
	c.stop()
	c.conn.Close()
}

// Options the client was made with.
func (c *Client) Options() Options { return c.o }

func (c *Client) event(e zk.Event) {
	if e.Type == zk.EventSession {
		switch e.State {
		case zk.StateDisconnected:
			c.lost.Add(1)
		case zk.StateExpired:
			c.expired.Add(1)
		}
	}
	if c.onEvent != nil {
		c.onEvent(e)
	}
}

// Lost is how often the connection was lost.
func (c *Client) Lost() int64 { return c.lost.Load() }

// path of the ensemble that a path of ours is.
func (c *Client) path(p string) string {
	switch {
	case c.o.Chroot == "" || c.o.Chroot == "/":
		return p
	case p == "/":
		return c.o.Chroot
	}
	return c.o.Chroot + p
}

// LocalPath is the inverse, for events; ok is false for a path outside the chroot.
func (c *Client) LocalPath(p string) (local string, ok bool) {
	if c.o.Chroot == "" || c.o.Chroot == "/" {
		return p, true
	}
	local, ok = strings.CutPrefix(p, c.o.Chroot)
	if local == "" {
		local = "/"
	}
	return local, ok && local[0] == '/'
}

// transient tells whether a request failed for the connection's sake, and may or
// may not have been done.
func transient(err error) bool {
	for _, e := range [...]error{zk.ErrConnectionClosed, zk.ErrNoServer, zk.ErrSessionExpired, zk.ErrSessionMoved, zk.ErrClosing} {
		if errors.Is(err, e) {
			return true
		}
	}
	var net interface{ Timeout() bool } // a broken connection, as the system tells it
	return errors.As(err, &net)
}

// once makes one request. Its error tells what was asked for; ErrLost among its
// causes says that nobody knows whether it was done.
func (c *Client) once(verb, path string, fn func() error) error {
	err := fn()
	switch {
	case c.ctx.Err() != nil:
		return c.ctx.Err()
	case err == nil:
		c.heard()
		return nil
	case transient(err):
		return &Error{Verb: verb, Path: path, Err: errors.Join(ErrLost, err)}
	}
	c.heard()
	return &Error{Verb: verb, Path: path, Err: err}
}

// heard: a server has answered.
func (c *Client) heard() { c.answered.Store(time.Now().UnixNano()) }

// read is do for a request that reads: what it returns is never older than what was
// returned before. Within a session the servers see to that; the next session may be
// with one that lags behind.
func (c *Client) read(verb, path string, fn func() error) error {
	for {
		expired := c.expired.Load()
		if err := c.catchUp(expired); err != nil {
			return err
		}
		err := c.do(verb, path, fn)
		var said *Error
		if c.expired.Load() == expired || err != nil && !errors.As(err, &said) {
			return err
		}
	}
}

// catchUp brings the server up to the leader, once after each session that expired.
func (c *Client) catchUp(expired int64) error {
	if c.synced.Load() >= expired {
		return nil
	}
	c.syncing.Lock()
	defer c.syncing.Unlock()
	if c.synced.Load() >= expired {
		return nil
	}
	if err := c.Sync("/"); err != nil {
		return err
	}
	c.synced.Store(expired)
	return nil
}

// do repeats a request that may be repeated until a server answers it.
func (c *Client) do(verb, path string, fn func() error) error {
	lost := time.Time{}
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := c.once(verb, path, fn)
		if !errors.Is(err, ErrLost) {
			return err
		}
		if lost.IsZero() {
			lost = time.Now()
		}
		if err := c.await(wait, lost, err); err != nil {
			return err
		}
	}
}

// Await waits, after a request whose answer was lost, until it may be looked into; an
// error is final.
func (c *Client) Await(cause error) error { return c.await(lostPause, time.Time{}, cause) }

// lostPause keeps a server that drops connections from being flooded.
const lostPause = 50 * time.Millisecond

// await waits a little for a server to answer again, which none did since lost; the
// error is final.
func (c *Client) await(wait time.Duration, lost time.Time, cause error) error {
	// Before, nobody may have asked.
	if time.Since(lost) > c.patience && time.Since(time.Unix(0, c.answered.Load())) > c.patience {
		return &UnreachableError{Servers: c.o.Servers, For: c.patience, Problem: c.why(), Err: cause}
	}
	select {
	case <-time.After(wait/2 + rand.N(wait)): //nolint:gosec // no secret: it spreads retries
		return nil
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}

func (c *Client) why() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.problem
}

// logger takes the library's words.
type logger Client

func (l *logger) Printf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.mu.Lock()
	said := l.problem == text
	if strings.HasPrefix(text, "failed to connect") || strings.HasPrefix(text, "authentication failed") {
		l.problem = text
	}
	l.mu.Unlock()
	if !said {
		l.log.Debug("zookeeper client: " + text)
	}
}
