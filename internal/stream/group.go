package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Assignment is one partition given to this member.
type Assignment struct {
	Partition
	alive func() bool
	// commit tells the group the position, for outside lag tools and pacing only
	// (asynchronous, best effort, coalesced).
	commit func(offset int64)
}

// Group is a static member of a consumer group on one topic. It gives
// membership only: records are read with Tail from positions of our own.
type Group struct {
	Client *Client
	Name   string
	Topic  string
	// InstanceID for static membership: stable across restarts, unique in the
	// group. Two members with the same one fence each other in turn: said in the
	// log and in Report as long as it lasts.
	InstanceID string
	// Session timeout; default 30 s.
	Session time.Duration
	// Run works on one partition until its context ends, which happens when the
	// partition is revoked or lost; a revocation waits for Run to return (at most half a session).
	// If Run returns an error (or nil before its context ends) it is started again after a backoff.
	Run func(ctx context.Context, a *Assignment) error
	// Logger for what goes wrong; default the Client's.
	Logger *slog.Logger
	// Leave gives the partitions up at the end, for another member to take at once:
	// for a command that runs once, and not for a process that is started again.
	Leave bool
	// OnTrouble, if set, is told of trouble with the group (nil when it is over),
	// once per change.
	OnTrouble func(error)
}

// ErrInstanceIDInUse says that another process took part with our InstanceID.
var ErrInstanceIDInUse = errors.New("group instance ID is in use by another process")

const (
	defaultSession = 30 * time.Second
	runBackoff     = 200 * time.Millisecond
	maxRunBackoff  = 30 * time.Second
)

// NewAssignment makes an assignment outside of a group, for a component that is
// run on a partition by hand (tests, a replay). Nil alive: always; nil commit: nowhere.
func NewAssignment(p Partition, alive func() bool, commit func(int64)) *Assignment {
	if alive == nil {
		alive = func() bool { return true }
	}
	if commit == nil {
		commit = func(int64) {}
	}
	return &Assignment{Partition: p, alive: alive, commit: commit}
}

// Alive tells whether this member has heard from its group within half a
// session, and still holds the partition. A member that has not must not write.
func (a *Assignment) Alive() bool { return a.alive() }

// Commit reports a position to the group.
func (a *Assignment) Commit(offset int64) { a.commit(offset) }

// Serve takes part in the group until ctx ends; then it returns nil, every Run
// having returned (or half a session having passed). Without Leave it leaves the
// group only in the sense of Kafka's static members: the partitions are kept for
// the rest of the session, for a restart to take up.
func (g *Group) Serve(ctx context.Context) error {
	if g.Run == nil || g.Name == "" || g.Topic == "" || g.InstanceID == "" {
		return errors.New("stream: a Group needs Name, Topic, InstanceID and Run")
	}
	for {
		m, err := newMember(g)
		if err != nil {
			return fmt.Errorf("group %s: %w", g.Name, err)
		}
		err = m.serve(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, ErrClosed) {
			return fmt.Errorf("group %s: %w", g.Name, err)
		}
		// Fenced: another process has our name. Coming back at once would fence it.
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(g.session()):
		}
	}
}

func (g *Group) session() time.Duration {
	if g.Session <= 0 {
		return defaultSession
	}
	return g.Session
}

func (g *Group) logger() *slog.Logger {
	if g.Logger != nil {
		return g.Logger
	}
	return g.Client.log.Load()
}

func newMember(g *Group) (*member, error) {
	m := &member{
		g: g, session: g.session(), runners: map[int32]*runner{}, commits: map[int32]int64{},
		dirty: make(chan struct{}, 1), beat: make(chan struct{}, 1),
	}
	interval := min(3*time.Second, m.session/10)
	cl, err := g.Client.kgo("group",
		kgo.ConsumerGroup(g.Name),
		kgo.InstanceID(g.InstanceID),
		kgo.ConsumeTopics(g.Topic),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.SessionTimeout(m.session),
		kgo.RebalanceTimeout(m.session),
		kgo.HeartbeatInterval(interval),
		kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.OnPartitionsAssigned(m.assigned),
		kgo.OnPartitionsRevoked(m.revoked),
		kgo.OnPartitionsLost(m.lost),
	)
	if err != nil {
		return nil, err
	}
	// Membership only: nothing is ever fetched.
	cl.PauseFetchTopics(g.Topic)
	m.cl, m.interval = cl, interval
	return m, nil
}

// trouble says what is wrong once per change of state.
func (m *member) trouble(err error) {
	m.mu.Lock()
	text := ""
	if err != nil {
		text = err.Error()
	}
	changed := text != m.said
	m.said = text
	m.mu.Unlock()
	if !changed {
		return
	}
	if err != nil {
		m.g.logger().Warn("trouble with consumer group", "group", m.g.Name, "instanceID", m.g.InstanceID, "error", text)
	}
	if m.g.OnTrouble != nil {
		m.g.OnTrouble(err)
	}
}

// explain turns an error of a group session into one a person can act on.
func (m *member) explain(err error) error {
	if errors.Is(err, kerr.FencedInstanceID) {
		return fmt.Errorf("%w: %q in group %s: stop the other process, or give each its own data folder", ErrInstanceIDInUse, m.g.InstanceID, m.g.Name)
	}
	return err
}
