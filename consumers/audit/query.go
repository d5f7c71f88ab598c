package audit

import (
	"bytes"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/topology"
)

// Query says which changes are asked for; its zero value asks for all of them.
type Query struct {
	// Since and Until bound the moment; zero: no bound.
	Since, Until time.Time
	// Object is a record key; then one partition is read.
	Object string
	// Namespace of objects; a Namespace counts as in itself.
	Namespace string
	// Under is the path of a znode: it and all below it.
	Under string
	Op    topology.Op
	// By is a field manager that must have had a part in the change.
	By string
	// Values has creates and deletes told with the whole object as one field.
	Values bool
}

// control tells whether gaps and epochs are told: they concern every object, but
// are nobody's change.
func (q *Query) control() bool { return q.Op == "" && q.By == "" }

// key tells whether records of a key may be asked for.
func (q *Query) key(key []byte) bool {
	if q.Object != "" {
		return string(key) == q.Object
	}
	if len(key) > 0 && key[0] == '!' {
		return false
	}
	if q.Under != "" {
		path, ok := topology.NodePath(string(key))
		return ok && topology.NodeWithin(path, q.Under)
	}
	if q.Namespace == "" {
		return true
	}
	parts := bytes.SplitN(key, []byte{'/'}, 5)
	if len(parts) != 5 {
		return false
	}
	namespace := parts[3]
	if len(namespace) == 0 && string(parts[2]) == "namespaces" && string(parts[0]) == "core" {
		namespace = parts[4]
	}
	return string(namespace) == q.Namespace
}

// moment tells whether a record's moment is asked for.
func (q *Query) moment(nanos int64) bool {
	return (q.Since.IsZero() || nanos >= q.Since.UnixNano()) && (q.Until.IsZero() || nanos <= q.Until.UnixNano())
}

// change tells whether a change is asked for, as far as only its content tells.
func (q *Query) change(c *Change) bool {
	if q.Op != "" && c.Op != q.Op {
		return false
	}
	return q.By == "" || slices.ContainsFunc(c.By, func(m topology.Manager) bool { return m.Name == q.By })
}

// record tells whether a record may be asked for, without decoding it.
func (q *Query) record(k *kgo.Record) bool {
	if !q.key(k.Key) {
		return false
	}
	g, err := topology.GlanceAt(k)
	return err == nil && q.moment(g.Moment)
}
