package faultproxy

import (
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// link is one connection with its two halves.
type link struct {
	proxy  *TCP
	client net.Conn
	passed atomic.Int64 // bytes to the client, for DropAfter

	mu       sync.Mutex
	upstream net.Conn
	ended    bool
	done     chan struct{} // closed when the link ends
}

// setUpstream is false when the link has ended meanwhile.
func (l *link) setUpstream(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		_ = c.Close()
		return false
	}
	l.upstream = c
	return true
}

func (l *link) close() { l.end(false) }

// reset ends both halves with RST rather than FIN, as a crashed peer does.
func (l *link) reset() { l.end(true) }

func (l *link) end(hard bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	l.ended = true
	close(l.done)
	for _, c := range []net.Conn{l.client, l.upstream} {
		if tcp, ok := c.(*net.TCPConn); ok && tcp != nil {
			if hard {
				_ = tcp.SetLinger(0)
			}
			_ = tcp.Close()
		}
	}
}

// pass copies one direction until it ends or the link does.
func (l *link) pass(to, from net.Conn, toClient bool) {
	flight := newQueue()
	go func() {
		defer flight.end()
		buffer := make([]byte, 32<<10)
		for {
			n, err := from.Read(buffer)
			if n > 0 && !flight.put(chunk{slices.Clone(buffer[:n]), time.Now()}, l.done) {
				return
			}
			if err != nil {
				if !errors.Is(err, io.EOF) {
					l.reset()
				}
				return
			}
		}
	}()
	for {
		c, ok := flight.take(l.done)
		if !ok {
			break
		}
		if !l.forward(to, c, toClient) {
			return
		}
	}
	// The end of one direction passes on like a byte; it, too, waits for a hang.
	if l.waitWhileHanging() {
		if tcp, ok := to.(*net.TCPConn); ok {
			_ = tcp.CloseWrite()
		}
	}
}

// forward writes one chunk as the settings have it; false ends the direction.
func (l *link) forward(to net.Conn, c chunk, toClient bool) bool {
	data := c.data
	for len(data) > 0 {
		if !l.waitUntilDue(c.at) || !l.waitWhileHanging() {
			return false
		}
		settings, _ := l.proxy.current()
		piece := data
		if settings.bandwidth > 0 {
			// 20 pieces a second are smooth enough and exact enough.
			piece = data[:min(len(data), max(1, settings.bandwidth/20))]
		}
		drop := false
		if toClient && settings.dropAfter >= 0 {
			left := max(0, settings.dropAfter-l.passed.Load())
			if int64(len(piece)) >= left {
				piece, drop = piece[:left], true
			}
		}
		started := time.Now()
		if _, err := to.Write(piece); err != nil {
			l.reset()
			return false
		}
		if toClient {
			l.passed.Add(int64(len(piece)))
		}
		if drop {
			l.dropNow(to)
			return false
		}
		data = data[len(piece):]
		if settings.bandwidth > 0 {
			pause := time.Duration(len(piece)) * time.Second / time.Duration(settings.bandwidth)
			if !l.sleep(pause-time.Since(started), nil) {
				return false
			}
		}
	}
	return true
}

// dropNow ends the link after what was written: with RST at once the kernel
// could throw away bytes that the client was promised.
func (l *link) dropNow(to net.Conn) {
	if tcp, ok := to.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
	l.close()
}

// waitUntilDue waits out the delay of a chunk that came at the time given, with
// the delay that holds now. False means that the link has ended.
func (l *link) waitUntilDue(at time.Time) bool {
	for {
		settings, changed := l.proxy.current()
		left := time.Until(at.Add(settings.delay))
		if settings.delay == 0 || left <= 0 {
			return true
		}
		if !l.sleep(left, changed) {
			return false
		}
	}
}

// waitWhileHanging is false when the link has ended.
func (l *link) waitWhileHanging() bool {
	for {
		settings, changed := l.proxy.current()
		if !settings.hang {
			return true
		}
		select {
		case <-changed:
		case <-l.done:
			return false
		}
	}
}

// sleep waits for the time given or until wake; false means that the link has
// ended.
func (l *link) sleep(d time.Duration, wake <-chan struct{}) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-wake:
		return true
	case <-l.done:
		return false
	}
}
