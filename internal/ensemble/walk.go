package ensemble

import (
	"context"
	"errors"
	"sync"

	"github.com/go-zookeeper/zk"
	"golang.org/x/sync/errgroup"

	"github.com/afterimage-dr/afterimage/topology"
)

// Node is a znode as it was read.
type Node struct {
	Path string
	// Data is nil where it is null.
	Data []byte
	Stat *Stat
	// Meta has the ACL where the walk reads them.
	Meta topology.NodeMeta
}

// Refusal is a node that could not be read, or not taken, and with it what is below it.
type Refusal struct {
	Path string
	Err  error
}

// Walk is one way through a tree. What is created, changed or deleted meanwhile is
// seen or not, as it comes.
type Walk struct {
	Client *Client
	// Root of the tree.
	Root string
	// Skip leaves out a node and everything below it; nil: nothing.
	Skip func(path string) bool
	// ACL reads access control lists too.
	ACL bool
	// Watch leaves watches on the data and the children of every node.
	Watch bool
	// Visit is called for every node, after its parent's call has returned, by many
	// goroutines. An error of it ends the walk, but for ErrTooLarge and ErrHiddenACL.
	Visit func(*Node) error
}

// DefaultInFlight keeps a connection of 20 ms busy, and stays below the thousand
// requests at which servers begin to throttle a client.
const DefaultInFlight = 512

// Run walks. found is false where there is no root. Nodes that the servers refuse to
// read are returned, and all others visited; an error ends it.
func (w *Walk) Run(ctx context.Context) (found bool, refused []Refusal, err error) {
	t := &trail{w: w, todo: []string{w.Root}}
	t.ready = sync.NewCond(&t.mu)
	g, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, t.end)()
	for range DefaultInFlight {
		g.Go(func() error { return t.work(ctx) })
	}
	err = g.Wait()
	return t.found, t.refused, err
}

// trail is where a walk stands.
type trail struct {
	w *Walk

	mu      sync.Mutex
	ready   *sync.Cond
	todo    []string // a stack: going deep first keeps it short
	working int
	ended   bool
	found   bool
	refused []Refusal
}

func (t *trail) end() {
	t.mu.Lock()
	t.ended = true
	t.mu.Unlock()
	t.ready.Broadcast()
}

func (t *trail) work(ctx context.Context) error {
	for {
		path, ok := t.take()
		if !ok {
			return ctx.Err()
		}
		children, err := t.node(path)
		if err != nil {
			t.end()
			return err
		}
		t.put(path, children)
	}
}

// take returns the next path; ok is false when there is none left and nobody may
// find more.
func (t *trail) take() (path string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for !t.ended && len(t.todo) == 0 && t.working > 0 {
		t.ready.Wait()
	}
	if t.ended || len(t.todo) == 0 {
		return "", false
	}
	path = t.todo[len(t.todo)-1]
	t.todo = t.todo[:len(t.todo)-1]
	t.working++
	return path, true
}

func (t *trail) put(parent string, children []string) {
	if parent == "/" {
		parent = ""
	}
	t.mu.Lock()
	for _, name := range children {
		path := parent + "/" + name
		if t.w.Skip == nil || !t.w.Skip(path) {
			t.todo = append(t.todo, path)
		}
	}
	t.working--
	wake := len(t.todo)
	done := wake == 0 && t.working == 0
	t.mu.Unlock()
	switch {
	case done || wake > 1:
		t.ready.Broadcast()
	case wake == 1:
		t.ready.Signal()
	}
}

// node reads one and has it visited.
func (t *trail) node(path string) (children []string, err error) {
	n, found, err := t.w.Client.Node(path, t.w.ACL, t.w.Watch)
	if err == nil && !found {
		return nil, nil
	}
	if err == nil {
		if path == t.w.Root {
			t.mu.Lock()
			t.found = true
			t.mu.Unlock()
		}
		switch err = t.w.Visit(n); {
		case err != nil:
		case t.w.Watch:
			children, _, err = t.w.Client.ChildrenWatched(path)
		case n.Stat.NumChildren > 0:
			children, _, err = t.w.Client.Children(path)
		}
	}
	if errors.Is(err, zk.ErrNoAuth) || errors.Is(err, ErrTooLarge) || errors.Is(err, ErrHiddenACL) {
		t.mu.Lock()
		t.found = t.found || path == t.w.Root
		t.refused = append(t.refused, Refusal{path, err})
		t.mu.Unlock()
		return nil, nil
	}
	return children, err
}

// Node reads one node, with its ACL if asked for, and leaves a watch on its data if
// asked for.
func (c *Client) Node(path string, acl, watch bool) (n *Node, found bool, err error) {
	get := c.Get
	if watch {
		get = c.GetWatched
	}
	data, stat, found, err := get(path)
	if err != nil || !found {
		return nil, false, err
	}
	n = &Node{Path: path, Data: data, Stat: stat}
	n.Meta.Mode = ModeOf(stat)
	if acl {
		if n.Meta.ACL, found, err = c.ACL(path); err != nil || !found {
			return nil, false, err
		}
	}
	return n, true, nil
}
