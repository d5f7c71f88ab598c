package faultproxy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// TCP passes connections on to one upstream address. It listens on loopback.
type TCP struct {
	upstream string
	addr     string

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced when a setting changes
	listener net.Listener  // nil while refusing
	links    map[*link]struct{}
	closed   bool
	settings tcpSettings
	wg       sync.WaitGroup
}

type tcpSettings struct {
	hang      bool
	delay     time.Duration
	bandwidth int // bytes per second and direction; 0 is unlimited
	dropAfter int64
}

// NewTCP starts a proxy to the upstream address, which need not answer yet. It
// listens on a loopback port outside the kernel's range for outgoing
// connections, so that the port can be given up and taken again.
func NewTCP(upstream string) (*TCP, error) {
	listener, err := listenOutsideEphemeral()
	if err != nil {
		return nil, err
	}
	p := &TCP{
		upstream: upstream,
		addr:     listener.Addr().String(),
		changed:  make(chan struct{}),
		listener: listener,
		links:    map[*link]struct{}{},
		settings: tcpSettings{dropAfter: -1},
	}
	p.serve(listener)
	return p, nil
}

// listenOutsideEphemeral takes a port from which no outgoing connection starts.
func listenOutsideEphemeral() (net.Listener, error) {
	var last error
	for range 200 {
		port := 10000 + rand.IntN(10000)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return listener, nil
		}
		last = err
	}
	return nil, fmt.Errorf("listening for the fault proxy: %w", last)
}

// Addr is host:port for clients; it stays the same for the proxy's life.
func (p *TCP) Addr() string { return p.addr }

// Connections is how many are open now.
func (p *TCP) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Cut resets all open connections. New ones are taken.
func (p *TCP) Cut() {
	p.mu.Lock()
	links := make([]*link, 0, len(p.links))
	for l := range p.links {
		links = append(links, l)
	}
	p.mu.Unlock()
	for _, l := range links {
		l.reset()
	}
}

// Refuse(true) has new connections refused, as if nothing listened; open ones
// stay (Cut ends them). Refuse(false) takes connections again.
func (p *TCP) Refuse(on bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errors.New("the fault proxy is closed")
	}
	if on {
		if p.listener == nil {
			return nil
		}
		err := p.listener.Close()
		p.listener = nil
		return err
	}
	if p.listener != nil {
		return nil
	}
	listener, err := net.Listen("tcp", p.addr)
	if err != nil {
		return fmt.Errorf("listening again on %s: %w", p.addr, err)
	}
	p.listener = listener
	p.serve(listener)
	return nil
}

// Hang(true) takes bytes and connections but passes nothing on, in neither
// direction, and ends nothing: the far side is silent. Hang(false) lets go on,
// with what was held back.
func (p *TCP) Hang(on bool) { p.set(func(s *tcpSettings) { s.hang = on }) }

// Delay holds back what passes, in each direction, by this long: it adds twice
// that to a round trip. 0 ends it. Throughput is not reduced.
func (p *TCP) Delay(d time.Duration) { p.set(func(s *tcpSettings) { s.delay = d }) }

// Bandwidth limits each direction of each connection to so many bytes per
// second. 0 ends it.
func (p *TCP) Bandwidth(bytesPerSecond int) {
	p.set(func(s *tcpSettings) { s.bandwidth = bytesPerSecond })
}

// DropAfter ends each connection once it has passed n more bytes from the
// upstream to the client, counted from this call or from the connection's start
// if that is later: the end comes in the middle of an answer. A negative n ends
// it.
func (p *TCP) DropAfter(n int64) {
	p.mu.Lock()
	for l := range p.links {
		l.passed.Store(0)
	}
	p.mu.Unlock()
	p.set(func(s *tcpSettings) { s.dropAfter = n })
}

// set changes the settings and wakes whoever waits because of them.
func (p *TCP) set(change func(*tcpSettings)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.settings)
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *TCP) current() (tcpSettings, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.settings, p.changed
}

// Close ends the proxy and every connection, and waits for them.
func (p *TCP) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	listener := p.listener
	p.listener = nil
	p.mu.Unlock()
	var err error
	if listener != nil {
		err = listener.Close()
	}
	p.Cut()
	p.wg.Wait()
	return err
}

// serve accepts until the listener is closed.
func (p *TCP) serve(listener net.Listener) {
	p.wg.Go(func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.handle(connection) })
		}
	})
}

// handle passes one connection on until either side is done. A connection that
// came while the proxy was being closed is reset.
func (p *TCP) handle(client net.Conn) {
	l := &link{proxy: p, client: client, done: make(chan struct{})}
	if !p.add(l) {
		l.reset()
		return
	}
	defer p.remove(l)
	if !l.waitWhileHanging() {
		return
	}
	upstream, err := net.DialTimeout("tcp", p.upstream, 10*time.Second)
	if err != nil {
		l.reset()
		return
	}
	if !l.setUpstream(upstream) {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { l.pass(upstream, client, false) })
	wg.Go(func() { l.pass(client, upstream, true) })
	wg.Wait()
}

func (p *TCP) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.links[l] = struct{}{}
	return true
}

func (p *TCP) remove(l *link) {
	l.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}
