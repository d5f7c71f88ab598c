package ensemble

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
)

// bulk is a connection, with a session of its own, that reads many nodes with one
// request (multiRead, which servers take since 3.6), as the client library cannot: it
// spares most of what one node costs, on the wire and at the server. It leaves no
// watches and writes nothing, so nothing is lost with it: whoever asked reads the
// nodes one by one.
type bulk struct {
	conn    net.Conn
	timeout time.Duration
	path    func(string) string
	heard   func()
	stop    func() bool

	mu  sync.Mutex
	xid int32
	// waiting for an answer, in the order in which servers give them.
	waiting []waiting
	err     error // why it ended
}

type waiting struct {
	xid    int32
	answer chan<- answer
}

// errNoBulk: the servers do not take such requests.
var errNoBulk = errors.New("the servers do not read many nodes with one request")

// largestAnswer that is taken. Nodes are asked for by as many as fit into a small part
// of it, as far as their sizes can be foreseen.
const largestAnswer = 256 << 20

// bulkWithin is how long a connection may take to be there.
const bulkWithin = 5 * time.Second

// dialBulk begins a session with the server that answers now, if one does.
func (c *Client) dialBulk() (_ *bulk, err error) {
	server := c.conn.Server()
	if server == "" {
		server = c.o.Servers[rand.N(len(c.o.Servers))] //nolint:gosec // no secret: it spreads clients
	}
	conn, err := c.dialer()("tcp", server, bulkWithin)
	if err != nil {
		return nil, err
	}
	b := &bulk{conn: conn, timeout: c.sessionTimeout(), path: c.path, heard: c.heard}
	b.mu.Lock() // what ends it reads stop
	b.stop = context.AfterFunc(c.ctx, func() { b.end(c.ctx.Err()) })
	b.mu.Unlock()
	late := time.AfterFunc(bulkWithin, func() { b.end(os.ErrDeadlineExceeded) })
	defer func() {
		if !late.Stop() && err == nil {
			err = os.ErrDeadlineExceeded
		}
		if err != nil {
			b.end(err)
		}
	}()
	if err := b.begin(); err != nil {
		return nil, err
	}
	go b.receive(bufio.NewReader(steady{conn, b.timeout}))
	go b.ping()
	if c.o.Username != "" {
		r := newRequest(xidAuth, opAuth).int32(0).string("digest").string(c.o.Username + ":" + c.o.Password)
		if _, err := b.ask(r, xidAuth); err != nil {
			return nil, err
		}
	}
	return b, b.sync()
}

// begin is the exchange that a connection starts with.
func (b *bulk) begin() error {
	if err := b.conn.SetDeadline(time.Now().Add(bulkWithin)); err != nil {
		return err
	}
	ms := int32(b.timeout.Milliseconds()) //nolint:gosec // a session's timeout
	r := request(nil).int32(0).int32(0).int64(0).int32(ms).int64(0).string(string(make([]byte, 16)))
	if _, err := b.conn.Write(r.packet()); err != nil {
		return err
	}
	packet, err := readPacket(b.conn)
	if err != nil {
		return err
	}
	a := answer{b: packet}
	_, granted := a.int32(), a.int32()
	if a.broken || granted <= 0 {
		return errMalformed
	}
	b.timeout = time.Duration(granted) * time.Millisecond
	return b.conn.SetDeadline(time.Time{})
}

// steady has each read end after a time without a byte.
type steady struct {
	net.Conn
	within time.Duration
}

func (s steady) Read(p []byte) (int, error) {
	if err := s.SetReadDeadline(time.Now().Add(s.within)); err != nil {
		return 0, err
	}
	return s.Conn.Read(p)
}

func readPacket(r io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := int(int32(binary.BigEndian.Uint32(length[:]))) //nolint:gosec // bits
	if n < 0 || n > largestAnswer {
		return nil, fmt.Errorf("an answer of %d bytes", n)
	}
	packet := make([]byte, n)
	_, err := io.ReadFull(r, packet)
	return packet, err
}

// receive gives answers to those who wait for them.
func (b *bulk) receive(in io.Reader) {
	for {
		packet, err := readPacket(in)
		if err != nil {
			b.end(err)
			return
		}
		b.heard()
		a := answer{b: packet}
		xid, _ := a.int32(), a.int64()
		if xid == xidPing {
			continue
		}
		b.mu.Lock()
		known := len(b.waiting) > 0 && b.waiting[0].xid == xid
		if known {
			b.waiting[0].answer <- a
			b.waiting = b.waiting[1:]
		}
		b.mu.Unlock()
		if !known {
			b.end(errMalformed)
			return
		}
	}
}

