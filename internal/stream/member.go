package stream

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// commitEvery is the least time between two commits to the group. The pacing of
// listings reads them, so it is short.
const commitEvery = 50 * time.Millisecond

// member is one membership: a Kafka client in a group, and what runs for it.
type member struct {
	g        *Group
	cl       *kgo.Client
	session  time.Duration
	interval time.Duration
	dirty    chan struct{} // a commit is wanted
	beat     chan struct{} // a heartbeat is wanted now

	mu      sync.Mutex
	runners map[int32]*runner
	commits map[int32]int64
	ids     map[int32][16]byte
	heard   time.Time // when the last answered heartbeat was sent
	said    string
	ending  bool
	running sync.WaitGroup
}

// runner runs Group.Run for one partition, again and again, until it is stopped.
type runner struct {
	number int32
	stop   context.CancelFunc
	done   chan struct{}
	ended  bool // under member.mu: the partition is no longer ours
}

func (m *member) serve(ctx context.Context) error {
	inner, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, f := range []func(context.Context){m.heartbeats, m.committing} {
		wg.Add(1)
		go func() { defer wg.Done(); f(inner) }()
	}
	err := m.watch(inner)
	// Order matters: first the work ends, with its last commits, then the membership.
	m.end(m.takeAll(), m.session/2)
	stop()
	wg.Wait()
	m.commitNow(context.WithoutCancel(ctx))
	if m.g.Leave {
		m.leave(context.WithoutCancel(ctx))
	}
	m.cl.CloseAllowingRebalance()
	return err
}

// leaveWithin bounds how long leaving the group may take: the session ends anyway.
const leaveWithin = 5 * time.Second

// leave gives the membership up, which a static member does only when it is told to.
func (m *member) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leaveWithin)
	defer cancel()
	if _, err := kadm.NewClient(m.cl).LeaveGroup(ctx, kadm.LeaveGroup(m.g.Name).InstanceIDs(m.g.InstanceID)); err != nil {
		m.g.logger().Debug("leaving the consumer group failed", "group", m.g.Name, "instanceID", m.g.InstanceID, "error", err.Error())
	}
}

// watch drains what the client has to say; it has no records for us.
func (m *member) watch(ctx context.Context) error {
	for {
		f := m.cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if f.IsClientClosed() {
			return ErrClosed
		}
		for _, e := range f.Errors() {
			var lost *kgo.ErrGroupSession
			if !errors.As(e.Err, &lost) {
				continue
			}
			m.trouble(m.explain(e.Err))
			if errors.Is(e.Err, kerr.FencedInstanceID) {
				return ErrInstanceIDInUse
			}
		}
	}
}

func (m *member) assigned(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ending {
		return
	}
	for _, n := range parts[m.g.Topic] {
		old := m.runners[n]
		if old != nil && !old.ended {
			continue
		}
		ctx, stop := context.WithCancel(context.Background())
		r := &runner{number: n, stop: stop, done: make(chan struct{})}
		m.runners[n] = r
		m.running.Add(1)
		go m.run(ctx, r, old)
	}
	m.wake(m.beat)
}

// revoked waits for the work to end, so that the next owner begins where we ended.
func (m *member) revoked(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
	rs := m.take(parts[m.g.Topic])
	m.end(rs, m.session/2)
	m.commitNow(context.Background())
}

// lost: the partitions may have another owner already.
func (m *member) lost(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
	m.mu.Lock()
	m.heard = time.Time{}
	m.mu.Unlock()
	for _, r := range m.take(parts[m.g.Topic]) {
		r.stop()
	}
}

// take marks runners as ended.
func (m *member) take(numbers []int32) []*runner {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*runner
	for _, n := range numbers {
		if r := m.runners[n]; r != nil {
			r.ended = true
			out = append(out, r)
		}
	}
	return out
}

// takeAll marks all of them, and that no more may begin.
func (m *member) takeAll() []*runner {
	m.mu.Lock()
	m.ending = true
	numbers := slices.Collect(maps.Keys(m.runners))
	m.mu.Unlock()
	return m.take(numbers)
}

func (m *member) end(rs []*runner, within time.Duration) {
	for _, r := range rs {
		r.stop()
	}
	late := time.After(within)
	for _, r := range rs {
		select {
		case <-r.done:
		case <-late:
			m.g.logger().Warn("work on a revoked partition did not end in time", "group", m.g.Name, "partition", r.number)
			return
		}
	}
}

