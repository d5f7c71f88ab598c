package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/afterimage-dr/afterimage/topology"
)

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var (
	part0 = PartitionID{TopicID: [16]byte{1}, Number: 0}
	part1 = PartitionID{TopicID: [16]byte{1}, Number: 1}
	other = PartitionID{TopicID: [16]byte{2}, Number: 0}
)

func fullEntry() Entry {
	return Entry{
		Version: topology.Version{Epoch: 1700000000, RV: "123456", NamespaceRV: "9", Generation: 4},
		UID:     "7d3c", Hash: "abc", Held: true, Withheld: true, Offset: 1 << 40,
		DestinationUID: "u", DestinationRV: "77", FieldsHash: "f", Mark: "m",
	}
}

func TestEverythingComesBack(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	must(t, err)
	q := Quarantine{
		Offset: 5, Reason: "Invalid", Message: "spec.x: no", Attempts: 3,
		Since: time.Unix(100, 5).UTC(), NextTry: time.Unix(200, 0).UTC(), Version: fullEntry().Version,
	}
	pos := Position{Offset: 42, LeaderEpoch: 3, CommittedAt: time.Unix(1700000000, 7).UTC()}
	c := s.Stage("a/processor").Change(part0)
	c.Put("core/v1/configmaps/ns/a", fullEntry())
	c.Quarantine("core/v1/configmaps/ns/b", q)
	c.SetMeta("epoch", []byte("17"))
	must(t, c.Commit(&pos))
	must(t, s.Close())

	st := open(t, dir).Stage("a/processor")
	e, ok, err := st.Get(part0, "core/v1/configmaps/ns/a")
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if d := cmp.Diff(fullEntry(), e); d != "" {
		t.Error(d)
	}
	gq, ok, err := st.Quarantined(part0, "core/v1/configmaps/ns/b")
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if d := cmp.Diff(q, gq); d != "" {
		t.Error(d)
	}
	gp, ok, err := st.Position(part0)
	if err != nil || !ok || gp != pos {
		t.Errorf("position %v %v %v, want %v", gp, ok, err, pos)
	}
	m, ok, err := st.Meta(part0, "epoch")
	if err != nil || !ok || string(m) != "17" {
		t.Errorf("meta %q %v %v", m, ok, err)
	}
	// Nothing of it is in another stage, partition or topic.
	for _, x := range []struct {
		st *Stage
		p  PartitionID
	}{{st, part1}, {st, other}, {st.store.Stage("a/process"), part0}, {st.store.Stage("a/processor2"), part0}} {
		if _, ok, err := x.st.Get(x.p, "core/v1/configmaps/ns/a"); ok || err != nil {
			t.Errorf("entry seen in %q %v: %v", x.st.prefix, x.p, err)
		}
		if _, ok, err := x.st.Position(x.p); ok || err != nil {
			t.Errorf("position seen in %q %v: %v", x.st.prefix, x.p, err)
		}
	}
}

func TestPutReleasesFromQuarantine(t *testing.T) {
	st := open(t, t.TempDir()).Stage("s")
	c := st.Change(part0)
	c.Quarantine("k", Quarantine{Reason: "r"})
	c.Quarantine("other", Quarantine{Reason: "r"})
	must(t, c.Commit(nil))
	c = st.Change(part0)
	c.Put("k", Entry{Hash: "h"})
	must(t, c.Commit(nil))
	if _, ok, err := st.Quarantined(part0, "k"); ok || err != nil {
		t.Fatal("still in quarantine", err)
	}
	if _, ok, err := st.Quarantined(part0, "other"); !ok || err != nil {
		t.Fatal("the other one is gone", err)
	}
	// The last word on a key counts.
	c = st.Change(part0)
	c.Put("k", Entry{Hash: "h2"})
	c.Quarantine("k", Quarantine{Reason: "again"})
	must(t, c.Commit(nil))
	if q, ok, err := st.Quarantined(part0, "k"); !ok || err != nil || q.Reason != "again" {
		t.Fatal(q, ok, err)
	}
	if e, ok, err := st.Get(part0, "k"); !ok || err != nil || e.Hash != "h2" {
		t.Fatal(e, ok, err)
	}
}

