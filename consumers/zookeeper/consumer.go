// Package zookeeper reads changes and makes a destination ensemble hold what they
// say: it compares what the log wants with what is there, writes the difference in
// transactions of many nodes, and reads back what it wrote.
package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/breaker"
	"github.com/afterimage-dr/afterimage/internal/ensemble"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/topology"
)

// Options of a Consumer.
type Options struct {
	Destination *ensemble.Client
	Log         *stream.Client
	// Writer of outcomes; nil: none are noted.
	Writer *stream.Writer
	Topics topology.Topics
	Rules  topology.NodeRules
	// CreateRoot makes the root path, and what is above it, where it is missing.
	CreateRoot bool
	// Incarnation of the producer beside it, whose mark ends Follow.
	Incarnation string
	// Breaker is the limit of what may go at once that only the destination has
	// (guarantee 8), and Confirmed the token of what may go beyond it.
	Breaker   breaker.Limit
	Confirmed string
	// InFlight transactions at a time; 0: DefaultInFlight.
	InFlight int
	// Retry is how often Live tries nodes again that could not be brought, with
	// everything compared; 0: DefaultRetry.
	Retry time.Duration
}

// DefaultInFlight transactions: more do not make a leader faster.
const DefaultInFlight = 8

// Consumer of one tree.
type Consumer struct {
	Options
	ctx    context.Context //nolint:containedctx // of the run, for appends
	tree   *tree
	report *report
	writer *writer

	// written is what has to be read back: what each path must be, nil for gone.
	// acls are set once everything below is there.
	mu          sync.Mutex
	written     map[string]bool
	acls        map[string]*op
	noteFailure error

	// before is how many nodes the destination had when they were last known to be
	// its own, and held what topology.BlockedBody says, 0 while nothing is held back.
	before, held int64
	// listed is the last mark of a complete comparison in the log, at the offset
	// listedAt; nil: there is none. unread are the nodes that could not be read then and
	// of which nothing has come since.
	listed   *topology.ListedBody
	listedAt int64
	unread   map[string]bool
	// known tells, from the time on when nodes are deleted that the log does not hold,
	// of which of them it is known that they are gone; nil before: of all.
	known func(path string) bool
}

// New makes a Consumer; Load comes first.
func New(ctx context.Context, o Options) *Consumer {
	c := &Consumer{Options: o, ctx: ctx, report: &report{}, written: map[string]bool{}, acls: map[string]*op{}}
	c.writer = newWriter(c)
	return c
}

// Report is what became of the nodes so far.
func (c *Consumer) Report() Report { return c.report.snapshot() }

// Load reads what the destination holds, and makes the root if it may.
func (c *Consumer) Load(ctx context.Context) error {
	if err := c.Destination.Sync("/"); err != nil {
		return err
	}
	t := &tree{nodes: map[string]*node{}}
	w := ensemble.Walk{
		Client: c.Destination, Root: c.Rules.Root, Skip: c.Rules.Skips, ACL: c.Rules.CopyACL,
		Visit: func(n *ensemble.Node) error {
			t.put(n.Path, nodeOf(n))
			return nil
		},
	}
	found, refused, err := w.Run(ctx)
	if err != nil {
		return err
	}
	for _, r := range refused {
		c.report.fail(Failure{r.Path, ReasonDestinationRead, "at the destination: " + r.Err.Error()})
	}
	c.tree, c.before, c.known = t, t.size(), nil
	if !found {
		return c.above(c.Rules.Root)
	}
	return nil
}

// RootMissingError says that the destination has no root path.
type RootMissingError struct{ Root string }

func (e *RootMissingError) Error() string {
	return fmt.Sprintf("rootPath %s does not exist in the destination: set createRootPath: true to have it created", e.Root)
}

// above makes what is above the root; the root itself comes from the log.
func (c *Consumer) above(path string) error {
	if !c.CreateRoot {
		return &RootMissingError{c.Rules.Root}
	}
	parent := topology.NodeParent(path)
	if parent == path || parent == "/" {
		return nil
	}
	_, found, err := c.Destination.Exists(parent)
	if err != nil || found {
		return err
	}
	if err := c.above(parent); err != nil {
		return err
	}
	o := &op{Op: ensemble.Op{Kind: topology.Create, Path: parent, Data: []byte{}, ACL: ensemble.Open()}, hash: topology.NodeHash([]byte{})}
	_, _, f, err := c.settle(o, false)
	if f != nil {
		err = fmt.Errorf("create %s, above rootPath: %s", parent, f.Message)
	}
	return err
}

