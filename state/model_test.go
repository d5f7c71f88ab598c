package state

import (
	"bufio"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/afterimage-dr/afterimage/topology"
)

// TestMain lets the model test do less by default: each check opens and closes
// databases, which waits for the disk. -rapid.checks asks for more.
func TestMain(m *testing.M) {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "rapid.checks" })
	if !asked {
		if err := flag.Set("rapid.checks", "20"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// model is what a stage must hold of one partition.
type model struct {
	entries    map[string]Entry
	quarantine map[string]Quarantine
	meta       map[string]string
	position   *Position
}

func newModel() *model {
	return &model{entries: map[string]Entry{}, quarantine: map[string]Quarantine{}, meta: map[string]string{}}
}

func (m *model) clone() *model {
	return &model{maps.Clone(m.entries), maps.Clone(m.quarantine), maps.Clone(m.meta), m.position}
}

func read(t *rapid.T, st *Stage, p PartitionID) *model {
	m := newModel()
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	check(st.Each(p, "", func(k string, e Entry) error { m.entries[k] = e; return nil }))
	check(st.EachQuarantined(p, func(k string, q Quarantine) error { m.quarantine[k] = q; return nil }))
	for _, n := range []string{"a", "b"} {
		v, ok, err := st.Meta(p, n)
		check(err)
		if ok {
			m.meta[n] = string(v)
		}
	}
	pos, ok, err := st.Position(p)
	check(err)
	if ok {
		m.position = &pos
	}
	return m
}

// TestStoreAgainstModel does what stages do, in any order, with reopening in
// between, and compares with maps.
func TestStoreAgainstModel(t *testing.T) {
	keys := rapid.SampledFrom([]string{"core/v1/pods/a/x", "core/v1/pods/a/y", "core/v1/pods/b/x", "apps/v1/deployments/a/x", "core/v1/namespaces//n"})
	parts := []PartitionID{part0, part1, other}
	stages := []string{"ns/a/processor", "ns/a/synchronizer"}
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "state-model-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		s, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { s.Close() }()
		want := map[string]map[PartitionID]*model{}
		for _, n := range stages {
			want[n] = map[PartitionID]*model{}
			for _, p := range parts {
				want[n][p] = newModel()
			}
		}
		pick := func(t *rapid.T) (*Stage, string, PartitionID) {
			n := rapid.SampledFrom(stages).Draw(t, "stage")
			return s.Stage(n), n, rapid.SampledFrom(parts).Draw(t, "partition")
		}
		t.Repeat(map[string]func(*rapid.T){
			"change": func(t *rapid.T) {
				st, n, p := pick(t)
				c, m := st.Change(p), want[n][p].clone()
				for range rapid.IntRange(0, 6).Draw(t, "operations") {
					change(t, c, m, keys.Draw(t, "key"))
				}
				var pos *Position
				if rapid.Bool().Draw(t, "with position") {
					pos = &Position{Offset: rapid.Int64Range(0, 1<<50).Draw(t, "offset"), LeaderEpoch: rapid.Int32Range(-1, 9).Draw(t, "epoch")}
					m.position = pos
				}
				if rapid.IntRange(0, 4).Draw(t, "give up") == 0 {
					return // never committed: nothing of it is seen
				}
				if err := c.Commit(pos); err != nil {
					t.Fatal(err)
				}
				want[n][p] = m
			},
			"drop": func(t *rapid.T) {
				st, n, p := pick(t)
				if err := st.Drop(p); err != nil {
					t.Fatal(err)
				}
				want[n][p] = newModel()
			},
			"drop others": func(t *rapid.T) {
				st, n, p := pick(t)
				if err := st.DropOthers(p.TopicID); err != nil {
					t.Fatal(err)
				}
				for _, o := range parts {
					if o.TopicID != p.TopicID {
						want[n][o] = newModel()
					}
				}
			},
			"reopen": func(t *rapid.T) {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if s, err = Open(dir); err != nil {
					t.Fatal(err)
				}
			},
			"": func(t *rapid.T) {
				for n, ps := range want {
					for p, m := range ps {
						if d := cmp.Diff(m, read(t, s.Stage(n), p), cmp.AllowUnexported(model{})); d != "" {
							t.Fatalf("%s %v: %s", n, p, d)
						}
					}
				}
				_, n, p := pick(t)
				checkPrefix(t, s.Stage(n), p, want[n][p])
			},
		})
	})
}

