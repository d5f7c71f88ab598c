package nodecopy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/afterimage-dr/afterimage/consumers/zookeeper"
)

// busily runs fn again and again, from some goroutines, until stop is called.
func busily(n int, fn func(r *rand.Rand)) (stop func()) {
	ended := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			for r := rand.New(rand.NewPCG(uint64(i), 1)); ; {
				select {
				case <-ended:
					return
				default:
					fn(r)
				}
			}
		})
	}
	return func() {
		close(ended)
		wg.Wait()
	}
}

// try ignores what races with another writer.
func (s *side) try(err error) {
	for _, fine := range [...]error{nil, zk.ErrNoNode, zk.ErrNodeExists, zk.ErrNotEmpty, zk.ErrBadVersion} {
		if errors.Is(err, fine) {
			return
		}
	}
	s.t.Errorf("writer: %v", err)
}

// scribble creates, changes and deletes nodes and subtrees below a path.
func (s *side) scribble(root string) func(r *rand.Rand) {
	name := func(r *rand.Rand) string { return fmt.Sprintf("%s%s/w%d", s.chroot, root, r.IntN(60)) }
	open := zk.WorldACL(zk.PermAll)
	return func(r *rand.Rand) {
		p := name(r)
		data := []byte(fmt.Sprint(r.Uint32()))
		switch r.IntN(6) {
		case 0, 1:
			_, err := s.conn.Create(p, data, 0, open)
			s.try(err)
		case 2:
			_, err := s.conn.Create(fmt.Sprintf("%s/c%d", p, r.IntN(5)), data, 0, open)
			s.try(err)
		case 3:
			_, err := s.conn.Set(p, data, -1)
			s.try(err)
		case 4:
			children, _, err := s.conn.Children(p)
			s.try(err)
			for _, c := range children {
				s.try(s.conn.Delete(p+"/"+c, -1))
			}
			s.try(s.conn.Delete(p, -1))
		case 5:
			time.Sleep(time.Millisecond)
		}
	}
}

// The source is written while it is copied, several times: what it had all along is
// never missing at the destination, and the copy after the writing ends is equal.
func TestSourceMoves(t *testing.T) {
	e := newEnv(t)
	fixed := e.source.grow("/test", 1500, 100, rand.New(rand.NewPCG(17, 18)))
	for i := range 5 {
		e.source.put(fmt.Sprintf("/test/busy-%d", i), "")
	}
	e.copied()
	var stops []func()
	for i := range 5 {
		stops = append(stops, busily(1, e.source.scribble(fmt.Sprintf("/test/busy-%d", i))))
	}
	stops = append(stops, busily(1, func(r *rand.Rand) {
		p := fixed[r.IntN(len(fixed))]
		_, there, err := e.destination.conn.Exists(e.destination.chroot + p)
		if err != nil || there == nil || there.Czxid == 0 {
			t.Errorf("%s is missing at the destination (%v)", p, err)
		}
		e.source.put(p, fmt.Sprint(r.Uint32()))
	}))
	for i := range 8 {
		r, err := e.copy()
		// A node may be gone, or be there again, at the very moment it is looked at.
		if err != nil {
			t.Fatalf("copy %d: %v", i, err)
		}
		for _, f := range r.Failures {
			t.Errorf("copy %d: %+v", i, f)
		}
	}
	for _, stop := range stops {
		stop()
	}
	e.copied()
	e.equal()
}

// Nodes that come and go in the source together with what is below them are never taken
// for gone without it, or it without them.
func TestSourceFlaps(t *testing.T) {
	const pairs = 60
	e := newEnv(t)
	e.source.put("/test", "")
	for i := range 2 * pairs { // beside them, or the limit of what may be missing holds
		e.source.put(fmt.Sprintf("/test/stays-%d", i), "")
	}
	open := zk.WorldACL(zk.PermAll)
	stop := busily(4, func(r *rand.Rand) {
		p := fmt.Sprintf("%s/test/flaps-%d", e.source.chroot, r.IntN(pairs))
		_, err := e.source.conn.Multi(&zk.CreateRequest{Path: p, Acl: open}, &zk.CreateRequest{Path: p + "/below", Acl: open})
		if err != nil {
			_, err = e.source.conn.Multi(&zk.DeleteRequest{Path: p + "/below", Version: -1}, &zk.DeleteRequest{Path: p, Version: -1})
		}
		e.source.try(err)
	})
	for i := range 25 {
		r, err := e.copy()
		must(t, err)
		for _, f := range r.Failures {
			t.Errorf("copy %d: %+v", i, f)
		}
	}
	stop()
	e.copied()
	e.equal()
}

// Somebody else writes at the destination, deletes parents under us, and creates what
// is being created: the copy after he stops is equal.
func TestDestinationMoves(t *testing.T) {
	e := newEnv(t)
	paths := e.source.grow("/test", 1500, 100, rand.New(rand.NewPCG(19, 20)))
	e.source.put("/test/busy", "")
	for i := range 60 {
		e.source.put(fmt.Sprintf("/test/busy/w%d", i), "v")
		e.source.put(fmt.Sprintf("/test/busy/w%d/c1", i), "v")
	}
	e.copied()
	writer := e.destination.scribble("/test/busy")
	stop := busily(4, writer)
	stopOther := busily(1, func(r *rand.Rand) {
		_, err := e.destination.conn.Set(e.destination.chroot+paths[r.IntN(len(paths))], []byte("mine"), -1)
		e.destination.try(err)
	})
	allowed := map[string]bool{zookeeper.ReasonConflict: true, zookeeper.ReasonDifferent: true, zookeeper.ReasonParentMissing: true, zookeeper.ReasonNotEmpty: true}
	for i := range 6 {
		for j := range 40 {
			e.source.put(paths[1+j*7], fmt.Sprint("v", i))
		}
		r, err := e.copy()
		if err != nil {
			t.Fatalf("copy %d: %v", i, err)
		}
		for _, f := range r.Failures {
			if !allowed[f.Reason] {
				t.Errorf("copy %d: %+v", i, f)
			}
		}
	}
	stop()
	stopOther()
	e.copied()
	e.equal()
}

// A node that changes faster than it can be written is named, and what else there is
// copied.
func TestConflict(t *testing.T) {
	e := newEnv(t)
	e.source.put("/test", "")
	e.source.put("/test/hot", "ours")
	e.source.put("/test/other", "")
	e.destination.put("/test", "")
	e.destination.put("/test/hot", "")
	stop := busily(4, func(r *rand.Rand) {
		_, err := e.destination.conn.Set(e.destination.chroot+"/test/hot", []byte(fmt.Sprint(r.Uint32())), -1)
		e.destination.try(err)
	})
	r, err := e.copy()
	stop()
	must(t, err)
	if r.Failed != 1 || r.Failures[0].Path != "/test/hot" || r.Failures[0].Reason != zookeeper.ReasonConflict && r.Failures[0].Reason != zookeeper.ReasonDifferent {
		t.Errorf("%+v", r)
	}
	e.equal("/test/hot")
	e.copied()
	e.equal()
}
