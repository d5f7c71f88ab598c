package main

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
	"golang.org/x/sync/errgroup"

	"github.com/afterimage-dr/afterimage/consumers/zookeeper"
	"github.com/afterimage-dr/afterimage/internal/ensemble"
)

// Of the bare client: transactions as large as Afterimage has them, and as many
// requests in flight.
const (
	zkMostOps   = 1000
	zkMostBytes = 512 << 10
)

// bareZooKeeper is the ordinary client library with nothing around it: it trusts
// that nothing fails.
type bareZooKeeper struct{ conn *zk.Conn }

type silent struct{}

func (silent) Printf(string, ...any) {}

func dialZooKeeper(server string) (bareZooKeeper, error) {
	conn, events, err := zk.Connect([]string{server}, 30*time.Second, zk.WithLogger(silent{}))
	if err != nil {
		return bareZooKeeper{}, err
	}
	for e := range events {
		if e.State == zk.StateHasSession {
			break
		}
	}
	return bareZooKeeper{conn}, nil
}

// create makes the nodes, from memory, in transactions that are pipelined as far as
// parents allow: a transaction waits for those that make the parents of its nodes.
func (c bareZooKeeper) create(nodes []znode) error {
	var g errgroup.Group
	g.SetLimit(zookeeper.DefaultInFlight)
	made := map[string]chan struct{}{}
	acl := zk.WorldACL(zk.PermAll)
	for len(nodes) > 0 {
		done := make(chan struct{})
		var ops []any
		var parents []chan struct{}
		bytes := 0
		for len(ops) < len(nodes) && len(ops) < zkMostOps {
			n := nodes[len(ops)]
			if bytes += len(n.path) + len(n.data); bytes > zkMostBytes && len(ops) > 0 {
				break
			}
			if parent := made[path.Dir(n.path)]; parent != nil && parent != done && !slices.Contains(parents, parent) {
				parents = append(parents, parent)
			}
			made[n.path] = done
			ops = append(ops, &zk.CreateRequest{Path: n.path, Data: n.data, Acl: acl})
		}
		nodes = nodes[len(ops):]
		g.Go(func() error {
			for _, parent := range parents {
				<-parent
			}
			defer close(done)
			_, err := c.conn.Multi(ops...)
			return err
		})
	}
	return g.Wait()
}

// read walks a tree with many requests in flight and gives every node's data.
func (c bareZooKeeper) read() (map[string][]byte, error) {
	nodes := map[string][]byte{}
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	flying := make(chan struct{}, ensemble.DefaultInFlight)
	var visit func(string)
	visit = func(node string) {
		flying <- struct{}{}
		data, stat, err := c.conn.Get(node)
		var children []string
		if err == nil && stat.NumChildren > 0 {
			children, _, err = c.conn.Children(node)
		}
		<-flying
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			errs = append(errs, fmt.Errorf("reading %s: %w", node, err))
			return
		}
		nodes[node] = data
		for _, child := range children {
			wg.Go(func() { visit(node + "/" + child) })
		}
	}
	wg.Go(func() { visit(zkRoot) })
	wg.Wait()
	return nodes, errors.Join(errs...)
}

// remove deletes the tree, if it is there, children first.
func (c bareZooKeeper) remove() error {
	if found, _, err := c.conn.Exists(zkRoot); err != nil || !found {
		return err
	}
	nodes, err := c.read()
	if err != nil {
		return err
	}
	var paths []string
	for p := range nodes {
		paths = append(paths, p)
	}
	slices.SortFunc(paths, func(a, b string) int { return byLevel(b, a) })
	for some := range slices.Chunk(paths, zkMostOps) {
		var ops []any
		for _, p := range some {
			ops = append(ops, &zk.DeleteRequest{Path: p, Version: -1})
		}
		if _, err := c.conn.Multi(ops...); err != nil {
			return err
		}
	}
	return nil
}

// byLevel puts parents before children.
func byLevel(a, b string) int {
	return cmp.Compare(strings.Count(a, "/"), strings.Count(b, "/"))
}
