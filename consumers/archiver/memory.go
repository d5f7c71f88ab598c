package archiver

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// What is remembered of a key (state.Entry): Version is that of its last record,
// with the generation of the configuration that last took it; Hash is the ETag
// that the original must have, none where another version's original is there,
// DestinationRV another one that was found to be as good; Offset is its record in
// changes. Deleted says that the bucket should not hold it. Mark holds, a
// character each:
const (
	markGone     = 't' // a tombstone said so: no limit holds its removal back
	markExcluded = 'f' // no filter takes it
	markLeftOut  = 'x' // a change of the configuration left it out, and it is still there
	markGoing    = 'd' // a tombstone was read and could not be followed yet
)

func has(e state.Entry, m rune) bool { return strings.ContainsRune(e.Mark, m) }

// Meta of a partition.
const (
	metaBucket = "bucket"  // which bucket the state is about
	metaConfig = "config"  // the configuration in force
	metaListed = "listed/" // and a resource: a complete listing of it was passed
)

// commitRecords finished bring a commit about at once.
const commitRecords = 500

// result is what is to be remembered of a key after a job.
type result struct {
	entry      *state.Entry // nil: as it was
	quarantine *state.Quarantine
	release    bool // from quarantine
	lost       bool // nothing is known: the position stays before it
}

func (r *result) empty() bool { return r.entry == nil && r.quarantine == nil && !r.release }

// memory is what a partition remembers: the store, what waits for its commit, and
// an index of the quarantine. It is guarded by the partition's mutex.
type memory struct {
	stage *state.Stage
	id    state.PartitionID

	dirty, committing map[string]result
	quarantined       map[string]state.Quarantine
	// resources of which there are entries.
	resources map[schema.GroupVersionResource]bool
}

// load reads what is kept in memory. Nothing may wait for its commit.
func load(stage *state.Stage, id state.PartitionID) (*memory, error) {
	m := &memory{
		stage: stage, id: id, dirty: map[string]result{},
		quarantined: map[string]state.Quarantine{}, resources: map[schema.GroupVersionResource]bool{},
	}
	err := stage.EachQuarantined(id, func(key string, q state.Quarantine) error {
		m.quarantined[key] = q
		return nil
	})
	if err != nil {
		return nil, err
	}
	last := ""
	err = stage.Each(id, "", func(name string, _ state.Entry) error {
		if last != "" && strings.HasPrefix(name, last) {
			return nil
		}
		if key, err := topology.ParseKey(name); err == nil {
			last = topology.ResourcePrefix(key.GVR())
			m.resources[key.GVR()] = true
		}
		return nil
	})
	return m, err
}

// get returns what is remembered of a key, committed or not.
func (m *memory) get(name string) (state.Entry, bool, error) {
	for _, layer := range []map[string]result{m.dirty, m.committing} {
		if r, ok := layer[name]; ok && r.entry != nil {
			return *r.entry, true, nil
		}
	}
	return m.stage.Get(m.id, name)
}

// put notes what became of a key; it becomes durable with the next commit.
func (m *memory) put(name string, r result) {
	if r.empty() {
		return
	}
	switch {
	case r.quarantine != nil:
		m.quarantined[name] = *r.quarantine
	case r.release:
		delete(m.quarantined, name)
	}
	if r.entry != nil {
		if key, err := topology.ParseKey(name); err == nil {
			m.resources[key.GVR()] = true
		}
	}
	if before, ok := m.dirty[name]; ok {
		if r.entry == nil {
			r.entry = before.entry
		}
		if r.quarantine == nil && !r.release {
			r.quarantine, r.release = before.quarantine, before.release
		}
	}
	m.dirty[name] = r
}

// write puts changes into a transaction.
func write(t *state.Change, changes map[string]result) {
	for name, r := range changes {
		if r.entry != nil {
			t.Put(name, *r.entry) // which releases it from quarantine as well
		}
		if r.release {
			t.Release(name)
		}
		if r.quarantine != nil {
			t.Quarantine(name, *r.quarantine)
		}
	}
}

// commitLoop commits until ctx ends.
func (p *partition) commitLoop(ctx context.Context) error {
	t := time.NewTicker(p.a.CommitEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		case <-p.commitNow:
		}
		for {
			err := p.commit()
			if err == nil {
				break
			}
			if errInjected(err) {
				return err
			}
			if !sleep(ctx, time.Second) {
				return nil
			}
		}
	}
}

// commit makes everything finished durable, together with the watermark.
//
// Guarantee 2: entries, quarantine and position in one transaction.
func (p *partition) commit() error {
	p.mu.Lock()
	position := p.track.advance()
	if position == p.committed && len(p.memory.dirty) == 0 && len(p.metas) == 0 && p.memory.committing == nil {
		p.mu.Unlock()
		return nil
	}
	if p.memory.committing == nil { // else an earlier attempt failed; that comes first
		p.memory.committing, p.memory.dirty = p.memory.dirty, map[string]result{}
		p.committingAt = position
	}
	changes, position, metas := p.memory.committing, p.committingAt, p.metas
	p.metas = map[string][]byte{}
	p.mu.Unlock()

	t := p.a.State.Change(p.id)
	write(t, changes)
	for name, v := range metas {
		t.SetMeta(name, v)
	}
	if err := p.a.step("before-commit"); err != nil {
		return injected{err}
	}
	err := t.Commit(&state.Position{Offset: position, LeaderEpoch: p.leaderEpoch.Load(), CommittedAt: time.Now()})
	if err != nil {
		p.mu.Lock()
		maps.Copy(metas, p.metas) // what came since wins
		p.metas = metas
		p.mu.Unlock()
		p.a.committing.Failing(p.log, "state", "committing the state failed", logging.Err(err))
		return err
	}
	if err := p.a.step("after-commit"); err != nil {
		return injected{err}
	}
	p.a.committing.Working(p.log, "committing the state works again")

	p.mu.Lock()
	p.memory.committing = nil
	p.committed, p.next = position, position
	caughtUp := !p.caughtUp && position >= p.stretchEnd
	if caughtUp {
		// Everything is remembered now.
		p.caughtUp, p.blank, p.index = true, false, nil
	}
	p.mu.Unlock()
	p.assignment.Commit(position)
	if caughtUp {
		p.a.census.forget()
		p.a.resync.now()
	}
	return nil
}

// complete tells whether a complete listing of a key's resource lies before the
// watermark: only then says absence in changes that the source lacked it. p.mu is held.
func (p *partition) complete(key topology.Key) (bool, error) {
	name := metaListed + strings.TrimSuffix(topology.ResourcePrefix(key.GVR()), "/")
	if _, ok := p.metas[name]; ok {
		return true, nil
	}
	_, ok, err := p.a.State.Meta(p.id, name)
	return ok, err
}

func (p *partition) loadConfig() (config topology.Config, err error) {
	raw, ok, err := p.a.State.Meta(p.id, metaConfig)
	if err == nil && ok {
		err = json.Unmarshal(raw, &config)
	}
	if err != nil {
		return config, fmt.Errorf("reading the configuration from the state: %w", err)
	}
	return config, nil
}
