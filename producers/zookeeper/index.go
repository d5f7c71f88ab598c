package zookeeper

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/topology"
)

// side of what this package holds back, see topology.Blocked.
const side = "source"

// index is what the log holds of each node, without its data. An ensemble keeps all
// its nodes, with their data, in memory: this is a fraction of that.
type index struct {
	mu    sync.Mutex
	nodes map[string]entry
	// round is the comparison that goes on: what it has not seen at its end is gone.
	round int
	// gaps in the log, by key, and when each ended.
	gaps map[string]time.Time
	// verified is up to when the log is known to hold everything.
	verified time.Time
	// held: see topology.BlockedBody; 0 while nothing is held back.
	held int64
}

type entry struct {
	hash string
	mode topology.NodeMode
	acl  []topology.NodeACL
	// round it was seen in, and that in which it came into the log.
	round, born int
}

// loadIndex reads a topic to its end.
func loadIndex(ctx context.Context, log *stream.Client, topic string) (*index, error) {
	x := &index{nodes: map[string]entry{}, gaps: map[string]time.Time{}}
	b, err := log.Bounds(ctx, topic, 0)
	if err != nil {
		return nil, err
	}
	err = log.Read(ctx, topic, 0, b.Start, b.End, func(k *kgo.Record) error {
		r, err := topology.Decode(k)
		var newer *topology.NewerSchemaError
		if errors.As(err, &newer) {
			return err // what it says would be overwritten
		}
		if err != nil {
			return nil //nolint:nilerr // not ours
		}
		switch r.Kind {
		case topology.Heartbeat:
			x.verified = r.VerifiedAt
		case topology.Gap:
			x.gap(&r)
		}
		if held, ok := topology.BlockedAt(side, &r); ok {
			x.held = held
		}
		path, ok := topology.NodePath(r.Key)
		switch {
		case !ok:
		case r.Op == topology.Delete || r.Body == nil:
			delete(x.nodes, path)
		case r.Node != nil:
			x.nodes[path] = entryOf(r.Hash, r.Node)
		}
		return nil
	})
	return x, err
}

func (x *index) gap(r *topology.Record) {
	var body topology.GapBody
	if json.Unmarshal(r.Body, &body) != nil {
		delete(x.gaps, r.Key)
		return
	}
	x.gaps[r.Key] = body.To
}

func entryOf(hash string, m *topology.NodeMeta) entry {
	return entry{hash: hash, mode: m.Mode, acl: m.ACL}
}

// note takes in what a node holds, and tells whether the log holds otherwise.
func (x *index) note(path, hash string, m *topology.NodeMeta) (op topology.Op, changed bool) {
	now := entryOf(hash, m)
	x.mu.Lock()
	defer x.mu.Unlock()
	now.round, now.born = x.round, x.round
	before, known := x.nodes[path]
	if known {
		now.born = before.born
	}
	if known && now.acl == nil {
		now.acl = before.acl // not read this time: what is known of it stays
	}
	x.nodes[path] = now
	switch {
	case !known:
		return topology.Create, true
	case before.hash != now.hash || before.mode != now.mode || !slices.Equal(before.acl, now.acl):
		return topology.Update, true
	}
	return "", false
}

func (x *index) has(path string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, known := x.nodes[path]
	return known
}

// remove tells whether the log had the node.
func (x *index) remove(path string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, known := x.nodes[path]
	delete(x.nodes, path)
	return known
}

// unseen are the nodes that this round has not seen and that are asked for; tracked
// are those there were before it.
func (x *index) unseen(asked func(path string) bool) (paths []string, tracked int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for path, e := range x.nodes {
		if !asked(path) {
			continue
		}
		if e.born < x.round {
			tracked++
		}
		if e.round != x.round {
			paths = append(paths, path)
		}
	}
	return paths, tracked
}
