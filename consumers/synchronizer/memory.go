package synchronizer

import (
	"context"
	"maps"
	"time"

	"github.com/afterimage-dr/afterimage/internal/failpoint"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// commitRecords finished jobs make a commit due before its time.
const commitRecords = 500

// Marks of the stage's own in an entry, one letter each.
const (
	markApplied    = 'm' // our managedFields entry is one of Apply
	markAdopted    = 'a' // written, but not created by us: never deleted
	markForeign    = 'f' // not ours, and equal to what we would write: never touched
	markOrphaned   = 'o' // deleted in the source and left alone, as asked
	markUnverified = 'u' // rebuilt from the object's annotations, no record of it read yet
	markRepaired   = 'r' // followed by how often a repair of it was undone, and since when
)

// change is what is to be remembered of one key.
type change struct {
	entry      *state.Entry // nil: as it was
	forget     bool
	quarantine *state.Quarantine
	release    bool
}

// memory is what a partition remembers: the store, what waits for its commit,
// and an index of the quarantine. It is guarded by the partition's mutex.
type memory struct {
	stage *state.Stage
	id    state.PartitionID

	dirty, committing map[string]*change
	quarantined       map[string]state.Quarantine
	counts            counts
}

// counts of a partition, for status.
type counts struct {
	live int64 // keys applied and not deleted
	// newFailing are quarantined keys of which nothing was ever applied.
	newFailing int64
}

func newMemory(stage *state.Stage, id state.PartitionID) *memory {
	return &memory{stage: stage, id: id, dirty: map[string]*change{}, quarantined: map[string]state.Quarantine{}}
}

// load counts what the store holds. Nothing may wait for its commit.
func (m *memory) load() error {
	m.counts = counts{}
	clear(m.quarantined)
	if err := m.stage.EachQuarantined(m.id, func(key string, q state.Quarantine) error {
		m.quarantined[key] = q
		return nil
	}); err != nil {
		return err
	}
	known := map[string]bool{}
	err := m.stage.Each(m.id, "", func(key string, e state.Entry) error {
		if !e.Deleted {
			m.counts.live++
			if _, ok := m.quarantined[key]; ok {
				known[key] = true
			}
		}
		return nil
	})
	m.counts.newFailing = int64(len(m.quarantined) - len(known))
	return err
}

// get returns what is remembered of a key, committed or not.
func (m *memory) get(key string) (state.Entry, bool, error) {
	for _, layer := range []map[string]*change{m.dirty, m.committing} {
		if c, ok := layer[key]; ok {
			if c.forget {
				return state.Entry{}, false, nil
			}
			if c.entry != nil {
				return *c.entry, true, nil
			}
		}
	}
	return m.stage.Get(m.id, key)
}

// put notes a change; it becomes durable with the next commit.
func (m *memory) put(key string, c *change) {
	old, known, err := m.get(key)
	wasLive := err == nil && known && !old.Deleted
	_, wasFailing := m.quarantined[key]
	if wasFailing && !wasLive {
		m.counts.newFailing--
	}
	if c.quarantine != nil {
		m.quarantined[key] = *c.quarantine
	} else if c.release || c.entry != nil || c.forget {
		delete(m.quarantined, key)
	}
	isLive := wasLive
	if c.forget {
		isLive = false
	} else if c.entry != nil {
		isLive = !c.entry.Deleted
	}
	switch {
	case isLive && !wasLive:
		m.counts.live++
	case wasLive && !isLive:
		m.counts.live--
	}
	if _, failing := m.quarantined[key]; failing && !isLive {
		m.counts.newFailing++
	}
	if prev := m.dirty[key]; prev != nil {
		merged := *prev
		if c.entry != nil || c.forget {
			merged.entry, merged.forget = c.entry, c.forget
		}
		merged.quarantine, merged.release = c.quarantine, c.quarantine == nil && (c.release || prev.release || prev.quarantine != nil || c.entry != nil || c.forget)
		c = &merged
	}
	m.dirty[key] = c
}

// write puts changes into a transaction.
func write(t *state.Change, changes map[string]*change) {
	for key, c := range changes {
		if c.forget {
			t.Forget(key)
		}
		if c.entry != nil {
			t.Put(key, *c.entry)
		}
		if c.release {
			t.Release(key)
		}
		if c.quarantine != nil {
			t.Quarantine(key, *c.quarantine)
		}
	}
}

// commitLoop commits until ctx ends.
func (p *partition) commitLoop(ctx context.Context) error {
	t := time.NewTicker(p.s.CommitEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		case <-p.commitNow:
		}
		for p.commit() != nil {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(time.Second):
			}
		}
	}
}

func (p *partition) wakeCommit() {
	select {
	case p.commitNow <- struct{}{}:
	default:
	}
}

// commit makes everything finished durable, together with the watermark.
//
// Guarantee 2: entries, quarantine and position in one transaction.
func (p *partition) commit() error {
	p.mu.Lock()
	position, passed := p.track.advance()
	p.passed = append(p.passed, passed...)
	if position == p.committed && len(p.memory.dirty) == 0 && len(p.metas) == 0 && p.memory.committing == nil {
		p.mu.Unlock()
		return nil
	}
	if p.memory.committing == nil { // else: an earlier attempt failed; that comes first
		p.memory.committing, p.memory.dirty = p.memory.dirty, map[string]*change{}
		p.committingAt = position
	}
	changes, position := p.memory.committing, p.committingAt
	metas := p.metas
	p.metas = map[string][]byte{}
	p.finished = 0
	p.mu.Unlock()

	t := p.s.State.Change(p.id)
	write(t, changes)
	for name, v := range metas {
		t.SetMeta(name, v)
	}
	failpoint.Hit("synchronizer/before-commit")
	err := t.Commit(&state.Position{Offset: position, LeaderEpoch: p.leaderEpoch.Load(), CommittedAt: time.Now()})
	if err != nil {
		p.mu.Lock()
		maps.Copy(metas, p.metas) // what came since wins
		p.metas = metas
		p.mu.Unlock()
		p.s.committing.Failing(p.log, "state", "committing the state failed", logging.Err(err))
		return err
	}
	failpoint.Hit("synchronizer/after-commit")
	p.s.committing.Working(p.log, "committing the state works again")

	p.mu.Lock()
	p.memory.committing = nil
	p.committed = position
	calls := p.passed
	p.passed = nil
	caughtUp := !p.caughtUp && position >= p.foldEnd
	var early *topology.Record
	if caughtUp {
		p.caughtUp = true
		early, p.early = p.early, nil
	}
	p.mu.Unlock()

	p.assignment.Commit(position)
	if early != nil {
		p.forward(p.effects, *early)
	}
	for _, call := range calls {
		call()
	}
	if caughtUp {
		p.onCaughtUp()
	}
	return nil
}
