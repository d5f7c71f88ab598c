package processor

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// partition is the life of one partition at this member, from its assignment to
// its loss. Only run's goroutine uses it, but for what mu guards.
type partition struct {
	*Processor
	assignment *stream.Assignment
	number     int32

	// in is the partition of changes; id names what is remembered.
	in stream.Partition
	id state.PartitionID

	// rules of the configuration in force; nil while none is known.
	rules *topology.Rules
	// baseline is the configuration before it, if every key was computed with that.
	baseline *topology.Rules
	// awaiting are the keys that are held back, by resource; recount says that
	// they must be counted again.
	awaiting map[string]int64
	recount  bool
	// rejected is the generation of the last configuration that did not compile.
	rejected int64
	// next is the offset in changes up to which everything is committed.
	next int64
	// known is the offset in desired up to which the memory says what it holds.
	known int64
	// doubts are the keys behind whose record an older one landed, at an offset.
	doubts map[string]int64
	held   int64
	// withheld are the keys that are kept from the destination until a recovery.
	withheld map[string]bool

	fullRun  run
	deferred []deferral
	// fold of the stretch being processed, which ends at stretchEnd; finished
	// says that finishStretch has run for it.
	fold       *stream.Fold
	stretchEnd int64
	finished   bool
	// readable are the last readable records of the keys whose last record of
	// the stretch may be unreadable.
	readable map[string]int64

	trouble string

	mu  sync.Mutex
	now status
}

// errReconfigured ends a pass: another begins from the start of changes.
var errReconfigured = errors.New("a new configuration was read")

// run works on the partition until ctx ends.
func (w *partition) run(ctx context.Context) error {
	w.doubts = map[string]int64{}
	if err := w.open(ctx); err != nil {
		return err
	}
	for {
		err := w.pass(ctx)
		if !errors.Is(err, errReconfigured) {
			return err
		}
	}
}

// open decides what of the state can be used, and brings the memory up to the
// end of desired.
func (w *partition) open(ctx context.Context) error {
	out, err := w.Log.Bounds(ctx, w.Topics.Desired, w.number)
	if err != nil {
		return fmt.Errorf("reading the bounds of desired: %w", err)
	}
	if w.in, err = w.Log.Bounds(ctx, w.Topics.Changes, w.number); err != nil {
		return fmt.Errorf("reading the bounds of changes: %w", err)
	}
	w.id = state.PartitionID{TopicID: out.TopicID, Number: w.number}
	if err := w.State.DropOthers(out.TopicID); err != nil {
		return fmt.Errorf("forgetting recreated topics: %w", err)
	}
	if err := w.countPartitions(ctx); err != nil {
		return err
	}
	position, ok, err := w.State.Position(w.id)
	if err != nil {
		return fmt.Errorf("reading the position: %w", err)
	}
	if err := w.load(); err != nil {
		return err
	}
	// A position so old that tombstones behind it may have expired says nothing
	// about what is missing; neither does a memory of records the log has lost.
	if ok && time.Since(position.CommittedAt) > w.MaxPositionAge || w.known > out.End {
		w.Logger.Warn("the state of a partition is too old or ahead of the log: it is built again", "partition", w.number)
		if err := w.State.Drop(w.id); err != nil {
			return fmt.Errorf("dropping the state: %w", err)
		}
		ok, w.known, w.held, w.fullRun, w.deferred = false, 0, 0, run{}, nil
		w.baseline, w.recount = nil, false
		w.setWithheld(nil)
	}
	w.known = max(w.known, out.Start)
	if err := w.catchUp(ctx, out.End); err != nil {
		return err
	}
	return w.resume(ctx, position, ok)
}

// resume decides from where changes is read, and with which configuration.
func (w *partition) resume(ctx context.Context, position state.Position, ok bool) error {
	input, _, err := w.State.Meta(w.id, metaInput)
	if err != nil {
		return fmt.Errorf("reading the state: %w", err)
	}
	var config topology.Config
	if err := w.loadJSON(metaConfig, &config); err != nil {
		return err
	}
	if config.Generation != 0 {
		// It compiled when it was put in force; a newer program may refuse it, and
		// then waits for another as if there were none.
		if w.rules, err = topology.Compile(config); err != nil {
			w.note(func(s *status) { s.rejected = err.Error() })
			w.rules = nil
		}
	}
	w.publish(false)
	w.next = max(position.Offset, w.in.Start)
	if !ok || string(input) != string(w.in.TopicID[:]) || position.Offset > w.in.End {
		w.next = w.in.Start
		if w.rules != nil {
			return w.beginRun(ctx, w.batch(), w.in.Start)
		}
	}
	return nil
}

// pass folds what there is to read and then follows the partition. It ends with
// errReconfigured when a new configuration was put in force.
func (w *partition) pass(ctx context.Context) error {
	var err error
	if w.in, err = w.Log.Bounds(ctx, w.Topics.Changes, w.number); err != nil {
		return fmt.Errorf("reading the bounds of changes: %w", err)
	}
	if ok, err := w.readAhead(ctx); err != nil {
		return err
	} else if ok {
		return errReconfigured
	}
	if w.rules == nil {
		return w.awaitConfiguration(ctx)
	}
	if err := w.repair(ctx); err != nil {
		return err
	}
	w.finished = false
	if err := w.reachedEnd(ctx, w.next); err != nil {
		return err
	}
	return w.follow(ctx)
}

