package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/afterimage-dr/afterimage/internal/faultproxy"
	"github.com/afterimage-dr/afterimage/internal/testcluster"
)

// zkDelay is added in each direction: a round trip of 20 ms.
const zkDelay = 10 * time.Millisecond

// zooKeepers are the two servers of the section, with a proxy before each.
type zooKeepers struct {
	source, destination *testcluster.ZooKeeper
	farSource, farDest  *faultproxy.TCP
	src, dst            bareZooKeeper // never through a proxy
	dir, binary         string
}

// zookeeper compares copies of trees between two ZooKeeper servers.
func (b *bench) zookeeper(ctx context.Context) (rows []row, err error) {
	z := &zooKeepers{dir: b.dir, binary: b.binary}
	defer func() { err = errors.Join(err, z.close()) }()
	if err := z.start(ctx); err != nil {
		return nil, err
	}
	shell, err := findZKShell(ctx)
	if err != nil {
		return nil, err
	}
	for _, section := range []struct {
		tree   zkTree
		far    bool
		shells int // rounds of zk-shell, which takes minutes for a large tree
	}{
		{tree: broad(50_000, 200), shells: 1},
		{tree: broad(5_000, 50<<10), shells: 1},
		{tree: deep(20, 200, 200), shells: 1},
		{tree: wide(20_000, 200), shells: 1},
		{tree: broad(20_000, 200), far: true},
		{tree: broad(1_000, 50<<10), far: true},
		{tree: deep(5, 200, 200), far: true},
		{tree: broad(500, 200), far: true, shells: b.options.rounds},
	} {
		name := "copy, " + section.tree.name
		if section.far {
			name += ", 20 ms away"
		}
		if !strings.Contains(name, b.options.trees) {
			continue
		}
		r, err := z.compare(ctx, name, section.tree, section.far, b.options.rounds, shell, section.shells)
		rows = append(rows, r...)
		if err != nil {
			return rows, fmt.Errorf("%s: %w", section.tree.name, err)
		}
	}
	return append(rows, row{name: "zkcopy: Maven Central does not have it, so it is not compared; zk-shell is no substitute"}), nil
}

func (z *zooKeepers) start(ctx context.Context) (err error) {
	say("starting two ZooKeeper servers")
	// A quick compiler is for servers that live for seconds.
	config := testcluster.ZooKeeperConfig{JavaOptions: []string{"-Xmx3g", "-XX:TieredStopAtLevel=4"}}
	if z.source, err = testcluster.StartZooKeeper(ctx, config); err != nil {
		return err
	}
	if z.destination, err = testcluster.StartZooKeeper(ctx, config); err != nil {
		return err
	}
	if z.farSource, err = faultproxy.NewTCP(z.source.Addr()); err != nil {
		return err
	}
	if z.farDest, err = faultproxy.NewTCP(z.destination.Addr()); err != nil {
		return err
	}
	z.farSource.Delay(zkDelay)
	z.farDest.Delay(zkDelay)
	if z.src, err = dialZooKeeper(z.source.Addr()); err != nil {
		return err
	}
	z.dst, err = dialZooKeeper(z.destination.Addr())
	return err
}

func (z *zooKeepers) close() error {
	var errs []error
	for _, c := range []bareZooKeeper{z.src, z.dst} {
		if c.conn != nil {
			c.conn.Close()
		}
	}
	for _, p := range []*faultproxy.TCP{z.farSource, z.farDest} {
		if p != nil {
			errs = append(errs, p.Close())
		}
	}
	for _, s := range []*testcluster.ZooKeeper{z.source, z.destination} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(errs...)
}

// compare makes the rows of one tree.
func (z *zooKeepers) compare(ctx context.Context, name string, t zkTree, far bool, rounds int, shell zkShell, shells int) ([]row, error) {
	from, to := z.source.Addr(), z.destination.Addr()
	if far {
		from, to = z.farSource.Addr(), z.farDest.Addr()
	}
	if err := errors.Join(z.src.remove(), z.dst.remove()); err != nil {
		return nil, err
	}
	if err := z.src.create(t.nodes); err != nil {
		return nil, err
	}
	// Servers get faster while they are warming up; nobody is to profit from it.
	if err := z.dst.create(t.nodes); err != nil {
		return nil, err
	}
	took := map[string][]time.Duration{}
	var run *zkRun
	copiers := []copier{
		{"bare creations", rounds, func() error { return bareCreate(to, t.nodes) }},
		{"bare copy", rounds, func() error { return bareCopy(from, to) }},
		{"afterimage", rounds, func() (err error) {
			if run, err = z.newRun(from, to); err != nil {
				return err
			}
			return run.sync(ctx)
		}},
		{"zk-shell", shells, func() error { return shell.copy(ctx, from, to) }},
	}
	for i := range rounds {
		for _, c := range copiers {
			if i >= c.rounds {
				continue
			}
			d, err := z.timedCopy(c.copy)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			took[c.name] = append(took[c.name], d)
			say("%s %d/%d: %s %s", name, i+1, c.rounds, c.name, d.Round(time.Millisecond))
			if c.name != "afterimage" {
				continue
			}
			if err := z.unchanged(ctx, run, from, to, took); err != nil {
				return nil, err
			}
			say("%s %d/%d: nothing to do %s, reading both %s", name, i+1, c.rounds, took["again"][i].Round(time.Millisecond), took["read"][i].Round(time.Millisecond))
		}
		slices.Reverse(copiers) // nobody is always the first
	}
	goal := "≥ 3"
	if far {
		goal = "≥ 5"
	}
	rows := []row{
		compared(name+" / bare creations", took["afterimage"], took["bare creations"], time.Millisecond, "≤ 1.3"),
		compared(name+" / bare copy", took["afterimage"], took["bare copy"], time.Millisecond, ""),
	}
	if shells > 0 {
		rows = append(rows, faster(name+": times as fast as zk-shell", took["afterimage"][:shells], took["zk-shell"], goal))
	}
	return append(rows, compared(name+", 0 writes: again / reading both", took["again"], took["read"], time.Millisecond, "≤ 1.2")), nil
}