func change(t *rapid.T, c *Change, m *model, key string) {
	switch rapid.IntRange(0, 4).Draw(t, "operation") {
	case 0:
		e := Entry{
			Version: topology.Version{Epoch: rapid.Int64().Draw(t, "epoch"), RV: rapid.StringMatching(`[0-9]{0,12}`).Draw(t, "rv"), Generation: rapid.Int64().Draw(t, "generation")},
			UID:     rapid.String().Draw(t, "uid"), Hash: rapid.String().Draw(t, "hash"),
			Deleted: rapid.Bool().Draw(t, "deleted"), Held: rapid.Bool().Draw(t, "held"), Withheld: rapid.Bool().Draw(t, "withheld"),
			Offset: rapid.Int64().Draw(t, "offset"), Mark: rapid.String().Draw(t, "mark"),
		}
		c.Put(key, e)
		m.entries[key] = e
		delete(m.quarantine, key)
	case 1:
		c.Forget(key)
		delete(m.entries, key)
		delete(m.quarantine, key)
	case 2:
		q := Quarantine{Offset: rapid.Int64().Draw(t, "offset"), Reason: rapid.String().Draw(t, "reason"), Attempts: rapid.IntRange(0, 1<<30).Draw(t, "attempts"), Since: time.Unix(0, rapid.Int64Range(1, 1<<62).Draw(t, "since")).UTC()}
		c.Quarantine(key, q)
		m.quarantine[key] = q
	case 3:
		c.Release(key)
		delete(m.quarantine, key)
	case 4:
		n := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "name")
		v := rapid.String().Draw(t, "value")
		c.SetMeta(n, []byte(v))
		m.meta[n] = v
	}
}

func checkPrefix(t *rapid.T, st *Stage, p PartitionID, m *model) {
	var want, got []string
	const prefix = "core/v1/pods/"
	for k := range m.entries {
		if strings.HasPrefix(k, prefix) {
			want = append(want, k)
		}
	}
	slices.Sort(want)
	if err := st.Each(p, prefix, func(k string, _ Entry) error { got = append(got, k); return nil }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(want, got) {
		t.Fatalf("prefix walk %q, want %q", got, want)
	}
}

const killedDir = "AFTERIMAGE_STATE_KILLED_DIR"

// TestKilledChild is the process that the next test kills.
func TestKilledChild(t *testing.T) {
	dir := os.Getenv(killedDir)
	if dir == "" {
		return // nothing to do by itself: TestSIGKILLAtAnyTime runs it
	}
	s, err := Open(dir)
	must(t, err)
	if s.Damaged() != "" {
		t.Fatal("damaged by SIGKILL")
	}
	st := s.Stage("s")
	pos, _, err := st.Position(part0)
	must(t, err)
	for i := pos.Offset; ; i++ {
		c := st.Change(part0)
		for j := range 20 {
			c.Put(fmt.Sprintf("k%02d", j), Entry{Offset: i, Hash: strings.Repeat("x", 200)})
		}
		c.Quarantine("q", Quarantine{Offset: i})
		must(t, c.Commit(&Position{Offset: i}))
		fmt.Println(i)
	}
}

// TestSIGKILLAtAnyTime: what was committed is there, and entries, quarantine
// and position are of one commit (guarantees 2 and 10).
func TestSIGKILLAtAnyTime(t *testing.T) {
	dir := t.TempDir()
	acknowledged := int64(0)
	for round := range 8 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledChild$")
		cmd.Env = append(os.Environ(), killedDir+"="+dir)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		kill := time.Now().Add(time.Duration(30+37*round) * time.Millisecond)
		in := bufio.NewScanner(out)
		started := false
		for in.Scan() {
			n, err := strconv.ParseInt(in.Text(), 10, 64)
			if err != nil {
				t.Fatalf("child says %q", in.Text())
			}
			acknowledged = n
			if !started {
				started = true
				kill = time.Now().Add(time.Duration(20+17*round) * time.Millisecond)
			}
			if time.Now().After(kill) {
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait() // killed

		s, err := Open(dir)
		must(t, err)
		if s.Damaged() != "" {
			t.Fatal("damaged by SIGKILL")
		}
		st := s.Stage("s")
		pos, ok, err := st.Position(part0)
		if err != nil || !ok || pos.Offset < acknowledged {
			t.Fatalf("position %v %v %v, acknowledged %d", pos, ok, err, acknowledged)
		}
		must(t, st.Each(part0, "", func(k string, e Entry) error {
			if e.Offset != pos.Offset {
				t.Errorf("%s is of commit %d, the position of %d", k, e.Offset, pos.Offset)
			}
			return nil
		}))
		if q, _, err := st.Quarantined(part0, "q"); err != nil || q.Offset != pos.Offset {
			t.Errorf("quarantine is of commit %d (%v), the position of %d", q.Offset, err, pos.Offset)
		}
		must(t, s.Close())
	}
	if acknowledged == 0 {
		t.Fatal("the child never committed")
	}
}
