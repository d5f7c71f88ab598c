// Package zookeeper reads a source ensemble and appends what its nodes hold, and
// their end, to changes.
package zookeeper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/breaker"
	"github.com/afterimage-dr/afterimage/internal/ensemble"
	"github.com/afterimage-dr/afterimage/internal/failpoint"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/topology"
)

// Options of a Producer.
type Options struct {
	Source *ensemble.Client
	Log    *stream.Client
	Writer *stream.Writer
	// Changes is the topic; it has one partition, and this is its only writer while
	// it runs (guarantee 4).
	Changes string
	Rules   topology.NodeRules
	// Incarnation names this writer in its records.
	Incarnation string
	// Breaker is the limit of what may be found missing at once (guarantee 8), and
	// Confirmed the token of what may be beyond it.
	Breaker   breaker.Limit
	Confirmed string
}

// Producer compares a source tree with the log and appends the differences.
type Producer struct {
	Options
	index    *index
	refusals refusals

	mu      sync.Mutex
	failure error // of an append

	read, appended atomic.Int64
}

// New makes a Producer; Load comes first.
func New(o Options) *Producer { return &Producer{Options: o} }

// Progress is how many nodes were read and how many records appended.
func (p *Producer) Progress() (read, appended int64) { return p.read.Load(), p.appended.Load() }

// Result of one complete comparison.
type Result struct {
	// Nodes found in the source.
	Nodes int64
	// Refused nodes could not be read, or do not fit into the log. Nothing is
	// concluded about them and what is below them.
	Refused []ensemble.Refusal
	// Blocked says that more is missing than may be concluded; nil: nothing is. All
	// else is in the log.
	Blocked *breaker.PathsError
}

// ErrNoRoot says that the root path does not exist in the source. Nothing is
// concluded from that: a source that was lost looks the same.
var ErrNoRoot = errors.New("does not exist in the source")

// Load reads what the log holds. It must be called when this is the topic's writer.
func (p *Producer) Load(ctx context.Context) (err error) {
	p.index, err = loadIndex(ctx, p.Log, p.Changes)
	return err
}

// FindRoot fails with ErrNoRoot where the source has no root path.
func (p *Producer) FindRoot() error {
	if err := p.Source.Sync(p.Rules.Root); err != nil {
		return err
	}
	_, found, err := p.Source.Exists(p.Rules.Root)
	if err == nil && !found {
		err = p.noRoot()
	}
	return err
}

func (p *Producer) noRoot() error { return fmt.Errorf("rootPath %s %w", p.Rules.Root, ErrNoRoot) }

// Compare walks the source and appends what differs from the log: parents before
// their children, then, children first, the end of what is not there any more.
func (p *Producer) Compare(ctx context.Context) (*Result, error) {
	return p.compare(ctx, false)
}

func (p *Producer) compare(ctx context.Context, watch bool) (*Result, error) {
	started := time.Now().UTC()
	// What had been written before this began is seen, whichever server answers.
	if err := p.Source.Sync(p.Rules.Root); err != nil {
		return nil, err
	}
	if !watch { // nobody has since the last look
		if err := p.gap(ctx, p.index.verified, started); err != nil {
			return nil, err
		}
	}
	p.index.round++
	p.read.Store(0)
	result := &Result{}
	walk := func(root string) error {
		w := ensemble.Walk{
			Client: p.Source, Root: root, Skip: p.Rules.Skips, ACL: p.Rules.CopyACL, Watch: watch,
			Visit: func(n *ensemble.Node) error { return p.found(ctx, n) },
		}
		found, refused, err := w.Run(ctx)
		result.Refused = append(result.Refused, refused...)
		if err == nil && !found && root == p.Rules.Root {
			return p.noRoot()
		}
		return err
	}
	if err := walk(p.Rules.Root); err != nil {
		return nil, err
	}
	err := p.missing(ctx, result, walk)
	if err != nil && !errors.As(err, &result.Blocked) {
		return nil, err
	}
	result.Nodes = p.read.Load()
	p.refusals.reset(result.Refused)
	body := topology.ListedBody{Fresh: len(result.Refused) == 0 && result.Blocked == nil, At: started, Exclude: p.Rules.Excludes()}
	refuse(&body, result.Refused)
	if !watch {
		if err := p.verified(ctx, started); err != nil {
			return nil, err
		}
	}
	return result, p.listed(ctx, body)
}

// recordRoom is for what a record has besides path, data and access control list.
const recordRoom = 16 << 10