// copier is one way to copy, and in how many rounds it takes part.
type copier struct {
	name   string
	rounds int
	copy   func() error
}

// timedCopy copies into an empty destination, and checks what came of it off the
// clock.
func (z *zooKeepers) timedCopy(do func() error) (time.Duration, error) {
	if err := z.dst.remove(); err != nil {
		return 0, err
	}
	d, err := timed(do)
	if err != nil {
		return 0, err
	}
	want, err := z.src.read()
	if err != nil {
		return 0, err
	}
	got, err := z.dst.read()
	if err != nil {
		return 0, err
	}
	return d, differs(got, want)
}

// unchanged lets Afterimage run again, and reads both trees without it.
func (z *zooKeepers) unchanged(ctx context.Context, run *zkRun, from, to string, took map[string][]time.Duration) error {
	before, err := z.destination.Writes(ctx)
	if err != nil {
		return err
	}
	d, err := timed(func() error { return run.sync(ctx) })
	if err != nil {
		return err
	}
	took["again"] = append(took["again"], d)
	after, err := z.destination.Writes(ctx)
	if err != nil {
		return err
	}
	if after != before {
		return fmt.Errorf("a run that found nothing to do wrote %d times", after-before)
	}
	if d, err = timed(func() error {
		var g errgroup.Group
		for _, server := range []string{from, to} {
			g.Go(func() error { return bareRead(server) })
		}
		return g.Wait()
	}); err != nil {
		return err
	}
	took["read"] = append(took["read"], d)
	return nil
}

// bareCreate makes the nodes from memory.
func bareCreate(server string, nodes []znode) error {
	c, err := dialZooKeeper(server)
	if err != nil {
		return err
	}
	defer c.conn.Close()
	return c.create(nodes)
}

// bareCopy reads one server's tree and makes it at the other.
func bareCopy(from, to string) error {
	c, err := dialZooKeeper(from)
	if err != nil {
		return err
	}
	defer c.conn.Close()
	data, err := c.read()
	if err != nil {
		return err
	}
	nodes := make([]znode, 0, len(data))
	for p, d := range data {
		nodes = append(nodes, znode{p, d})
	}
	slices.SortFunc(nodes, func(a, b znode) int { return byLevel(a.path, b.path) })
	return bareCreate(to, nodes)
}

func bareRead(server string) error {
	c, err := dialZooKeeper(server)
	if err != nil {
		return err
	}
	defer c.conn.Close()
	_, err = c.read()
	return err
}

// zkRun is a Synchronization with its data directory.
type zkRun struct{ binary, dir string }

func (z *zooKeepers) newRun(from, to string) (*zkRun, error) {
	dir, err := os.MkdirTemp(z.dir, "sync-")
	if err != nil {
		return nil, err
	}
	r := &zkRun{z.binary, dir}
	return r, os.WriteFile(filepath.Join(dir, "all.yaml"), fmt.Appendf(nil, zkManifest, from, to, zkRoot), 0o600)
}

const zkManifest = `apiVersion: assets.astronetes.io/v1alpha1
kind: Database
metadata: {name: source}
spec: {zookeeper: {client: {servers: ["%[1]s"]}}}
---
apiVersion: assets.astronetes.io/v1alpha1
kind: Database
metadata: {name: destination}
spec: {zookeeper: {client: {servers: ["%[2]s"]}}}
---
apiVersion: automation.astronetes.io/v1alpha1
kind: Synchronization
metadata: {name: bench}
spec:
  plugin: zookeeper-to-zookeeper-nodes
  config: {sourceName: source, destinationName: destination, rootPath: "%[3]s", createRootPath: true}
`

// sync times the whole process.
func (r *zkRun) sync(ctx context.Context) error {
	c := exec.CommandContext(ctx, r.binary, "sync", "-f", filepath.Join(r.dir, "all.yaml"), "--data-dir", filepath.Join(r.dir, "data"))
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Run(); err != nil {
		said := out.String()
		return fmt.Errorf("afterimage sync: %w: %s", err, said[max(0, len(said)-2000):])
	}
	return nil
}
