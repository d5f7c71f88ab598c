package state

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"
)

// Change is a set of changes of one partition that take effect together.
type Change struct {
	stage *Stage
	p     PartitionID
	// writes by full key; the last one of a key counts.
	writes map[string]write
}

type write struct {
	value   []byte // nil deletes
	expires bool
	// ifPresent: a delete worth a write only where there is something to delete.
	ifPresent bool
}

// Change begins one; not safe for concurrent use.
func (s *Stage) Change(p PartitionID) *Change {
	return &Change{stage: s, p: p, writes: map[string]write{}}
}

func (c *Change) set(kind byte, name string, w write) {
	c.writes[string(c.stage.key(kind, c.p, name))] = w
}

// Put remembers a key. It also releases the key from quarantine. A deleted
// entry is forgotten after DeletedTTL, unless it is withheld.
func (c *Change) Put(key string, e Entry) {
	c.set(kindEntry, key, write{value: e.encode(), expires: e.Deleted && !e.Withheld})
	c.Release(key)
}

// Forget removes a key altogether, from quarantine too.
func (c *Change) Forget(key string) {
	c.set(kindEntry, key, write{})
	c.Release(key)
}

// Quarantine records that a key could not be applied; one entry a key.
func (c *Change) Quarantine(key string, q Quarantine) {
	c.set(kindQuarantine, key, write{value: q.encode()})
}

// Release removes a key from quarantine.
func (c *Change) Release(key string) {
	c.set(kindQuarantine, key, write{ifPresent: true})
}

// SetMeta sets a small value of the stage's own; nil removes it.
func (c *Change) SetMeta(name string, v []byte) {
	c.set(kindMeta, name, write{value: slices.Clone(v)})
}

// Commit makes the changes durable together with the position (guarantee 2); a
// nil position leaves the stored one. Where they do not fit one transaction they
// are split, values of SetMeta and then the position going last. The Change is
// empty afterwards and may be used again.
func (c *Change) Commit(p *Position) error {
	if len(c.writes) == 0 && p == nil {
		return nil
	}
	// Guarantee 2: one transaction. In key order, so that what a split leaves
	// behind does not depend on chance, but for the stage's own values: like the
	// position they may say how far something was read, and must not be durable
	// before the entries that were read up to there.
	keys, meta := make([]string, 0, len(c.writes)), []string(nil)
	kind := len(c.stage.prefix)
	for k := range c.writes {
		if k[kind] == kindMeta {
			meta = append(meta, k)
			continue
		}
		keys = append(keys, k)
	}
	slices.Sort(keys)
	slices.Sort(meta)
	keys = append(keys, meta...)
	b := newBatch(c.stage.store.db)
	defer b.discard()
	for _, k := range keys {
		if err := b.apply([]byte(k), c.writes[k]); err != nil {
			return fmt.Errorf("state: commit: %w", err)
		}
	}
	if p != nil {
		if err := b.apply(c.stage.key(kindPosition, c.p, ""), write{value: p.encode()}); err != nil {
			return fmt.Errorf("state: commit position: %w", err)
		}
	}
	if err := b.commit(); err != nil {
		return fmt.Errorf("state: commit: %w", err)
	}
	clear(c.writes)
	return nil
}

// batch is a transaction that is committed and begun anew when it is full.
type batch struct {
	db  *badger.DB
	txn *badger.Txn
}

func newBatch(db *badger.DB) *batch { return &batch{db: db, txn: db.NewTransaction(true)} }

func (b *batch) discard() { b.txn.Discard() }

func (b *batch) commit() error { return b.txn.Commit() }

func (b *batch) apply(key []byte, w write) error {
	if w.ifPresent {
		if _, err := b.txn.Get(key); errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		} else if err != nil {
			return err
		}
	}
	err := b.try(key, w)
	if !errors.Is(err, badger.ErrTxnTooBig) {
		return err
	}
	if err := b.txn.Commit(); err != nil {
		return err
	}
	b.txn = b.db.NewTransaction(true)
	return b.try(key, w)
}

func (b *batch) try(key []byte, w write) error {
	if w.value == nil {
		return b.txn.Delete(key)
	}
	e := badger.NewEntry(key, w.value)
	if w.expires {
		e = e.WithTTL(DeletedTTL)
	}
	return b.txn.SetEntry(e)
}