func fits(n *ensemble.Node) error {
	size := len(n.Data) + len(n.Path) + recordRoom
	for _, a := range n.Meta.ACL {
		size += len(a.ID) + len(a.Scheme) + 64
	}
	if size > stream.MaxRecordBytes {
		return fmt.Errorf("%w: %d bytes, and a record of the log takes %d", ensemble.ErrTooLarge, len(n.Data), stream.MaxRecordBytes-recordRoom)
	}
	return nil
}

// found appends a node that differs from the log. It is called in parallel.
func (p *Producer) found(ctx context.Context, n *ensemble.Node) error {
	p.read.Add(1)
	if p.Rules.CopyACL && n.Meta.ACL == nil {
		return ensemble.ErrHiddenACL
	}
	if err := fits(n); err != nil {
		return err
	}
	hash := topology.NodeHash(n.Data)
	op, changed := p.index.note(n.Path, hash, &n.Meta)
	if !changed {
		return nil
	}
	return p.append(ctx, record(n, op, hash))
}

// record of a node.
func record(n *ensemble.Node, op topology.Op, hash string) *topology.Record {
	// The answer that the data is part of may be much larger, and the record waits for the
	// log.
	body := bytes.Clone(n.Data)
	if body == nil {
		body = []byte{} // without a body it would be a delete; the hash tells
	}
	meta := n.Meta
	return &topology.Record{
		Key: topology.NodeKey(n.Path).String(), Kind: topology.Object, Op: op,
		Version: topology.Version{RV: fmt.Sprint(n.Stat.Mzxid), NamespaceRV: fmt.Sprint(n.Stat.Aversion)},
		UID:     fmt.Sprintf("%#x", n.Stat.Czxid),
		Hash:    hash, Node: &meta, Body: body, ObservedAt: time.Now().UTC(),
		// ZooKeeper does not keep who it was.
		Managers: []topology.Manager{{Name: "zookeeper", Operation: "Update", Time: time.UnixMilli(n.Stat.Mtime).UTC().Format(time.RFC3339)}},
	}
}

// gone appends the end of a node.
func (p *Producer) gone(ctx context.Context, path string, inferred bool) error {
	if !p.index.remove(path) {
		return nil
	}
	return p.append(ctx, &topology.Record{
		Key: topology.NodeKey(path).String(), Kind: topology.Object, Op: topology.Delete, Inferred: inferred, ObservedAt: time.Now().UTC(),
	})
}

func (p *Producer) append(ctx context.Context, rec *topology.Record) error {
	if err := p.failed(); err != nil {
		return err
	}
	rec.Writer = p.Incarnation
	failpoint.Hit("zookeeper/before-append")
	p.Writer.Append(ctx, rec.Encode(p.Changes, 0), func(_ *kgo.Record, err error) {
		if err != nil {
			p.mu.Lock()
			p.failure = errors.Join(p.failure, err)
			p.mu.Unlock()
			return
		}
		failpoint.Hit("zookeeper/after-append")
		if rec.Kind == topology.Object {
			p.appended.Add(1)
		}
	})
	return nil
}

func (p *Producer) failed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failure
}

// refuse names what could not be read.
func refuse(body *topology.ListedBody, refused []ensemble.Refusal) {
	if len(refused) > mostRefused {
		refused, body.Unsure = refused[:mostRefused], true
	}
	body.Why = map[string]topology.RefusedWhy{}
	for _, r := range refused {
		body.Refused = append(body.Refused, r.Path)
		switch {
		case errors.Is(r.Err, ensemble.ErrTooLarge):
			body.Why[r.Path] = topology.RefusedTooLarge
		case errors.Is(r.Err, ensemble.ErrHiddenACL):
			body.Why[r.Path] = topology.RefusedHiddenACL
		}
	}
}

// mostRefused paths are named in the log; with more, nothing is concluded about any
// node.
const mostRefused = 1000

// listed waits until everything is in the log and marks that it is.
func (p *Producer) listed(ctx context.Context, body topology.ListedBody) error {
	if err := errors.Join(p.Writer.Flush(ctx), p.failed()); err != nil {
		return err
	}
	rec := topology.Record{Kind: topology.Listed, Key: topology.NodesListed, Writer: p.Incarnation, ObservedAt: time.Now().UTC()}
	rec.Body, _ = json.Marshal(body) // plain data always marshals
	return p.Writer.AppendSync(ctx, rec.Encode(p.Changes, 0))
}
