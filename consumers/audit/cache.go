package audit

import (
	"container/list"

	"github.com/afterimage-dr/afterimage/topology"
)

// cache keeps the last states of keys while there is room; what is pushed out is
// read from the log again.
type cache struct {
	room  int
	byKey map[uint64]*list.Element
	order *list.List // newest first, of *topology.Record
}

type cached struct {
	key uint64
	rec *topology.Record
}

func newCache(bytes int) *cache {
	return &cache{room: bytes, byKey: map[uint64]*list.Element{}, order: list.New()}
}

// weight of a record, roughly.
func weight(r *topology.Record) int { return len(r.Body) + len(r.Key) + 512 }

func (c *cache) put(key uint64, r *topology.Record) {
	c.drop(key)
	c.byKey[key] = c.order.PushFront(cached{key, r})
	for c.room -= weight(r); c.room < 0 && c.order.Len() > 1; {
		c.drop(c.order.Back().Value.(cached).key)
	}
}

func (c *cache) drop(key uint64) {
	if e, ok := c.byKey[key]; ok {
		c.room += weight(c.order.Remove(e).(cached).rec)
		delete(c.byKey, key)
	}
}

// get returns the state of a key if it is the one at an offset.
func (c *cache) get(key uint64, offset int64) *topology.Record {
	if e, ok := c.byKey[key]; ok {
		if r := e.Value.(cached).rec; r.Offset == offset {
			return r
		}
	}
	return nil
}
