package nodecopy

import (
	"strings"
	"testing"
)

// What is excluded is neither copied nor deleted, with all that is below it.
func TestExcluded(t *testing.T) {
	e := newEnv(t)
	for _, p := range []string{"/test", "/test/a", "/test/a/x", "/test/ab", "/test/b", "/test/b/a", "/test/b/lock-1", "/test/b/lock-1/y"} {
		e.source.put(p, "v")
	}
	for _, p := range []string{"/test", "/test/a", "/test/a/own", "/test/c", "/test/c/lock-2", "/test/c/lock-2/z", "/test/d", "/test/d/e"} {
		e.destination.put(p, "own")
	}
	r := e.copied(exclude("^/test/a$|lock-[0-9]+$"))
	want := map[string]string{
		"/test": "v", "/test/ab": "v", "/test/b": "v", "/test/b/a": "v", "/test/a": "own", "/test/a/own": "own",
		// The parent of an excluded node stays with it.
		"/test/c": "own", "/test/c/lock-2": "own", "/test/c/lock-2/z": "own",
	}
	for p, v := range want {
		want[p] = "null=false " + v
	}
	if d := diff(want, e.destination.dump("/test", false), nil); len(d) > 0 {
		t.Error(d)
	}
	if r.Skipped != 1 || r.Deleted != 2 || r.Updated != 1 || r.Created != 3 {
		t.Errorf("%+v", r)
	}
	// From a log that never held what was excluded, nothing is concluded about it.
	_, err := e.copy(fromLog)
	if err == nil || !strings.Contains(err.Error(), "excludePathRegexp") {
		t.Errorf("from the log without the pattern: %v", err)
	}
	if d := diff(want, e.destination.dump("/test", false), nil); len(d) > 0 {
		t.Error(d)
	}
	e.copied(exclude("(((((a*)*)*)*)*)*$^")) // costs some languages a lifetime, and matches nothing
	e.equal()
}