// Drop forgets everything about a partition. A crash in between leaves a mark,
// and the next Open finishes it: half a memory would be worse than none.
func (s *Stage) Drop(p PartitionID) error {
	mark := appendPartition(append([]byte{0, kindDrop}, s.prefix...), p)
	err := s.store.db.Update(func(txn *badger.Txn) error {
		if err := txn.Set(mark, []byte{format}); err != nil {
			return err
		}
		return txn.Delete(s.key(kindPosition, p, ""))
	})
	if err != nil {
		return fmt.Errorf("state: drop: %w", err)
	}
	for _, kind := range []byte{kindEntry, kindQuarantine, kindMeta} {
		if err := s.store.deletePrefix(s.key(kind, p, "")); err != nil {
			return fmt.Errorf("state: drop: %w", err)
		}
	}
	if err := s.store.db.Update(func(txn *badger.Txn) error { return txn.Delete(mark) }); err != nil {
		return fmt.Errorf("state: drop: %w", err)
	}
	return nil
}

// DropOthers forgets every partition of other topics (topic IDs not in keep).
func (s *Stage) DropOthers(keep ...[16]byte) error {
	found := map[PartitionID]bool{}
	for _, kind := range []byte{kindPosition, kindEntry, kindQuarantine, kindMeta} {
		s.partitions(kind, func(p PartitionID) {
			if !slices.Contains(keep, p.TopicID) {
				found[p] = true
			}
		})
	}
	for p := range found {
		if err := s.Drop(p); err != nil {
			return err
		}
	}
	return nil
}

// partitions finds the partitions that have keys of a kind, by seeking from one to the next.
func (s *Stage) partitions(kind byte, fn func(PartitionID)) {
	prefix := append(slices.Clone(s.prefix), kind)
	opts := badger.IteratorOptions{Prefix: prefix}
	_ = s.store.db.View(func(txn *badger.Txn) error { // nothing in it returns an error
		it := txn.NewIterator(opts)
		defer it.Close()
		it.Rewind()
		for it.Valid() {
			p, ok := parsePartition(it.Item().Key()[len(prefix):])
			if !ok {
				it.Next()
				continue
			}
			fn(p)
			next := appendPartition(slices.Clone(prefix), p)
			// Behind everything that begins with it: add one to the number.
			for i := len(next) - 1; i >= 0; i-- {
				if next[i]++; next[i] != 0 {
					break
				}
			}
			it.Seek(next)
		}
		return nil
	})
}

func parsePartition(b []byte) (PartitionID, bool) {
	if len(b) < partitionLen {
		return PartitionID{}, false
	}
	var p PartitionID
	copy(p.TopicID[:], b)
	p.Number = int32(uint32(b[16])<<24 | uint32(b[17])<<16 | uint32(b[18])<<8 | uint32(b[19]))
	return p, true
}

// deletePrefix deletes by key, not with DropPrefix, which stops the writes of
// every other stage meanwhile.
func (s *Store) deletePrefix(prefix []byte) error {
	const chunk = 4096
	for {
		keys := make([][]byte, 0, chunk)
		_ = s.db.View(func(txn *badger.Txn) error { // nothing in it returns an error
			it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
			defer it.Close()
			for it.Rewind(); it.Valid() && len(keys) < chunk; it.Next() {
				keys = append(keys, it.Item().KeyCopy(nil))
			}
			return nil
		})
		if len(keys) == 0 {
			return nil
		}
		b := newBatch(s.db)
		for _, k := range keys {
			if err := b.apply(k, write{}); err != nil {
				b.discard()
				return err
			}
		}
		if err := b.commit(); err != nil {
			return err
		}
	}
}

func (s *Store) finishDrops() error {
	var marks [][]byte
	_ = s.db.View(func(txn *badger.Txn) error { // nothing in it returns an error
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{0, kindDrop}})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			marks = append(marks, it.Item().KeyCopy(nil))
		}
		return nil
	})
	for _, m := range marks {
		rest := m[2:]
		i := bytes.IndexByte(rest, 0)
		if i < 0 {
			continue
		}
		p, ok := parsePartition(rest[i+1:])
		if !ok {
			continue
		}
		st := &Stage{store: s, prefix: slices.Clone(rest[:i+1])}
		if err := st.Drop(p); err != nil {
			return err
		}
	}
	return nil
}
