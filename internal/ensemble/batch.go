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

// ReadOptions of a Reader.
type ReadOptions struct {
	// ACL reads access control lists too.
	ACL bool
	// Watch leaves watches on the data.
	Watch bool
	// Children are read too.
	Children bool
}

// A Reader reads many nodes at a time: with one request where the servers take
// such, else with one each, in the client's own session. What comes with one request is
// not older than NewReader's call; whoever needs that of the others too calls Sync
// first. Safe for concurrent use.
type Reader struct {
	c *Client
	o ReadOptions

	mu      sync.Mutex
	bulk    *bulk
	dialing bool
	closed  bool
	// What a node weighed lately, and the largest so far.
	bytes, largest int
}

// InFlight is how many calls of Reader.Read there should be at a time.
const InFlight = 8

const (
	// mostPaths of one request. Nobody knows how large nodes are before they are read,
	// and a server has its answers in memory until they are taken: where only small nodes
	// were met so far and many of a MiB each follow, that is 64 MiB for each of InFlight
	// answers, once. Then no answer is larger than mostUnlucky if all its nodes are as
	// large as the largest.
	mostPaths   = DefaultInFlight / InFlight
	mostUnlucky = 8 << 20
	// mostAnswer is what an answer should weigh, and mostRequest what the paths of a
	// request may: servers bound those by jute.maxbuffer.
	mostAnswer  = 512 << 10
	mostRequest = 64 << 10
	// fewPaths are not worth a connection.
	fewPaths = 4
	// atOnce requests of one node each.
	atOnce = mostPaths
)

// DefaultInFlight requests at a time keep a connection of 20 ms busy, and stay below the
// thousand at which servers begin to throttle a client.
const DefaultInFlight = 512

// NewReader makes one for a stretch of reading; Close ends it.
func (c *Client) NewReader(o ReadOptions) *Reader {
	return &Reader{c: c, o: o, bytes: mostAnswer / 16}
}

// Close gives the connection back: servers bound how many an address may have.
func (r *Reader) Close() {
	r.mu.Lock()
	b := r.bulk
	r.bulk, r.closed = nil, true
	r.mu.Unlock()
	if b != nil {
		b.close()
	}
}

// Most is how many paths the next Read should have.
func (r *Reader) Most() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bulk == nil {
		return atOnce
	}
	return min(max(min(mostAnswer/r.bytes, mostUnlucky/max(r.largest, 1)), 1), mostPaths)
}

// Read reads nodes. An error ends the stretch; what the servers refuse is in the
// answers.
func (r *Reader) Read(paths []string) ([]Read, error) {
	out := make([]Read, 0, len(paths))
	for rest := paths; len(rest) > 0; {
		n, b := fitting(rest), r.connection(len(rest))
		if b != nil {
			n = min(n, r.Most())
		}
		reads, err := r.read(b, rest[:n], len(paths) == 1)
		if err != nil {
			return nil, err
		}
		out, rest = append(out, reads...), rest[n:]
	}
	return out, nil
}

// fitting is how many of the paths one request takes.
func fitting(paths []string) (n int) {
	bytes := 0
	for n < len(paths) && (n == 0 || bytes+len(paths[n]) <= mostRequest) {
		bytes += len(paths[n])
		n++
	}
	return n
}

// read reads nodes over b, or one by one where that is nil.
func (r *Reader) read(b *bulk, paths []string, alone bool) ([]Read, error) {
	if b != nil {
		out, err := b.read(paths, r.o.Children)
		if err == nil {
			r.weighed(out)
			return out, r.complete(out)
		}
		r.failed(b, err)
	}
	out := make([]Read, len(paths))
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i, p := range paths {
		g.Go(func() (err error) {
			out[i], err = r.one(p, alone)
			return err
		})
	}
	return out, g.Wait()
}

// connection is nil where nodes are to be read one by one.
func (r *Reader) connection(paths int) *bulk {
	r.mu.Lock()
	if r.bulk != nil || r.o.Watch || paths < fewPaths || r.dialing || r.closed || !r.c.bulk.may() {
		defer r.mu.Unlock()
		return r.bulk
	}
	r.dialing = true
	r.mu.Unlock()
	// Others go on one by one meanwhile.
	b, err := r.c.dialBulk()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dialing = false
	switch {
	case err != nil:
		r.c.bulk.failed(err)
		r.log(err)
		return nil
	case r.closed:
		b.close()
		return nil
	}
	r.c.bulk.worked()
	r.bulk = b
	return b
}

// failed takes a connection out of use.
func (r *Reader) failed(b *bulk, err error) {
	b.close()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bulk == b {
		r.bulk = nil
		r.c.bulk.failed(err)
		r.log(err)
	}
}

func (r *Reader) log(err error) {
	if !errors.Is(err, errNoBulk) && r.c.ctx.Err() == nil {
		r.c.log.Debug("reading many nodes with one request failed, they are read one by one", "error", err.Error())
	}
}

// weighed takes in what nodes weigh: a rise at once, a fall slowly.
func (r *Reader) weighed(reads []Read) {
	bytes, largest := 0, 0
	for _, read := range reads {
		weight := 0
		if read.Node != nil {
			weight = len(read.Node.Data) + 100
		}
		for _, name := range read.Children {
			weight += len(name) + 4
		}
		bytes, largest = bytes+weight, max(largest, weight)
	}
	bytes = bytes/len(reads) + 1
	r.mu.Lock()
	defer r.mu.Unlock()
	r.largest = max(r.largest, largest)
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
	children := func() error {
		read.Children, _, read.ChildrenErr = r.c.Children(path)
		if isRefused(read.ChildrenErr) {
			return nil
		}
		return read.ChildrenErr
	}
	var g errgroup.Group
	if r.o.Children && alone {
		g.Go(children)
	}
	read.Node, _, err = r.c.Node(path, r.o.ACL, r.o.Watch)
	if isRefused(err) {
		read.Err, err = err, nil
	}
	if err := errors.Join(err, g.Wait()); err != nil || read.Node == nil {
		return read, err
	}
	// Also where it came to be between the two.
	if r.o.Children && len(read.Children) == 0 && read.ChildrenErr == nil && read.Node.Stat.NumChildren > 0 {
		return read, children()
	}
	return read, nil
}

// bulkAccess is whether a client reads many nodes with one request, and when again.
type bulkAccess struct {
	mu    sync.Mutex
	never bool // the servers take no such requests
	after time.Time
	wait  time.Duration
}

// After a failure it is tried again after so long, and twice as long each time.
const (
	bulkAgain       = time.Second
	bulkAgainAtMost = time.Minute
)

func (a *bulkAccess) may() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.never && !time.Now().Before(a.after)
}

func (a *bulkAccess) worked() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wait = 0
}

func (a *bulkAccess) failed(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.never = a.never || errors.Is(err, errNoBulk)
	a.wait = min(max(2*a.wait, bulkAgain), bulkAgainAtMost)
	a.after = time.Now().Add(a.wait)
}
