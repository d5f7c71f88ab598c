package zookeeper

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/topology"
)

// survey goes over the records of a stretch without their data and finds out what of
// it the destination does not hold. Nothing may be in flight.
type survey struct {
	c *Consumer
	// differs tells of each key whether its last record so far does.
	differs map[string]bool
	// newer is a record that nobody knows how to read.
	newer error
}

func (s *survey) see(k *kgo.Record) {
	r, err := topology.Decode(k)
	if err != nil {
		var newer *topology.NewerSchemaError
		if s.newer == nil && errors.As(err, &newer) {
			s.newer = err // one of perhaps many
		}
		// Whatever it is, the one before it does not count any more.
		delete(s.differs, string(k.Key))
		return
	}
	if topology.IsControl(r.Key) {
		s.c.control(&r)
		return
	}
	if path, ok := topology.NodePath(r.Key); ok && s.c.Rules.Covers(path) {
		s.c.readAgain(path, k.Offset)
		s.differs[r.Key] = !s.c.holds(path, &r)
	}
}

// done notes what is equal and returns the keys of what is not.
func (s *survey) done() (differing map[string]bool) {
	for key, differs := range s.differs {
		if differs {
			continue
		}
		delete(s.differs, key)
		if path, ok := topology.NodePath(key); ok {
			s.c.equal(path)
		}
	}
	return s.differs
}

// holds tells whether the destination is as a record says.
func (c *Consumer) holds(path string, r *topology.Record) bool {
	n, exists := c.tree.get(path)
	if r.Op == topology.Delete {
		return !exists
	}
	return exists && c.Rules.Wants(r) && c.same(&n, wish(path, r))
}

// equal notes that the destination is as the last record of a node says.
func (c *Consumer) equal(path string) {
	c.report.mended(path)
	c.dropACL(path)
	c.tree.change(path, func(n *node) {
		if !n.wanted {
			n.wanted, n.unchanged = true, true
			c.report.count(Unchanged)
		}
	})
}