func (m *member) run(ctx context.Context, r *runner, before *runner) {
	defer m.running.Done()
	defer close(r.done)
	defer r.stop()
	if before != nil {
		// Never two at once on one partition.
		select {
		case <-before.done:
		case <-ctx.Done():
			<-before.done
			return
		}
	}
	alive := func() bool { return m.alive(r) }
	wait := runBackoff
	for ctx.Err() == nil {
		if !m.awaitAlive(ctx, alive) {
			return
		}
		p, err := m.g.Client.Bounds(ctx, m.g.Topic, r.number)
		began := time.Now()
		if err == nil {
			m.note(p)
			err = m.g.Run(ctx, &Assignment{Partition: p, alive: alive, commit: func(o int64) { m.commit(r, o) }})
		}
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > maxRunBackoff {
			wait = runBackoff
		}
		if err != nil {
			m.g.logger().Warn("work on a partition failed and is started again", "group", m.g.Name, "topic", m.g.Topic, "partition", r.number, "error", err.Error(), "after", wait.String())
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, maxRunBackoff)
	}
}

func (m *member) awaitAlive(ctx context.Context, alive func() bool) bool {
	for !alive() {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(5 * time.Millisecond):
		}
	}
	return true
}

// alive: the partition is ours and the group answered a heartbeat sent within
// the last half session.
// Guarantee 4: a process that was stopped and continued finds its last
// heartbeat too old, until the group answers a new one.
func (m *member) alive(r *runner) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !r.ended && !m.heard.IsZero() && elapsed(m.heard) < m.session/2
}

// elapsed is the longer of what the monotonic clock and the wall clock say: the
// first stands still while a machine sleeps, the second may be set back.
func elapsed(t time.Time) time.Duration {
	now := time.Now()
	return max(now.Sub(t), now.Round(0).Sub(t.Round(0)))
}

// heartbeats asks the group by itself, beside the client's own heartbeats:
// only so is it known which answer belongs to a question asked when.
func (m *member) heartbeats(ctx context.Context) {
	t := time.NewTicker(m.interval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-m.beat:
		}
		m.heartbeat(ctx)
	}
}

func (m *member) heartbeat(ctx context.Context) {
	id, generation := m.cl.GroupMetadata()
	if id == "" || generation < 0 {
		m.again(ctx)
		return
	}
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.MemberID, req.Generation, req.InstanceID = m.g.Name, id, generation, &m.g.InstanceID
	sent := time.Now()
	ctx, cancel := context.WithTimeout(ctx, m.session/2)
	defer cancel()
	resp, err := req.RequestWith(ctx, m.cl)
	if err != nil {
		return
	}
	switch err := kerr.ErrorForCode(resp.ErrorCode); {
	case err == nil, errors.Is(err, kerr.RebalanceInProgress):
		m.mu.Lock()
		m.heard = sent
		m.mu.Unlock()
		m.trouble(nil)
	case errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.FencedInstanceID):
		m.mu.Lock()
		m.heard = time.Time{}
		m.mu.Unlock()
	default:
		m.again(ctx) // of another generation: a rebalance is just ending
	}
}

// again asks for another heartbeat soon.
func (m *member) again(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Millisecond):
		m.wake(m.beat)
	}
}

func (m *member) wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (m *member) note(p Partition) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ids == nil {
		m.ids = map[int32][16]byte{}
	}
	m.ids[p.Number] = p.TopicID
}

func (m *member) commit(r *runner, offset int64) {
	m.mu.Lock()
	m.commits[r.number] = offset
	m.mu.Unlock()
	m.wake(m.dirty)
}

func (m *member) committing(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.dirty:
		}
		m.commitNow(ctx)
		select {
		case <-ctx.Done():
			return
		case <-time.After(commitEvery):
		}
	}
}

// commitNow is best effort: nothing depends on it but what others see.
func (m *member) commitNow(ctx context.Context) {
	m.mu.Lock()
	commits, ids := m.commits, maps.Clone(m.ids)
	m.commits = map[int32]int64{}
	m.mu.Unlock()
	id, generation := m.cl.GroupMetadata()
	if len(commits) == 0 || id == "" {
		return
	}
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.MemberID, req.Generation, req.InstanceID = m.g.Name, id, generation, &m.g.InstanceID
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic = m.g.Topic
	for n, o := range commits {
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset = n, o
		t.TopicID, t.Partitions = ids[n], append(t.Partitions, p)
	}
	req.Topics = append(req.Topics, t)
	ctx, cancel := context.WithTimeout(ctx, min(m.session/4, 5*time.Second))
	defer cancel()
	_, _ = req.RequestWith(ctx, m.cl)
}
