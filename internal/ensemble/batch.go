package ensemble

import (
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Read is what was read of one path.
type Read struct {
	// Node is nil where there is none, or Err says why it cannot be read.
	Node *Node
	Err  error
	// Children are the names of its children.
	Children    []string
	ChildrenErr error
}

// A Reader reads many nodes at a time: with one request where the servers take
// such, else with one each. What it returns is not older than NewReader's call.
// Safe for concurrent use.
type Reader struct {
	c *Client
	// ACL reads access control lists too; Watch leaves watches on the data, and on the
	// children where they are asked for; Children asks for them.
	o ReadOptions

	mu    sync.Mutex
	bulk  *bulk
	bytes int // what a node weighed lately
}

// ReadOptions of a Reader.
type ReadOptions struct {
	// ACL reads access control lists too.
	ACL bool
	// Watch leaves watches on the data and, where they are read, the children.
	Watch bool
	// Children are read too.
	Children bool
}

// InFlight is how many calls of Reader.Read there should be at a time.
const InFlight = 8

const (
	// mostPaths of one request. Nobody knows how large nodes are before they are read,
	// and a server keeps its answers in memory until they are taken: if they turn out to
	// have a MiB each, it is as with DefaultInFlight requests for one.
	mostPaths = DefaultInFlight / InFlight
	// mostAnswer is what an answer should weigh.
	mostAnswer = 512 << 10
	// fewPaths are not worth a connection.
	fewPaths = 4
	// atOnce requests of one node each.
	atOnce = DefaultInFlight / InFlight
)

// DefaultInFlight requests at a time keep a connection of 20 ms busy, and stay below the
// thousand at which servers begin to throttle a client.
const DefaultInFlight = 512

// NewReader makes one for a stretch of reading.
func (c *Client) NewReader(o ReadOptions) *Reader {
	return &Reader{c: c, o: o, bytes: mostAnswer / 32}
}

// Most is how many paths the next Read should have.
func (r *Reader) Most() int {
	if r.o.Watch {
		return atOnce
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bulk == nil && !r.c.bulk.mayOpen() {
		return atOnce
	}
	return min(max(mostAnswer/r.bytes, 1), mostPaths)
}

// Read reads nodes. An error ends the stretch; what the servers refuse is in the
// answers.
func (r *Reader) Read(paths []string) ([]Read, error) {
	if b := r.connection(len(paths)); b != nil {
		out, err := b.read(paths, r.o.Children)
		if err == nil {
			r.weighed(out)
			return out, r.complete(out)
		}
		r.c.bulk.failed(b, err)
		r.log(err)
		r.mu.Lock()
		r.bulk = nil
		r.mu.Unlock()
	}
	out := make([]Read, len(paths))
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i, p := range paths {
		g.Go(func() (err error) {
			out[i], err = r.one(p, len(paths) == 1)
			return err
		})
	}
	return out, g.Wait()
}

func (r *Reader) log(err error) {
	if !errors.Is(err, errNoBulk) && r.c.ctx.Err() == nil {
		r.c.log.Debug("reading many nodes with one request failed, they are read one by one", "error", err.Error())
	}
}

// connection is nil where nodes are to be read one by one.
func (r *Reader) connection(paths int) *bulk {
	if r.o.Watch {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bulk != nil || paths < fewPaths {
		return r.bulk
	}
	b, err := r.c.bulk.open(r.c)
	if err == nil {
		if err = b.sync(); err != nil {
			r.c.bulk.failed(b, err)
		}
	}
	if err != nil {
		r.log(err)
		return nil
	}
	r.bulk = b
	return b
}

// weighed takes in what nodes weigh: a rise at once, a fall slowly.
func (r *Reader) weighed(reads []Read) {
	bytes := 0
	for _, read := range reads {
		if read.Node != nil {
			bytes += len(read.Node.Data) + 100
		}
		for _, name := range read.Children {
			bytes += len(name) + 4
		}
	}
	bytes = bytes/len(reads) + 1
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bytes = max(bytes, r.bytes*3/4+bytes/4)
}

// complete adds what a request of many does not read.
func (r *Reader) complete(reads []Read) error {
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i := range reads {
		n := reads[i].Node
		if n == nil {
			continue
		}
		n.Meta.Mode = ModeOf(n.Stat)
		if r.o.ACL {
			g.Go(func() error { return r.acl(&reads[i]) })
		}
	}
	return g.Wait()
}

func (r *Reader) acl(read *Read) error {
	acl, found, err := r.c.ACL(read.Node.Path)
	switch {
	case isRefused(err):
		read.Node, read.Err = nil, err
	case err != nil:
		return err
	case !found:
		read.Node = nil
	default:
		read.Node.Meta.ACL = acl
	}
	return nil
}

// one reads a node by itself, with its children: alone says that nothing else is being
// read, so that time is worth more than requests.
func (r *Reader) one(path string, alone bool) (read Read, err error) {
	var g errgroup.Group
	children := func() error {
		get := r.c.Children
		if r.o.Watch {
			get = r.c.ChildrenWatched
		}
		read.Children, _, read.ChildrenErr = get(path)
		if isRefused(read.ChildrenErr) {
			return nil
		}
		return read.ChildrenErr
	}
	node := func() (err error) {
		read.Node, _, err = r.c.Node(path, r.o.ACL, r.o.Watch)
		if isRefused(err) {
			read.Err, err = err, nil
		}
		return err
	}
	if r.o.Children && (alone || r.o.Watch) {
		g.Go(children)
		err = node()
		return read, errors.Join(err, g.Wait())
	}
	if err := node(); err != nil || read.Node == nil || !r.o.Children || read.Node.Stat.NumChildren == 0 {
		return read, err
	}
	return read, children()
}

// bulkHolder has a client's bulk connection, which is made when it is wanted first.
type bulkHolder struct {
	mu     sync.Mutex
	now    *bulk
	closed bool
	never  bool      // the servers take no such requests
	after  time.Time // when to try again
}

// bulkAgain after it failed.
const bulkAgain = time.Second

func (h *bulkHolder) mayOpen() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.may()
}

func (h *bulkHolder) may() bool { return !h.closed && !h.never && !time.Now().Before(h.after) }

// open returns the connection.
func (h *bulkHolder) open(c *Client) (*bulk, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.now != nil {
		return h.now, nil
	}
	if !h.may() {
		return nil, errNoBulk
	}
	b, err := c.dialBulk()
	if err != nil {
		h.after = time.Now().Add(bulkAgain)
		return nil, err
	}
	h.now = b
	return b, nil
}

// failed takes a connection out of use.
func (h *bulkHolder) failed(b *bulk, err error) {
	if errors.Is(err, errNoBulk) {
		b.close()
	}
	b.end(err)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.never = h.never || errors.Is(err, errNoBulk)
	if h.now == b {
		h.now, h.after = nil, time.Now().Add(bulkAgain)
	}
}

func (h *bulkHolder) close() {
	h.mu.Lock()
	b := h.now
	h.now, h.closed = nil, true
	h.mu.Unlock()
	if b != nil {
		b.close()
	}
}
