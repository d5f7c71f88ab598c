package nodecopy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/afterimage-dr/afterimage/internal/ensemble"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/internal/testenv"
	"github.com/afterimage-dr/afterimage/topology"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// env is a source, a destination and a log. The sides are reached by the bare client
// library, not by the code under test.
type env struct {
	*testing.T
	source, destination *side
	log                 *stream.Client
	o                   Options
	incarnations        int
}

// side is an ensemble, or a chroot of one.
type side struct {
	t      *testing.T
	conn   *zk.Conn
	o      ensemble.Options
	chroot string
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func connect(t *testing.T, servers []string, chroot string) *side {
	t.Helper()
	conn, _, err := zk.Connect(servers, 10*time.Second, zk.WithLogInfo(false), zk.WithLogger(silent{}))
	must(t, err)
	t.Cleanup(conn.Close)
	s := &side{t: t, conn: conn, chroot: chroot, o: ensemble.Options{Servers: servers, Chroot: chroot, SessionTimeout: 10 * time.Second}}
	if chroot != "" {
		_, err := conn.Create(chroot, nil, 0, zk.WorldACL(zk.PermAll))
		must(t, err)
	}
	return s
}

type silent struct{}

func (silent) Printf(string, ...any) {}

// newEnv has both sides in one shared server, each in a chroot of its own.
func newEnv(t *testing.T) *env {
	t.Helper()
	server, from := testenv.ZooKeeper(t)
	_, to := testenv.ZooKeeper(t)
	return newEnvOf(t, connect(t, []string{server.Addr()}, from), connect(t, []string{server.Addr()}, to))
}

func newEnvOf(t *testing.T, source, destination *side) *env {
	t.Helper()
	broker, err := stream.StartEmbedded(filepath.Join(t.TempDir(), "log"))
	must(t, err)
	t.Cleanup(func() { must(t, broker.Close()) })
	log, err := stream.NewClient(broker.Dial(), "test")
	must(t, err)
	t.Cleanup(log.Close)
	e := &env{T: t, source: source, destination: destination, log: log}
	e.o = Options{
		Log: log, Embedded: true, Topics: topology.NodeTopics("default", "source", "destination", "/test"), InstanceID: "test",
		Source: source.o, Destination: destination.o, CreateRoot: true, Patience: 20 * time.Second,
		Rules: topology.NodeRules{Root: "/test", Chrooted: source.chroot != ""},
	}
	return e
}

// copy runs one.
func (e *env) copy(change ...func(*Options)) (*Result, error) {
	e.Helper()
	o := e.o
	e.incarnations++
	o.Incarnation = fmt.Sprintf("test-%d", e.incarnations)
	for _, c := range change {
		c(&o)
	}
	ctx, cancel := context.WithTimeout(e.Context(), 2*time.Minute)
	defer cancel()
	return Run(ctx, o)
}

// copied runs one that must be complete.
func (e *env) copied(change ...func(*Options)) *Result {
	e.Helper()
	r, err := e.copy(change...)
	if err != nil {
		e.Fatalf("copy: %v", err)
	}
	if !r.Complete() {
		e.Fatalf("not complete: %+v", r)
	}
	return r
}

// equal compares both sides below the root, and writes what differs.
func (e *env) equal(except ...string) {
	e.Helper()
	if d := diff(e.source.dump("/test", false), e.destination.dump("/test", false), except); len(d) > 0 {
		e.Fatalf("%d differences, among them: %s", len(d), strings.Join(d[:min(10, len(d))], "\n"))
	}
}

func diff(a, b map[string]string, except []string) (out []string) {
	skip := func(p string) bool {
		return slices.ContainsFunc(except, func(x string) bool { return topology.NodeWithin(p, x) })
	}
	for p, v := range a {
		if w, ok := b[p]; skip(p) {
			continue
		} else if !ok {
			out = append(out, p+" is missing")
		} else if v != w {
			out = append(out, fmt.Sprintf("%s: %.60q, want %.60q", p, w, v))
		}
	}
	for p := range b {
		if _, ok := a[p]; !ok && !skip(p) {
			out = append(out, p+" is too much")
		}
	}
	return out
}

func (s *side) put(path, data string, flags ...int32) {
	s.t.Helper()
	flag := int32(0)
	if len(flags) > 0 {
		flag = flags[0]
	}
	_, err := s.conn.Create(s.chroot+path, []byte(data), flag, zk.WorldACL(zk.PermAll))
	if errors.Is(err, zk.ErrNodeExists) {
		_, err = s.conn.Set(s.chroot+path, []byte(data), -1)
	}
	must(s.t, err)
}

func (s *side) remove(path string) {
	s.t.Helper()
	children, _, err := s.conn.Children(s.chroot + path)
	must(s.t, err)
	for _, c := range children {
		s.remove(path + "/" + c)
	}
	must(s.t, s.conn.Delete(s.chroot+path, -1))
}

func (s *side) get(path string) (string, bool) {
	s.t.Helper()
	data, _, err := s.conn.Get(s.chroot + path)
	if errors.Is(err, zk.ErrNoNode) {
		return "", false
	}
	must(s.t, err)
	return string(data), true
}

func (s *side) stat(path string) *zk.Stat {
	s.t.Helper()
	_, st, err := s.conn.Exists(s.chroot + path)
	must(s.t, err)
	return st
}

// dump reads a tree, many nodes at a time.
func (s *side) dump(path string, acl bool) map[string]string {
	s.t.Helper()
	out := map[string]string{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	room := make(chan struct{}, 128)
	var walk func(p string)
	walk = func(p string) {
		defer wg.Done()
		room <- struct{}{}
		defer func() { <-room }()
		data, st, err := s.conn.Get(s.chroot + p)
		if errors.Is(err, zk.ErrNoNode) {
			return
		}
		if errors.Is(err, zk.ErrNoAuth) {
			mu.Lock()
			defer mu.Unlock()
			out[p] = "not readable"
			return
		}
		if err != nil {
			s.t.Errorf("dump %s: %v", p, err)
			return
		}
		v := fmt.Sprintf("null=%t %s", data == nil, data)
		if acl {
			list, _, err := s.conn.GetACL(s.chroot + p)
			if err != nil {
				s.t.Errorf("acl %s: %v", p, err)
			}
			slices.SortFunc(list, func(a, b zk.ACL) int { return strings.Compare(a.Scheme+a.ID, b.Scheme+b.ID) })
			v += fmt.Sprint(list)
		}
		mu.Lock()
		out[p] = v
		mu.Unlock()
		if st.NumChildren == 0 {
			return
		}
		names, _, err := s.conn.Children(s.chroot + p)
		if err != nil && !errors.Is(err, zk.ErrNoNode) {
			s.t.Errorf("dump %s: %v", p, err)
		}
		for _, n := range names {
			wg.Add(1)
			go walk(strings.TrimSuffix(p, "/") + "/" + n)
		}
	}
	wg.Add(1)
	walk(path)
	wg.Wait()
	return out
}

// grow makes a random tree of n nodes, by multis.
func (s *side) grow(root string, n int, size int, r *rand.Rand) []string {
	s.t.Helper()
	paths := []string{root}
	s.put(root, "root")
	var ops []any
	flush := func() {
		if len(ops) > 0 {
			_, err := s.conn.Multi(ops...)
			must(s.t, err)
			ops = nil
		}
	}
	for i := range n {
		parent := paths[r.IntN(len(paths))]
		if r.IntN(3) > 0 {
			parent = paths[len(paths)-1-r.IntN(min(len(paths), 20))]
		}
		p := fmt.Sprintf("%s/n%05d", parent, i)
		data := make([]byte, r.IntN(size+1))
		for j := range data {
			data[j] = byte(r.Uint32())
		}
		ops = append(ops, &zk.CreateRequest{Path: s.chroot + p, Data: data, Acl: zk.WorldACL(zk.PermAll)})
		paths = append(paths, p)
		if len(ops) == 200 {
			flush()
		}
	}
	flush()
	return paths
}

func exclude(pattern string) func(*Options) {
	return func(o *Options) { o.Rules.Exclude = regexp.MustCompile(pattern) }
}