// Replay brings what the log holds up to an offset: only the last record of each
// node counts. Where nothing differs from the destination the stretch is read once.
func (c *Consumer) Replay(ctx context.Context, to int64) error {
	b, err := c.Log.Bounds(ctx, c.Topics.Changes, 0)
	if err != nil {
		return err
	}
	s := survey{c: c, differs: map[string]bool{}}
	fold, err := c.Log.Fold(ctx, c.Topics.Changes, 0, b.Start, to, s.see)
	if err := errors.Join(err, s.newer); err != nil {
		return err
	}
	waiting := s.done()
	for patience := true; err == nil && len(waiting) > 0; {
		before := len(waiting)
		waiting, err = c.pass(ctx, fold, b.Start, to, waiting, patience)
		patience = len(waiting) < before
	}
	return err
}

// pass goes through a stretch once and takes the given keys. The last record of a parent may stand behind those
// of its children: with patience, these wait for another pass, which takes them alone,
// without their data being kept.
func (c *Consumer) pass(ctx context.Context, fold *stream.Fold, from, to int64, keys map[string]bool, patience bool) (waiting map[string]bool, err error) {
	waiting = map[string]bool{}
	err = c.Log.Read(ctx, c.Topics.Changes, 0, from, to, func(k *kgo.Record) error {
		if !keys[string(k.Key)] || !fold.Last(k.Key, k.Offset) {
			return nil
		}
		waits, err := c.take(ctx, k, patience)
		if waits {
			waiting[string(k.Key)] = true
		}
		return err
	})
	return waiting, errors.Join(err, c.writer.drain(ctx))
}

// lull is how long a transaction waits for more nodes.
const lull = 3 * time.Millisecond

// Follow brings what is appended from an offset on, until the mark of this
// incarnation's producer says that the comparison is in the log.
func (c *Consumer) Follow(ctx context.Context, from int64) error {
	return c.tail(ctx, from, &once{c})
}

// follower is told what tail meets.
type follower interface {
	// node is a record of a node that is taken now.
	node(*kgo.Record)
	// control is a control record; last ends tail.
	control(context.Context, *topology.Record) (last bool, err error)
	// idle: nothing more is there for the moment.
	idle(context.Context) error
}

// once follows one comparison of the source.
type once struct{ *Consumer }

func (o *once) node(*kgo.Record) {}

func (o *once) control(ctx context.Context, r *topology.Record) (last bool, err error) {
	if r.Kind != topology.Listed || r.Writer != o.Incarnation {
		return false, nil
	}
	return true, o.writer.drain(ctx)
}

func (o *once) idle(ctx context.Context) error {
	o.writer.flush(ctx)
	return nil
}

// tail applies records as they come.
func (c *Consumer) tail(ctx context.Context, from int64, f follower) error {
	t, err := c.Log.Tail(c.Topics.Changes, 0, from)
	if err != nil {
		return err
	}
	defer t.Close()
	for {
		recs, err := c.next(ctx, t, f)
		if err != nil {
			return err
		}
		for _, k := range recs {
			if topology.IsControl(string(k.Key)) {
				if r, err := topology.Decode(k); err == nil {
					c.control(&r)
					if last, err := f.control(ctx, &r); last || err != nil {
						return err
					}
					continue
				}
			}
			f.node(k)
			if _, err := c.take(ctx, k, false); err != nil {
				return err
			}
		}
	}
}

// next waits for records; what is gathered so far is not kept waiting with it.
func (c *Consumer) next(ctx context.Context, t *stream.Tail, f follower) ([]*kgo.Record, error) {
	soon, cancel := context.WithTimeout(ctx, lull)
	recs, err := t.Next(soon)
	cancel()
	if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return recs, err
	}
	if err := f.idle(ctx); err != nil {
		return nil, err
	}
	return t.Next(ctx)
}

// Finish sets the access control lists, reads back what was written, and waits for
// the outcomes.
func (c *Consumer) Finish(ctx context.Context) error {
	if err := c.setACLs(ctx); err != nil {
		return err
	}
	if err := c.verify(ctx); err != nil {
		return err
	}
	if c.Writer == nil {
		return nil
	}
	if err := c.Writer.Flush(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.noteFailure != nil {
		return fmt.Errorf("the outcomes are not in the log: %w", c.noteFailure)
	}
	return nil
}
