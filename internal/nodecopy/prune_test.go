package nodecopy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/go-zookeeper/zk"

	"github.com/afterimage-dr/afterimage/internal/breaker"
	producer "github.com/afterimage-dr/afterimage/producers/zookeeper"
)

// blocked runs a copy that must stop at the limit, and returns what it says.
func (e *env) blocked(change ...func(*Options)) *breaker.PathsError {
	e.Helper()
	_, err := e.copy(change...)
	var blocked *breaker.PathsError
	if !errors.As(err, &blocked) {
		e.Fatalf("copy: %v, want it blocked", err)
	}
	return blocked
}

func confirmed(token string) func(*Options) { return func(o *Options) { o.Confirmed = token } }

// A source whose nodes are gone for the most part deletes nothing, however often it
// is copied and whatever else has appeared in it, until a person confirms; all else is
// copied.
func TestPruneSourceBlocked(t *testing.T) {
	e := newEnv(t)
	r := rand.New(rand.NewPCG(3, 4))
	e.source.grow("/test", 100, 20, r)
	e.copied()
	e.source.remove("/test")
	e.source.put("/test", "another")
	for i := range 300 { // more than was lost
		e.source.put(fmt.Sprintf("/test/other-%d", i), "x")
	}
	first := e.blocked()
	if first.Gone != 100 || first.Tracked != 101 {
		t.Errorf("%d of %d, want 100 of 101", first.Gone, first.Tracked)
	}
	if again := e.blocked(); again.Token != first.Token {
		t.Errorf("token %s, was %s", again.Token, first.Token)
	}
	if e.blocked(confirmed("wrong")).Token != first.Token {
		t.Error("another token")
	}
	got := e.destination.dump("/test", false)
	if len(got) != 401 {
		t.Errorf("%d nodes at the destination, want what was there and what is new: 401", len(got))
	}
	e.copied(confirmed(first.Token))
	e.equal()
	e.source.remove("/test/other-1")
	e.copied() // the limit counts anew
	e.equal()
}

// The same at a destination that is full of something else.
func TestPruneDestinationBlocked(t *testing.T) {
	e := newEnv(t)
	r := rand.New(rand.NewPCG(5, 6))
	e.source.grow("/test", 300, 20, r)
	e.destination.put("/test", "mine")
	for i := range 100 {
		e.destination.put(fmt.Sprintf("/test/mine-%d", i), "mine")
	}
	first := e.blocked()
	if first.Gone != 100 || first.Tracked != 101 {
		t.Errorf("%d of %d, want 100 of 101", first.Gone, first.Tracked)
	}
	if again := e.blocked(); again.Token != first.Token {
		t.Errorf("token %s, was %s", again.Token, first.Token)
	}
	if got := e.destination.dump("/test", false); len(got) != 401 {
		t.Errorf("%d nodes at the destination, want both trees: 401", len(got))
	}
	e.copied(confirmed(first.Token))
	e.equal()
	e.destination.put("/test/one", "")
	e.copied()
	e.equal()
}

// A root that is not there in the source is an error, and changes nothing: neither
// what an earlier copy left nor what is above a root that is still to be made.
func TestSourceRootMissing(t *testing.T) {
	e := newEnv(t)
	deep := func(o *Options) {
		o.Rules.Root = "/a/b/c"
		o.Topics.Changes += ".deep"
	}
	if _, err := e.copy(deep); !errors.Is(err, producer.ErrNoRoot) || !strings.Contains(err.Error(), "/a/b/c") {
		t.Errorf("copy: %v", err)
	}
	if _, there := e.destination.get("/a"); there {
		t.Error("/a was made at the destination")
	}
	e.source.put("/test", "")
	e.source.put("/test/x", "1")
	e.copied()
	e.source.remove("/test")
	e.destination.put("/test/x", "drifted")
	e.destination.put("/test/y", "")
	before := e.destination.dump("/test", false)
	for range 5 {
		if _, err := e.copy(); !errors.Is(err, producer.ErrNoRoot) {
			t.Errorf("copy: %v", err)
		}
	}
	if d := diff(before, e.destination.dump("/test", false), nil); len(d) > 0 {
		t.Errorf("changed: %s", d)
	}
}

// What the log alone holds is no evidence of absence while no comparison was ever
// finished: a copy that was killed left only a part of the tree in it.
func TestFromLogOfAPart(t *testing.T) {
	e := newEnv(t)
	if _, err := e.copy(fromLog); err == nil || !strings.Contains(err.Error(), "holds nothing") {
		t.Errorf("an empty log: %v", err)
	}
	for _, s := range []*side{e.source, e.destination} {
		s.put("/test", "")
		for i := range 20 {
			s.put(fmt.Sprintf("/test/n%d", i), "x")
		}
	}
	e.source.put("/test/new", "new")
	// The comparison does not end, for one node cannot be read.
	e.source.put("/test/n7/hidden", "x")
	e.destination.put("/test/n7/hidden", "old")
	_, err := e.source.conn.SetACL(e.source.chroot+"/test/n7/hidden", zk.DigestACL(zk.PermAll, "a", "b"), -1)
	must(t, err)
	if r, err := e.copy(); err != nil || r.Failed != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	_, err = e.copy(fromLog)
	if err == nil || !strings.Contains(err.Error(), "1 node") {
		t.Errorf("from the log: %v", err)
	}
	if v, _ := e.destination.get("/test/n7/hidden"); v != "old" {
		t.Errorf("hidden at the destination: %q", v)
	}
	if v, _ := e.destination.get("/test/new"); v != "new" {
		t.Errorf("new at the destination: %q", v)
	}
}

func fromLog(o *Options) { o.FromLog = true }
