package zookeeper

import (
	"context"
	"errors"
	"sync"

	"github.com/afterimage-dr/afterimage/internal/ensemble"
	"github.com/afterimage-dr/afterimage/internal/failpoint"
	"github.com/afterimage-dr/afterimage/topology"
)

// Servers take packets of 1 MiB where jute.maxbuffer says nothing else. What a
// transaction weighs is bounded well below that, and more tightly when a connection
// was lost over one: a packet that is too large has no other answer. A bound that had
// another cause finds its way back up, more slowly each time.
const (
	mostBytes  = 512 << 10
	leastBytes = 16 << 10
	mostOps    = 1000
	// weight of a request besides path and data: its headers and an ACL.
	opOverhead = 96
	// growAfter so many transactions without trouble the bound doubles, at first.
	growAfter = 8
)

// writer gathers requests into transactions and keeps some of them in flight. What
// depends on another (a child on its parent's creation, a parent on its children's
// end, a node on what was asked for it before) is in the same transaction behind it,
// or waits for its end. One goroutine uses it.
type writer struct {
	c    *Consumer
	room chan struct{}

	current *batch

	mu    sync.Mutex
	err   error
	bytes int // the bound of a transaction
	good  int // transactions since it changed
	grow  int // how many it takes for it to double
	// proven is what the largest transaction weighed that was done; lost is how many
	// losses of the connection the bound has taken in.
	proven int
	lost   int64
	// Which transaction, the one that is gathered or one in flight, works on a path,
	// and how many work on children of one.
	paths    map[string]*batch
	children map[string]int
	all      map[*batch]struct{}
}

type batch struct {
	ops   []*op
	bytes int
	done  chan struct{}
}

func newWriter(c *Consumer) *writer {
	n := c.InFlight
	if n <= 0 {
		n = DefaultInFlight
	}
	return &writer{
		c: c, room: make(chan struct{}, n), bytes: mostBytes, grow: growAfter,
		paths: map[string]*batch{}, children: map[string]int{}, all: map[*batch]struct{}{},
	}
}

// add gathers a request.
func (w *writer) add(ctx context.Context, o *op) error {
	if o.Kind == topology.Create {
		w.c.firstACL(o)
	}
	size := o.weight()
	if w.current != nil && (len(w.current.ops) >= mostOps || w.current.bytes+size > w.bound()) {
		w.flush(ctx)
	}
	// Only now: what it depends on may have been in the one that was sent.
	if err := w.dependencies(ctx, o); err != nil {
		return err
	}
	if w.current == nil {
		w.current = w.begin()
	}
	w.join(w.current, o, size)
	return w.failure()
}

// alone sends a request by itself.
func (w *writer) alone(ctx context.Context, o *op) error {
	o.unsure = o.Kind == topology.Create && !o.created
	w.flush(ctx)
	if err := w.dependencies(ctx, o); err != nil {
		return err
	}
	w.current = w.begin()
	w.join(w.current, o, o.weight())
	w.flush(ctx)
	return w.failure()
}

func (w *writer) begin() *batch {
	b := &batch{done: make(chan struct{})}
	w.mu.Lock()
	w.all[b] = struct{}{}
	w.mu.Unlock()
	return b
}

func (w *writer) join(b *batch, o *op, size int) {
	b.ops, b.bytes = append(b.ops, o), b.bytes+size
	w.mu.Lock()
	w.paths[o.Path] = b
	w.children[topology.NodeParent(o.Path)]++
	w.mu.Unlock()
}

// dependencies waits for what a request depends on and is in flight.
func (w *writer) dependencies(ctx context.Context, o *op) error {
	for {
		w.mu.Lock()
		var wait *batch
		if o.Kind == topology.Delete {
			if w.children[o.Path] > 0 {
				wait = w.othersBelow(o.Path)
			}
		} else if b := w.paths[topology.NodeParent(o.Path)]; b != nil && b != w.current {
			wait = b
		}
		w.mu.Unlock()
		if wait == nil {
			return nil
		}
		if err := w.wait(ctx, wait); err != nil {
			return err
		}
	}
}

// othersBelow is a transaction in flight that works on children of a path.
func (w *writer) othersBelow(path string) *batch {
	mine := 0
	if w.current != nil {
		for _, o := range w.current.ops {
			if topology.NodeParent(o.Path) == path {
				mine++
			}
		}
	}
	if w.children[path] == mine {
		return nil
	}
	for b := range w.all {
		if b != w.current {
			for _, o := range b.ops {
				if topology.NodeParent(o.Path) == path {
					return b
				}
			}
		}
	}
	return nil
}

// await waits until nothing is gathered or in flight for a path.
func (w *writer) await(ctx context.Context, path string) error {
	for {
		w.mu.Lock()
		b, err := w.paths[path], w.err
		w.mu.Unlock()
		if err != nil || b == nil {
			return err
		}
		if b == w.current {
			w.flush(ctx)
		}
		if err := w.wait(ctx, b); err != nil {
			return err
		}
	}
}

// busy tells whether something is gathered or in flight for a path.
func (w *writer) busy(path string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.paths[path] != nil
}