func TestChangeTooBigForOneTransaction(t *testing.T) {
	st := open(t, t.TempDir()).Stage("s")
	c := st.Change(part0)
	const n = 60_000
	for i := range n {
		c.Put(fmt.Sprintf("core/v1/configmaps/namespace/%06d", i), fullEntry())
	}
	must(t, c.Commit(&Position{Offset: n}))
	count, last := 0, ""
	must(t, st.Each(part0, "core/v1/configmaps/", func(k string, e Entry) error {
		if k <= last {
			t.Fatalf("%s after %s", k, last)
		}
		last = k
		count++
		return nil
	}))
	if count != n {
		t.Fatalf("%d entries, want %d", count, n)
	}
	if p, ok, err := st.Position(part0); !ok || err != nil || p.Offset != n {
		t.Fatal(p, ok, err)
	}
}

// A value of the stage's own may be a position too: a split must not make it
// durable before what was read up to there.
func TestSplitChangeWritesValuesLast(t *testing.T) {
	st := open(t, t.TempDir()).Stage("s")
	c := st.Change(part0)
	const n = 60_000
	for i := range n {
		c.Put(fmt.Sprintf("core/v1/configmaps/namespace/%06d", i), fullEntry())
	}
	c.SetMeta("known", []byte("7"))
	must(t, c.Commit(&Position{Offset: n}))
	versionOf := func(key []byte) (v uint64) {
		must(t, st.store.db.View(func(txn *badger.Txn) error {
			item, err := txn.Get(key)
			if err == nil {
				v = item.Version()
			}
			return err
		}))
		return v
	}
	first := versionOf(st.key(kindEntry, part0, "core/v1/configmaps/namespace/000000"))
	last := versionOf(st.key(kindEntry, part0, fmt.Sprintf("core/v1/configmaps/namespace/%06d", n-1)))
	if first == last {
		t.Fatal("the change fitted one transaction")
	}
	if known := versionOf(st.key(kindMeta, part0, "known")); known < last {
		t.Errorf("the value was written in transaction %d, entries still in %d", known, last)
	}
}

func TestDropForgetsOnePartitionOnly(t *testing.T) {
	s := open(t, t.TempDir())
	st := s.Stage("s")
	for _, p := range []PartitionID{part0, part1, other} {
		c := st.Change(p)
		for i := range 5000 {
			c.Put(fmt.Sprintf("k%04d", i), Entry{Hash: "h"})
		}
		c.Quarantine("q", Quarantine{})
		c.SetMeta("m", []byte("x"))
		must(t, c.Commit(&Position{Offset: 9}))
	}
	c := s.Stage("t").Change(part0)
	c.Put("k", Entry{})
	must(t, c.Commit(&Position{Offset: 1}))

	must(t, st.Drop(part0))
	checkEmpty(t, st, part0)
	must(t, st.DropOthers(other.TopicID))
	checkEmpty(t, st, part1)
	if n := countEntries(t, st, other); n != 5000 {
		t.Errorf("%d entries of the kept topic, want 5000", n)
	}
	if n := countEntries(t, s.Stage("t"), part0); n != 1 {
		t.Errorf("%d entries of another stage, want 1", n)
	}
}

func countEntries(t testing.TB, st *Stage, p PartitionID) (n int) {
	t.Helper()
	must(t, st.Each(p, "", func(string, Entry) error { n++; return nil }))
	return n
}

func checkEmpty(t testing.TB, st *Stage, p PartitionID) {
	t.Helper()
	if n := countEntries(t, st, p); n != 0 {
		t.Errorf("%d entries left", n)
	}
	if _, ok, err := st.Position(p); ok || err != nil {
		t.Error("position left", err)
	}
	if _, ok, err := st.Quarantined(p, "q"); ok || err != nil {
		t.Error("quarantine left", err)
	}
	if _, ok, err := st.Meta(p, "m"); ok || err != nil {
		t.Error("meta left", err)
	}
}

func TestHalfADropIsFinishedByOpen(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	must(t, err)
	st := s.Stage("s")
	c := st.Change(part0)
	c.Put("k", Entry{Hash: "h"})
	must(t, c.Commit(&Position{Offset: 9}))
	// As a crash leaves it: the mark is there, the entries too.
	must(t, s.db.Update(func(txn *badger.Txn) error {
		return txn.Set(appendPartition([]byte{0, kindDrop, 's', 0}, part0), []byte{format})
	}))
	must(t, s.Close())
	checkEmpty(t, open(t, dir).Stage("s"), part0)
}

