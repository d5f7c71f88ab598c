package nodecopy

import (
	"math/rand/v2"
	"testing"

	"github.com/afterimage-dr/afterimage/consumers/zookeeper"
)

// One copy makes the destination equal; the next finds nothing to do and writes
// nothing; one after changes does what changed.
func TestCopy(t *testing.T) {
	e := newEnv(t)
	r := rand.New(rand.NewPCG(1, 2))
	paths := e.source.grow("/test", 3000, 300, r)
	first := e.copied()
	e.equal()
	if first.Created != int64(len(paths)) || first.Verified != first.Created || first.Appended != first.Created {
		t.Errorf("first: %+v", first)
	}
	before := e.destination.stat("/test")
	second := e.copied()
	if want := (zookeeper.Report{Unchanged: int64(len(paths))}); second.Report.Unchanged != want.Unchanged || second.Created+second.Updated+second.Deleted != 0 || second.Appended != 0 {
		t.Errorf("second: %+v", second)
	}
	if after := e.destination.stat("/test"); *after != *before {
		t.Errorf("the second copy wrote: %+v, was %+v", after, before)
	}
	e.source.put("/test/new", "new")
	e.source.put("/test/new/child", "")
	e.source.put(paths[7], "changed")
	e.source.remove(paths[2900])
	e.destination.put("/test/only-here", "x")
	e.destination.put("/test/only-here/child", "x")
	e.destination.put(paths[9], "drifted")
	third := e.copied()
	e.equal()
	t.Logf("%+v\n%+v\n%+v", first, second, third)
	if third.Created != 2 || third.Updated != 2 {
		t.Errorf("third: %+v", third)
	}
}