func (w *writer) wait(ctx context.Context, b *batch) error {
	select {
	case <-b.done:
		return w.failure()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// drain sends what is gathered and waits for everything.
func (w *writer) drain(ctx context.Context) error {
	w.flush(ctx)
	for {
		w.mu.Lock()
		var some *batch
		for b := range w.all {
			some = b
			break
		}
		w.mu.Unlock()
		if some == nil {
			return w.failure()
		}
		if err := w.wait(ctx, some); err != nil {
			return err
		}
	}
}

// flush sends what is gathered.
func (w *writer) flush(ctx context.Context) {
	b := w.current
	if b == nil {
		return
	}
	w.current = nil
	select {
	case w.room <- struct{}{}:
	case <-ctx.Done():
		w.end(b, ctx.Err())
		return
	}
	go func() {
		err := w.run(b.ops)
		<-w.room
		w.end(b, err)
	}()
}

func (w *writer) end(b *batch, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	for _, o := range b.ops {
		if w.paths[o.Path] == b {
			delete(w.paths, o.Path)
		}
		parent := topology.NodeParent(o.Path)
		if w.children[parent]--; w.children[parent] <= 0 {
			delete(w.children, parent)
		}
	}
	delete(w.all, b)
	close(b.done)
}

func (w *writer) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

func (w *writer) bound() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bytes
}

// done moves the bound after a transaction.
func (w *writer) done(bytes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.proven = max(w.proven, bytes)
	if w.good++; w.good >= w.grow && w.bytes < mostBytes {
		w.bytes, w.good = min(2*w.bytes, mostBytes), 0
	}
}

// shrink moves the bound after a transaction was lost; those that were lost with the
// same connection count once.
func (w *writer) shrink() {
	lost := w.c.Destination.Lost()
	w.mu.Lock()
	defer w.mu.Unlock()
	if lost == w.lost {
		return
	}
	w.lost = lost
	w.bytes, w.good, w.grow = max(w.bytes/2, leastBytes), 0, 2*w.grow
}

// suspects tells whether a request that loses the connection may be too large.
func (w *writer) suspects(o *op) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return o.weight() > max(w.proven, leastBytes)
}

// patience is how many refused requests are taken out of a transaction, one by one,
// before what is left of it is cut into pieces.
const patience = 4

// pieces of a transaction that several requests spoil.
const pieces = 16

// run does the requests of a transaction, in order. The error ends everything; what a
// server says about one request ends only that.
func (w *writer) run(ops []*op) error {
	for refusals := 0; len(ops) > 0; {
		if len(ops) == 1 {
			return w.c.conclude(ops[0], !ops[0].unsure)
		}
		failpoint.Hit("zookeeper/before-write")
		failed, err := w.c.Destination.Multi(requests(ops))
		switch {
		case err == nil:
			failpoint.Hit("zookeeper/after-write")
			w.done(weight(ops))
			for _, o := range ops {
				w.c.succeeded(o)
			}
			return nil
		case errors.Is(err, ensemble.ErrLost):
			return w.afterLoss(ops, err)
		case failed < 0:
			return w.smaller(ops) // too large for one packet of the client, or not understood
		}
		// Nothing of it was done. What stands before the one that was refused is needed
		// to know why it was.
		if err := w.run(ops[:failed]); err != nil {
			return err
		}
		if err := w.c.conclude(ops[failed], false); err != nil {
			return err
		}
		ops = ops[failed+1:]
		if refusals++; refusals >= patience && len(ops) > 1 {
			return w.cut(ops, max(len(ops)/pieces, 1))
		}
	}
	return nil
}

// afterLoss goes on when nobody knows whether a transaction was done.
func (w *writer) afterLoss(ops []*op, cause error) error {
	w.shrink()
	for _, o := range ops {
		o.lost = true
	}
	first := ops[0]
	known, err := w.c.reached(first, cause)
	if err != nil {
		return err
	}
	if !known {
		return w.smaller(ops)
	}
	// All of it was done, or somebody else did the first: each is looked at.
	for _, o := range ops {
		if err := w.c.conclude(o, false); err != nil {
			return err
		}
	}
	return nil
}

// smaller does requests that were too much for one transaction in several: within the
// bound as it is by then, and half of them at most.
func (w *writer) smaller(ops []*op) error {
	most := (len(ops) + 1) / 2
	for len(ops) > 0 {
		n, bytes := 0, 0
		for n < min(len(ops), most) && (n == 0 || bytes+ops[n].weight() <= w.bound()) {
			bytes += ops[n].weight()
			n++
		}
		if err := w.run(ops[:n]); err != nil {
			return err
		}
		ops = ops[n:]
	}
	return nil
}

func (o *op) weight() int { return len(o.Path) + len(o.Data) + opOverhead }

func weight(ops []*op) (bytes int) {
	for _, o := range ops {
		bytes += o.weight()
	}
	return bytes
}

func (w *writer) cut(ops []*op, size int) error {
	for len(ops) > 0 {
		n := min(size, len(ops))
		if err := w.run(ops[:n]); err != nil {
			return err
		}
		ops = ops[n:]
	}
	return nil
}

func requests(ops []*op) []ensemble.Op {
	out := make([]ensemble.Op, len(ops))
	for i, o := range ops {
		out[i] = o.Op
	}
	return out
}