func TestDeletedMarkerExpires(t *testing.T) {
	s := open(t, t.TempDir())
	st := s.Stage("s")
	c := st.Change(part0)
	c.Put("gone", Entry{Deleted: true})
	c.Put("here", Entry{})
	c.Put("withheld", Entry{Deleted: true, Withheld: true})
	must(t, c.Commit(nil))
	must(t, s.db.View(func(txn *badger.Txn) error {
		for key, want := range map[string]time.Duration{"gone": DeletedTTL, "here": 0, "withheld": 0} {
			item, err := txn.Get(st.key(kindEntry, part0, key))
			if err != nil {
				return err
			}
			left := time.Duration(0)
			if at := item.ExpiresAt(); at != 0 {
				left = time.Until(time.Unix(int64(at), 0)).Round(time.Hour)
			}
			if left != want {
				t.Errorf("%s expires in %v, want %v", key, left, want)
			}
		}
		return nil
	}))
}

func TestSecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	if _, err := Open(dir); !errors.Is(err, ErrInUse) {
		t.Fatalf("second Open: %v, want ErrInUse", err)
	}
}

func TestDamagedDatabaseIsMovedAside(t *testing.T) {
	fill := func(t *testing.T, dir string) {
		s, err := Open(dir)
		must(t, err)
		c := s.Stage("s").Change(part0)
		for i := range 1000 {
			c.Put(fmt.Sprintf("k%04d", i), fullEntry())
		}
		must(t, c.Commit(&Position{Offset: 1}))
		must(t, s.Close())
	}
	overwrite := func(pattern string, change func([]byte) []byte) func(*testing.T, string) {
		return func(t *testing.T, db string) {
			files, err := filepath.Glob(filepath.Join(db, pattern))
			if err != nil || len(files) == 0 {
				t.Fatalf("no %s: %v", pattern, err)
			}
			for _, f := range files {
				b, err := os.ReadFile(f)
				must(t, err)
				must(t, os.WriteFile(f, change(b), 0o600))
			}
		}
	}
	garble := func(b []byte) []byte {
		for i := len(b) / 3; i < len(b)/3+64 && i < len(b); i++ {
			b[i] ^= 0xa5
		}
		return b
	}
	for name, damage := range map[string]func(*testing.T, string){
		"manifest garbled":   overwrite("MANIFEST", func(b []byte) []byte { return append([]byte("rubbish!"), b...) }),
		"manifest lost":      func(t *testing.T, db string) { must(t, os.Remove(filepath.Join(db, "MANIFEST"))) },
		"table garbled":      overwrite("*.sst", garble),
		"table cut":          overwrite("*.sst", func(b []byte) []byte { return b[:len(b)/2] }),
		"table empty":        overwrite("*.sst", func([]byte) []byte { return nil }),
		"key registry wrong": overwrite("KEYREGISTRY", func([]byte) []byte { return []byte("x") }),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			fill(t, dir)
			damage(t, filepath.Join(dir, dbFolder))
			s := open(t, dir)
			if s.Damaged() == "" {
				t.Fatal("nobody noticed")
			}
			if _, err := os.Stat(s.Damaged()); err != nil {
				t.Error(err)
			}
			st := s.Stage("s")
			checkEmpty(t, st, part0)
			c := st.Change(part0)
			c.Put("k", Entry{Hash: "new"})
			must(t, c.Commit(&Position{Offset: 2}))
		})
	}
}

func TestNewerFormatIsAnError(t *testing.T) {
	s := open(t, t.TempDir())
	st := s.Stage("s")
	must(t, s.db.Update(func(txn *badger.Txn) error {
		return txn.Set(st.key(kindEntry, part0, "k"), []byte{format + 1, 0, 0})
	}))
	if _, _, err := st.Get(part0, "k"); err == nil {
		t.Fatal("a value of a newer format was read")
	}
}

func FuzzDecode(f *testing.F) {
	e := fullEntry()
	f.Add(e.encode())
	q := Quarantine{Reason: "r"}
	f.Add(q.encode())
	f.Add(Position{Offset: 3}.encode())
	f.Add([]byte{format, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := decodeEntry(b); err == nil {
			again, err := decodeEntry(e.encode())
			if err != nil || again != e {
				t.Fatalf("%+v became %+v: %v", e, again, err)
			}
		}
		if q, err := decodeQuarantine(b); err == nil {
			if _, err := decodeQuarantine(q.encode()); err != nil {
				t.Fatal(err)
			}
		}
		if p, err := decodePosition(b); err == nil {
			if _, err := decodePosition(p.encode()); err != nil {
				t.Fatal(err)
			}
		}
	})
}
