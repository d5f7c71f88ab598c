package zookeeper

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/breaker"
	"github.com/afterimage-dr/afterimage/topology"
)

// DefaultRetry is patient: it costs a comparison of everything.
const DefaultRetry = time.Minute

// Standing is how a live Consumer stands.
type Standing struct {
	// Nodes that the destination holds as they must be, and Failures.
	Nodes int64
	Report
	// VerifiedAt is up to when the source is known to be brought here.
	VerifiedAt time.Time
	// ComparedAt is when everything was compared last, and SyncedAt when something was
	// written last.
	ComparedAt, SyncedAt time.Time
	// Behind is since when something is known to be missing here; zero: nothing is.
	Behind time.Time
	// Blocked says which deletes wait for a person.
	Blocked *breaker.PathsError
}

// Live brings what is appended for as long as ctx lives: first everything, then every
// record as it comes. A complete comparison of the source in the log has the destination
// compared, too.
func (c *Consumer) Live(ctx context.Context, say func(Standing)) error {
	b, err := c.Log.Bounds(ctx, c.Topics.Changes, 0)
	if err != nil {
		return err
	}
	l := &living{Consumer: c, next: b.End, say: say}
	l.standing.Behind = time.Now()
	if err := l.compare(ctx, false); err != nil {
		return err
	}
	return c.tail(ctx, b.End, l)
}

// living is a live Consumer's way through the log.
type living struct {
	*Consumer
	next     int64 // behind the last record that was taken
	standing Standing
	say      func(Standing)
}

func (l *living) node(k *kgo.Record) {
	l.next = k.Offset + 1
	if l.standing.Behind.IsZero() {
		l.standing.Behind = k.Timestamp
		l.tell()
	}
}

// control does what a control record asks for.
func (l *living) control(ctx context.Context, r *topology.Record) (last bool, err error) {
	l.next = r.Offset + 1
	switch r.Kind {
	case topology.Heartbeat:
		if err := l.writer.drain(ctx); err != nil {
			return false, err
		}
		l.standing.VerifiedAt = r.VerifiedAt
		if l.Writer != nil {
			out := *r
			out.Writer = l.Incarnation
			l.Writer.Append(ctx, out.Encode(l.Topics.Outcomes, 0), func(*kgo.Record, error) {})
		}
	case topology.Listed:
		if l.listed == nil || l.listedAt != r.Offset {
			return false, nil // of another version: it says nothing to us
		}
		return false, l.compare(ctx, true)
	}
	return false, nil
}

// compare makes the destination what the log wants. Right behind a complete listing of
// the source also what only the destination has is deleted. Later that may be new in the
// source, or what an application wrote after it took over: then only what could not be
// deleted before is.
func (l *living) compare(ctx context.Context, listed bool) error {
	if err := l.writer.drain(ctx); err != nil {
		return err
	}
	l.mu.Lock()
	l.acls = map[string]*op{} // found anew
	l.mu.Unlock()
	undeleted := l.undeleted()
	l.report.reset()
	if err := l.Load(ctx); err != nil {
		return err
	}
	if err := l.Replay(ctx, l.next); err != nil {
		return err
	}
	l.countUnread()
	var err error
	if listed && !l.listed.Unsure {
		l.standing.Blocked = nil
		_, err = l.prune(ctx, l.told)
	} else {
		l.recallBlocked()
		err = l.deleteAgain(ctx, undeleted)
	}
	if err != nil && !errors.As(err, &l.standing.Blocked) {
		return err
	}
	if err := l.Finish(ctx); err != nil {
		return err
	}
	l.standing.ComparedAt, l.standing.Behind = time.Now(), time.Time{}
	l.tell()
	return nil
}

// recallBlocked judges again what the log says is held back, and deletes nothing.
func (l *living) recallBlocked() {
	if l.held == 0 {
		return
	}
	l.standing.Blocked = l.judge(l.tree.unwanted(func(path string, n *node) bool {
		return l.told(path) && !(l.Rules.IgnoreEphemeral && n.mode == topology.NodeEphemeral)
	}))
}

// undeleted are nodes that must go and could not be deleted, children first.
func (l *living) undeleted() []string {
	if l.tree == nil {
		return nil
	}
	return l.tree.unwanted(func(path string, _ *node) bool { return l.told(path) && l.report.fails(path) })
}

func (l *living) deleteAgain(ctx context.Context, paths []string) error {
	for _, path := range paths {
		l.known = l.told // also of what is below it
		if n, there := l.tree.get(path); !there || n.wanted {
			continue
		}
		if err := l.unwant(ctx, path, &topology.Record{}); err != nil {
			return err
		}
	}
	return l.writer.drain(ctx)
}

// idle brings to an end what was begun.
func (l *living) idle(ctx context.Context) error {
	if err := errors.Join(l.writer.drain(ctx), l.setACLs(ctx)); err != nil {
		return err
	}
	l.mu.Lock()
	if len(l.written) > 0 {
		l.standing.SyncedAt = time.Now()
		l.written = map[string]bool{} // the next comparison reads it back
	}
	l.mu.Unlock()
	// What could not be read in the source is not mended here.
	if l.report.failing(l.unread) > 0 && time.Since(l.standing.ComparedAt) > cmp.Or(l.Retry, DefaultRetry) {
		return l.compare(ctx, false)
	}
	l.standing.Behind = time.Time{}
	l.tell()
	return nil
}

func (l *living) tell() {
	s := l.standing
	s.Report = l.report.snapshot()
	s.Nodes = l.tree.wantedNodes()
	l.say(s)
}
