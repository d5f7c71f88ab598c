package ensemble

import (
	"context"
	"errors"
	"slices"
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

// Run walks. found is false where there is no root. Nodes that the servers refuse to
// read are returned, and all others visited; an error ends it.
func (w *Walk) Run(ctx context.Context) (found bool, refused []Refusal, err error) {
	t := &trail{w: w, todo: []string{w.Root}}
	t.reader = w.Client.NewReader(ReadOptions{ACL: w.ACL, Watch: w.Watch, Children: !w.Watch})
	defer t.reader.Close()
	t.ready = sync.NewCond(&t.mu)
	g, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, t.end)()
	for range InFlight {
		g.Go(func() error { return t.work(ctx) })
	}
	err = g.Wait()
	return t.seen, t.refused, err
}

// trail is where a walk stands.
type trail struct {
	w      *Walk
	reader *Reader

	mu      sync.Mutex
	ready   *sync.Cond
	todo    []string // a stack: going deep first keeps it short
	working int
	ended   bool
	seen    bool // the root
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
		paths := t.take()
		if len(paths) == 0 {
			return ctx.Err()
		}
		err := t.nodes(paths)
		if err != nil {
			t.end()
			return err
		}
		t.done(len(paths))
	}
}

// take returns the next paths, none when there are none left and nobody may find more.
func (t *trail) take() (paths []string) {
	most := t.reader.Most()
	t.mu.Lock()
	defer t.mu.Unlock()
	for !t.ended && len(t.todo) == 0 && t.working > 0 {
		t.ready.Wait()
	}
	if t.ended {
		return nil
	}
	rest := len(t.todo) - min(most, len(t.todo))
	paths = slices.Clone(t.todo[rest:])
	t.todo = t.todo[:rest]
	t.working += len(paths)
	return paths
}

// found adds the children of a node.
func (t *trail) found(parent string, children []string) {
	if len(children) == 0 {
		return
	}
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
	t.mu.Unlock()
	t.ready.Broadcast()
}

// done: so many paths are done with.
func (t *trail) done(n int) {
	t.mu.Lock()
	t.working -= n
	last := len(t.todo) == 0 && t.working == 0
	t.mu.Unlock()
	if last {
		t.ready.Broadcast()
	}
}

// nodes reads some and has each visited.
func (t *trail) nodes(paths []string) error {
	reads, err := t.reader.Read(paths)
	if err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i := range reads {
		if t.w.Watch { // each takes another request
			g.Go(func() error { return t.node(paths[i], &reads[i]) })
		} else if err := t.node(paths[i], &reads[i]); err != nil {
			return err
		}
	}
	return g.Wait()
}

func (t *trail) node(path string, r *Read) error {
	err := r.Err
	if err == nil && r.Node == nil {
		return nil // it is not there
	}
	if path == t.w.Root {
		t.mu.Lock()
		t.seen = true
		t.mu.Unlock()
	}
	if err == nil {
		switch err = t.w.Visit(r.Node); {
		case err != nil: // what is below a node that is not taken is not watched either
		case t.w.Watch:
			r.Children, _, err = t.w.Client.ChildrenWatched(path)
		default:
			err = r.ChildrenErr
		}
	}
	if IsRefusal(err) {
		t.mu.Lock()
		t.refused = append(t.refused, Refusal{path, err})
		t.mu.Unlock()
		return nil
	}
	if err == nil {
		t.found(path, r.Children)
	}
	return err
}

func isRefused(err error) bool { return errors.Is(err, zk.ErrNoAuth) }

// IsRefusal tells whether an error is about one node alone, which then is refused with
// what is below it.
func IsRefusal(err error) bool {
	return isRefused(err) || errors.Is(err, ErrTooLarge) || errors.Is(err, ErrHiddenACL)
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