// ping keeps the session alive while nothing is asked.
func (b *bulk) ping() {
	for {
		time.Sleep(b.timeout / 3)
		if b.send(newRequest(xidPing, opPing), nil) != nil {
			return
		}
	}
}

// send sends a request; who waits for its answer hears of it before any later one.
func (b *bulk) send(r request, w *waiting) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return b.err
	}
	if w != nil {
		b.waiting = append(b.waiting, *w)
	}
	err := b.conn.SetWriteDeadline(time.Now().Add(b.timeout))
	if err == nil {
		_, err = b.conn.Write(r.packet())
	}
	if err != nil {
		b.ended(err)
	}
	return err
}

// ask sends a request and waits for its answer.
func (b *bulk) ask(r request, xid int32) (answer, error) {
	answers := make(chan answer, 1)
	if err := b.send(r, &waiting{xid, answers}); err != nil {
		return answer{}, err
	}
	a, ok := <-answers
	if !ok {
		b.mu.Lock()
		defer b.mu.Unlock()
		return a, b.err
	}
	const unimplemented = -6
	switch code := a.int32(); {
	case code == unimplemented:
		return a, errNoBulk
	case a.broken || code != 0:
		return a, fmt.Errorf("the server answers with error %d", code)
	}
	return a, nil
}

func (b *bulk) nextXid() int32 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.xid = max(b.xid+1, 1) // from the start after the last
	return b.xid
}

// end ends it with what nobody waits for any more.
func (b *bulk) end(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended(err)
}

// ended is end; b.mu is held.
func (b *bulk) ended(err error) {
	if b.err != nil {
		return
	}
	b.err = err
	for _, w := range b.waiting {
		close(w.answer)
	}
	b.waiting = nil
	_ = b.conn.Close() // it is given up
	b.stop()
}

// close ends the session too.
func (b *bulk) close() {
	_ = b.send(newRequest(0, opClose), nil) // else it expires
	b.end(net.ErrClosed)
}

// sync has the server catch up with the leader: nothing older is read than when it was
// called.
func (b *bulk) sync() error {
	xid := b.nextXid()
	_, err := b.ask(newRequest(xid, opSync).string(b.path("/")), xid)
	return err
}

// Codes of the server that are about one node.
const (
	codeNoNode = -101
	codeNoAuth = -102
)

// read reads nodes with one request. The nodes in an answer share its memory.
func (b *bulk) read(paths []string, children bool) ([]Read, error) {
	xid := b.nextXid()
	r := newRequest(xid, opMultiRead)
	for _, p := range paths {
		r = r.multi(opGetData, false).string(b.path(p)).bool(false)
		if children {
			r = r.multi(opGetChildren, false).string(b.path(p)).bool(false)
		}
	}
	a, err := b.ask(r.multi(opError, true), xid)
	if err != nil {
		return nil, err
	}
	return readsOf(a, paths, children)
}

// readsOf is what an answer to a request of many says.
func readsOf(a answer, paths []string, children bool) ([]Read, error) {
	out := make([]Read, len(paths))
	for i, p := range paths {
		if err := out[i].data(&a, p); err != nil {
			return nil, err
		}
		if children {
			if err := out[i].names(&a, p); err != nil {
				return nil, err
			}
		}
	}
	if last, done, _ := a.int32(), a.bool(), a.int32(); a.broken || last != opError || !done {
		return nil, errMalformed
	}
	return out, nil
}

func (r *Read) data(a *answer, path string) (err error) {
	code := a.multi(opGetData)
	if code != 0 {
		r.Err, err = refused("get", path, code)
		return err
	}
	r.Node = &Node{Path: path, Data: a.buffer(), Stat: a.stat()}
	return nil
}

func (r *Read) names(a *answer, path string) (err error) {
	code := a.multi(opGetChildren)
	if code != 0 {
		r.ChildrenErr, err = refused("get children of", path, code)
		return err
	}
	r.Children = a.strings()
	return nil
}

// refused is what a server said about one node; all else ends the request.
func refused(verb, path string, code int32) (said, err error) {
	switch code {
	case codeNoNode:
		return nil, nil
	case codeNoAuth:
		return &Error{Verb: verb, Path: path, Err: zk.ErrNoAuth}, nil
	}
	return nil, fmt.Errorf("%s %s: the server answers with error %d", verb, path, code)
}
