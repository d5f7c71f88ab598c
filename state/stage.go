package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"
)

// kinds of keys; see the package documentation.
const (
	kindPosition   = 'o'
	kindEntry      = 's'
	kindQuarantine = 'q'
	kindMeta       = 'm'
	kindDrop       = 'd'
)

const partitionLen = 16 + 4

// Stage is the memory of one stage. Reads are safe for concurrent use; a
// partition has one writer at a time (guarantee 4).
type Stage struct {
	store  *Store
	prefix []byte
}

func appendPartition(b []byte, p PartitionID) []byte {
	b = append(b, p.TopicID[:]...)
	return binary.BigEndian.AppendUint32(b, uint32(p.Number))
}

func (s *Stage) key(kind byte, p PartitionID, name string) []byte {
	b := make([]byte, 0, len(s.prefix)+1+partitionLen+len(name))
	b = append(b, s.prefix...)
	b = append(b, kind)
	b = appendPartition(b, p)
	return append(b, name...)
}

// Position returns the stored position of a partition.
func (s *Stage) Position(p PartitionID) (Position, bool, error) {
	return get(s, s.key(kindPosition, p, ""), decodePosition)
}

// Get returns what is remembered of a key.
func (s *Stage) Get(p PartitionID, key string) (Entry, bool, error) {
	return get(s, s.key(kindEntry, p, key), decodeEntry)
}

// Quarantined returns the quarantine entry of a key.
func (s *Stage) Quarantined(p PartitionID, key string) (Quarantine, bool, error) {
	return get(s, s.key(kindQuarantine, p, key), decodeQuarantine)
}

// Meta returns a small value of the stage's own, kept per partition (its configuration, its epoch).
func (s *Stage) Meta(p PartitionID, name string) ([]byte, bool, error) {
	return get(s, s.key(kindMeta, p, name), func(b []byte) ([]byte, error) { return slices.Clone(b), nil })
}

func get[T any](s *Stage, key []byte, decode func([]byte) (T, error)) (v T, ok bool, err error) {
	err = s.store.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(key)
		if err != nil {
			return err
		}
		return item.Value(func(b []byte) error {
			v, err = decode(b)
			return err
		})
	})
	switch {
	case errors.Is(err, badger.ErrKeyNotFound):
		return v, false, nil
	case err != nil:
		return v, false, fmt.Errorf("state: read: %w", err)
	}
	return v, true, nil
}

// Each calls fn for every remembered key that begins with prefix, in key order.
// fn sees one moment of the store; what it changes it does not see. An error of
// fn ends the walk and is returned.
func (s *Stage) Each(p PartitionID, prefix string, fn func(key string, e Entry) error) error {
	return each(s, kindEntry, p, prefix, decodeEntry, fn)
}

// EachQuarantined calls fn for every quarantined key of a partition, in key order.
func (s *Stage) EachQuarantined(p PartitionID, fn func(key string, q Quarantine) error) error {
	return each(s, kindQuarantine, p, "", decodeQuarantine, fn)
}

func each[T any](s *Stage, kind byte, p PartitionID, prefix string, decode func([]byte) (T, error), fn func(string, T) error) error {
	base := len(s.key(kind, p, ""))
	opts := badger.DefaultIteratorOptions
	opts.Prefix = s.key(kind, p, prefix)
	return s.store.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(opts)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			item := it.Item()
			var v T
			err := item.Value(func(b []byte) (err error) {
				v, err = decode(b)
				return err
			})
			if err != nil {
				return fmt.Errorf("state: read: %w", err)
			}
			if err := fn(string(item.Key()[base:]), v); err != nil {
				return err
			}
		}
		return nil
	})
}
