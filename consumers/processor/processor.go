package processor

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/afterimage-dr/afterimage/internal/breaker"
	"github.com/afterimage-dr/afterimage/internal/failpoint"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// Component is the processor's name in groups, logs and status.
const Component = "processor"

// Options of a processor. The first block is required.
type Options struct {
	// Settings names the LiveSynchronization; what is computed with comes from
	// the log.
	Settings *settings.Live
	Log      *stream.Client
	Topics   topology.Topics
	State    *state.Stage
	Logger   *slog.Logger
	// InstanceID is the static group member: stable across restarts.
	InstanceID string
	// Incarnation names this run in the header "writer"; never used twice.
	Incarnation string

	// Session of the group; default: the group's.
	Session time.Duration
	// LookBehind is how often the end of desired is checked for records of
	// others; default 3 s.
	LookBehind time.Duration
	// MaxPositionAge is the age from which a position is not trusted, because a
	// tombstone may have expired since; default 6.5 days, most of the least
	// delete.retention.ms.
	MaxPositionAge time.Duration

	// Settle is how long the partitions of this process must have been the same
	// before they speak for all of them about a change of the configuration;
	// default 500 ms.
	Settle time.Duration

	// limit of what a change of the configuration may delete unconfirmed.
	limit breaker.Limit
	// fault lets tests fail at a step.
	fault func(step string) error
}

// Processor is the stage between changes and desired.
type Processor struct {
	Options
	writer *stream.Writer

	mu         sync.Mutex
	partitions map[int32]*partition
	trouble    error // why the group cannot be served
	serving    bool
	counts     Counts
	// changed is when partitions came or went the last time; total is how many
	// there are, here and elsewhere.
	changed time.Time
	total   int

	// saidGeneration is that of the configuration whose coming into force was
	// logged last: once a process, not once a partition.
	saidGeneration atomic.Int64
}

// newsLevel is the level at which a partition says that a configuration is in
// force: the first of the partitions says it for all.
func (p *Processor) newsLevel(generation int64) slog.Level {
	if p.saidGeneration.Swap(generation) == generation {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// Counts of what was done since the start of the process.
type Counts struct {
	// Processed records of changes; Appended records to desired.
	Processed, Appended int64
	// Unchanged: the output equals what desired holds.
	Unchanged int64
	// Stale records were older than what was computed for their key already.
	Stale int64
	// Undecodable records were passed over.
	Undecodable int64
	// Incomparable versions: the order of the log decided.
	Incomparable int64
	// Repaired keys, behind which a record of another incarnation had landed.
	Repaired int64
	// Requested keys: desired holds them and a complete changes does not.
	Requested int64
}

// New makes a processor; Run does the work.
func New(o Options) *Processor {
	if o.LookBehind <= 0 {
		o.LookBehind = 3 * time.Second
	}
	if o.MaxPositionAge <= 0 {
		o.MaxPositionAge = 156 * time.Hour
	}
	if o.Settle <= 0 {
		o.Settle = 500 * time.Millisecond
	}
	if o.limit == (breaker.Limit{}) {
		o.limit = breaker.Default()
	}
	return &Processor{Options: o, partitions: map[int32]*partition{}}
}

// Run takes part in the group and works on the partitions it is given until ctx
// ends. Passing trouble is retried and said once.
func (p *Processor) Run(ctx context.Context) error {
	w, err := p.Log.Writer()
	if err != nil {
		return fmt.Errorf("processor: %w", err)
	}
	defer w.Close()
	p.writer = w
	config := p.Settings.Load().Config
	group := &stream.Group{
		Client: p.Log, Name: topology.GroupFor(config.Namespace, config.Name, Component), Topic: p.Topics.Changes,
		InstanceID: p.InstanceID, Session: p.Session, Run: p.assigned,
	}
	for {
		p.setServing(true, nil)
		err := group.Serve(ctx)
		p.setServing(false, err)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			p.Logger.Error("taking part in the consumer group failed", logging.Err(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

func (p *Processor) setServing(on bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.serving, p.trouble = on, err
}

// assigned works on one partition until it is taken away.
func (p *Processor) assigned(ctx context.Context, a *stream.Assignment) error {
	w := &partition{Processor: p, assignment: a, number: a.Number}
	p.mu.Lock()
	if old := p.partitions[a.Number]; old != nil {
		// The same trouble is not said twice, and is not over by being tried again.
		w.trouble, w.now.trouble = old.trouble, old.trouble
		w.now.share = old.status().share
		w.now.share.done = false
	} else {
		p.changed = time.Now()
	}
	p.partitions[a.Number] = w
	p.mu.Unlock()

	err := w.run(ctx)
	if ctx.Err() != nil {
		p.mu.Lock()
		if p.partitions[a.Number] == w {
			delete(p.partitions, a.Number)
			p.changed = time.Now()
		}
		p.mu.Unlock()
		return nil
	}
	w.failed(err)
	return err
}

// count changes the counters.
func (p *Processor) count(change func(*Counts)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.counts)
}

// Counts returns the counters.
func (p *Processor) Counts() Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts
}

// step is a place at which tests kill the process or make it fail.
func (p *Processor) step(name string) error {
	failpoint.Hit(Component + "/" + name)
	if p.fault != nil {
		return p.fault(name)
	}
	return nil
}

// OldestPending is when the oldest change that was read and is not yet in
// desired was observed, over all partitions; ok is false when there is none.
func (p *Processor) OldestPending() (oldest time.Time, ok bool) {
	for _, s := range p.statuses() {
		if !s.pending.IsZero() && (!ok || s.pending.Before(oldest)) {
			oldest, ok = s.pending, true
		}
	}
	return oldest, ok
}

func (p *Processor) statuses() []status {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]status, 0, len(p.partitions))
	for _, w := range p.partitions {
		out = append(out, w.status())
	}
	return out
}

// Report adds the processor's part to a status.
func (p *Processor) Report(out *v1alpha1.LiveSynchronizationStatus) {
	statuses := p.statuses()
	p.mu.Lock()
	serving, trouble := p.serving, p.trouble
	p.mu.Unlock()

	c := v1alpha1.ComponentStatus{Name: Component, Ready: serving}
	if trouble != nil {
		c.Reason, c.Message = "GroupUnavailable", trouble.Error()
	} else if !serving {
		c.Reason, c.Message = "NotRunning", "the processor is not running"
	}
	var held int64
	var conflict, rejected string
	for _, s := range statuses {
		held += s.held
		conflict, rejected = cmpOr(conflict, s.conflict), cmpOr(rejected, s.rejected)
		switch {
		case s.trouble != "":
			c.Ready, c.Reason, c.Message = false, "PartitionFailing", s.trouble
		case s.waiting && c.Reason == "":
			c.Ready, c.Reason, c.Message = false, "NoConfiguration", "no configuration has reached the log yet"
		}
	}
	if n := p.Counts().Undecodable; n > 0 && c.Ready {
		c.Ready, c.Reason = false, "UnreadableRecords"
		c.Message = fmt.Sprintf("%d records of the log cannot be read and were passed over; the log names them", n)
	}
	if c.Ready && held > 0 {
		c.Reason, c.Message = "ObjectsHeld", fmt.Sprintf("%d objects cannot be computed and are left as they are at the destination", held)
	}
	out.Components = append(out.Components, c)
	out.HeldBack = reportWithheld(statuses)
	reportConditions(out, conflict, rejected, p.blockedMessage(statuses))
}