// awaitConfiguration reads on, doing nothing, until a configuration comes.
func (w *partition) awaitConfiguration(ctx context.Context) error {
	w.note(func(s *status) { s.waiting = true })
	w.Logger.Debug("waiting for a configuration in the log", "partition", w.number)
	tail, err := w.Log.TailOf(w.in, w.stretchEnd)
	if err != nil {
		return fmt.Errorf("following changes: %w", err)
	}
	defer tail.Close()
	for {
		records, err := tail.Next(ctx)
		if err != nil {
			return fmt.Errorf("following changes: %w", err)
		}
		for _, rec := range records {
			r, err := topology.Decode(rec)
			if err != nil {
				continue // counted when it is processed
			}
			if c := configuration(&r); c != nil && w.supersedes(c) {
				if done, err := w.adopt(ctx, c, w.in.Start); err != nil {
					return err
				} else if done {
					return errReconfigured
				}
			}
		}
	}
}

// follow reads changes from the position on, for ever.
func (w *partition) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tail, err := w.Log.TailOf(w.in, w.next)
	if err != nil {
		return fmt.Errorf("following changes: %w", err)
	}
	defer tail.Close()
	type read struct {
		records []*kgo.Record
		err     error
	}
	// Read one fetch ahead of what is being processed, and be free to look
	// behind while nothing comes.
	reads := make(chan read)
	go func() {
		defer close(reads)
		for {
			records, err := tail.Next(ctx)
			select {
			case reads <- read{records, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	defer func() {
		cancel()
		for range reads { // wait for the reader before the tail is closed
		}
	}()
	look := time.NewTicker(w.LookBehind)
	defer look.Stop()
	for {
		s, confirmed := w.Settings.Get()
		var again <-chan time.Time
		if w.finished {
			if err := w.weigh(ctx, s); err != nil {
				return err
			}
			if w.unweighed() {
				again = time.After(verdictPoll)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-confirmed:
		case <-again:
		case <-look.C:
			if err := w.lookBehind(ctx); err != nil {
				return err
			}
		case r, ok := <-reads:
			if !ok {
				return ctx.Err()
			}
			if r.err != nil {
				return fmt.Errorf("following changes: %w", r.err)
			}
			if err := w.records(ctx, r.records); err != nil {
				return err
			}
		}
		w.recovered()
	}
}

// records processes a fetch.
func (w *partition) records(ctx context.Context, records []*kgo.Record) error {
	for len(records) > 0 {
		if err := w.reachedEnd(ctx, records[0].Offset); err != nil {
			return err
		}
		n := min(len(records), chunk)
		// A chunk ends where the stretch does.
		for i, rec := range records[:n] {
			if !w.finished && rec.Offset >= w.stretchEnd {
				n = i
				break
			}
		}
		if err := w.chunk(ctx, records[:n]); err != nil {
			return err
		}
		records = records[n:]
	}
	w.note(func(s *status) { s.pending = time.Time{} })
	return w.reachedEnd(ctx, w.next)
}

// chunk processes records and commits them as one.
func (w *partition) chunk(ctx context.Context, records []*kgo.Record) error {
	b := w.batch()
	next := w.position(w.next, -1)
	for _, rec := range records {
		config, err := w.record(ctx, b, rec)
		if err != nil {
			return err
		}
		if config != nil {
			// What stands before the configuration is computed with the old one
			// and committed before the new one begins.
			if err := w.commit(ctx, b, next); err != nil {
				return err
			}
			if ok, err := w.adopt(ctx, config, w.in.Start); err != nil {
				return err
			} else if ok {
				return errReconfigured
			}
			b = w.batch()
		}
		next = w.position(rec.Offset+1, rec.LeaderEpoch)
	}
	if err := w.commit(ctx, b, next); err != nil {
		return err
	}
	return w.repair(ctx)
}

// record computes one record into the batch. It returns a configuration that
// supersedes the one in force instead.
func (w *partition) record(ctx context.Context, b *batch, rec *kgo.Record) (*configured, error) {
	last := w.lastOfKey(rec)
	if _, ok := w.readable[string(rec.Key)]; !last && !ok {
		return nil, nil // a later record of the stretch says what became of the key
	}
	r, err := topology.Decode(rec)
	if err != nil {
		w.undecodable(err)
		return nil, nil
	}
	if !last {
		return nil, nil
	}
	w.note(func(s *status) {
		if s.pending.IsZero() {
			s.pending = observed(&r)
		}
	})
	if r.Kind == topology.Object {
		return nil, w.object(b, &r, false)
	}
	if c := configuration(&r); c != nil {
		if w.supersedes(c) {
			return c, nil
		}
		if c.Generation != w.rules.Config().Generation {
			return nil, nil // an older one, or one that does not compile
		}
	}
	return nil, w.control(ctx, b, &r)
}

// observed is when the change of a record was learned.
func observed(r *topology.Record) time.Time {
	if r.ObservedAt.IsZero() {
		return r.AppendedAt
	}
	return r.ObservedAt
}

// reachedEnd finishes the stretch when everything before an offset is processed
// and that is all of it.
func (w *partition) reachedEnd(ctx context.Context, offset int64) error {
	if w.finished || offset < w.stretchEnd {
		return nil
	}
	if err := w.finishStretch(ctx); err != nil {
		return err
	}
	w.finished, w.fold, w.readable = true, nil, nil
	return nil
}

func (w *partition) position(offset int64, leaderEpoch int32) *state.Position {
	return &state.Position{Offset: offset, LeaderEpoch: leaderEpoch, CommittedAt: time.Now()}
}

var runs atomic.Int64

// newRunID names a run over the whole of changes; never twice in one state.
func newRunID() string {
	return strconv.FormatInt(time.Now().UnixNano(), 36) + "-" + strconv.FormatInt(runs.Add(1), 36)
}
