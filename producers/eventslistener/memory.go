package eventslistener

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/afterimage-dr/afterimage/internal/failpoint"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// errBeginAgain ends a term whose memory no longer fits the log: the next one
// reads changes to its end (or from its start, where it is another topic).
var errBeginAgain = errors.New("memory and log have parted")

// memory is what changes holds, per key, without bodies. It is committed behind
// the acknowledgements of our own appends, whose offsets leave holes where
// somebody else wrote; only holes are read back, so being sure to be alone costs
// nothing while one is. A crash between append and commit is harmless: the next
// term reads from the committed position to the end before it compares.
type memory struct {
	// ctx is that of the term, and ends nothing sooner: a record on its way to
	// the log, or a commit behind it, belongs to no resource that may end alone.
	ctx         context.Context
	log         *stream.Client
	stage       *state.Stage
	writer      *stream.Writer
	topic       string
	topicID     [16]byte
	incarnation string
	parts       []*part
	// alive tells whether this member may write.
	alive func() bool
	// fail ends the term.
	fail func(error)
	// suspect is told keys whose last record may not be the newest.
	suspect func(key string)
	// foreign is told control records of another writer.
	foreign func(topology.Record)
	counts  *counters

	mu   sync.Mutex
	live map[string]int64 // live keys by resource prefix
}

// part is the memory of one partition.
type part struct {
	m  *memory
	id state.PartitionID
	// order is held from looking a key up until its record is handed to the
	// writer, so that the guard and the log see the same order. It may be held
	// for as long as the brokers are away.
	order sync.Mutex
	// commits lets one commit run at a time.
	commits sync.Mutex

	// mu guards what follows and is never held while waiting.
	mu      sync.Mutex
	pending map[string]pendingEntry
	given   uint64 // records handed to the writer
	foreign uint64 // records of others that were taken in
	acked   uint64
	landed  []landedRecord
	holes   []hole
	// next is where our next record lands if nobody else writes.
	next  int64
	facts facts
	// doubts are the offsets of records that may have set a key back, by key, until
	// the key is repaired. The position stays at the first of them: who comes after
	// a crash must meet them again.
	doubts map[string]int64
}

// doubt notes a record that may have set its key back.
func (p *part) doubt(key string, offset int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if was, ok := p.doubts[key]; ok && was <= offset {
		return
	}
	if p.doubts == nil {
		p.doubts = map[string]int64{}
	}
	p.doubts[key] = offset
}

// trusted is the offset up to which nothing is left to look at, at most next.
func (p *part) trusted(next int64) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, offset := range p.doubts {
		next = min(next, offset)
	}
	return next
}

// settled ends the doubts about keys whose repair is in the log.
func (m *memory) settled(keys []string) {
	for _, key := range keys {
		p := m.partOf(key)
		p.mu.Lock()
		delete(p.doubts, key)
		p.mu.Unlock()
	}
}

// pendingEntry is what the state will say of a key once its record has landed.
type pendingEntry struct {
	entry state.Entry
	seq   uint64
}

type landedRecord struct {
	rec    *topology.Record
	offset int64
	seq    uint64
}

// hole is a stretch of offsets that are not ours.
type hole struct{ from, to int64 }

// staleAfter is the age from which a position is no longer trusted: most of
// delete.retention.ms, since a tombstone that was compacted away in between
// would leave its key remembered as live.
const staleAfter = 156 * time.Hour

// openMemory finds the partitions and reads them to their ends.
func openMemory(ctx context.Context, m *memory) error {
	partitions, err := m.log.Partitions(ctx, m.topic)
	if err != nil {
		return fmt.Errorf("reading the partitions of %s: %w", m.topic, err)
	}
	if len(partitions) == 0 {
		return fmt.Errorf("topic %s has no partitions", m.topic)
	}
	m.topicID = partitions[0].TopicID
	m.live = map[string]int64{}
	m.parts = make([]*part, len(partitions))
	for i := range partitions {
		m.parts[i] = &part{m: m, id: state.PartitionID{TopicID: m.topicID, Number: int32(i)}, pending: map[string]pendingEntry{}}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4) // reading is bound by CPU
	for _, p := range m.parts {
		g.Go(func() error { return p.catchUp(ctx) })
	}
	return g.Wait()
}

func (m *memory) partOf(key string) *part {
	return m.parts[topology.PartitionOf(key, int32(len(m.parts)))]
}

// lookup returns what the log holds, or will hold, of a key.
func (p *part) lookup(key string) (state.Entry, bool, error) {
	p.mu.Lock()
	e, ok := p.pending[key]
	p.mu.Unlock()
	if ok {
		return e.entry, true, nil
	}
	// A commit takes a key out of pending only behind its transaction.
	return p.m.stage.Get(p.id, key)
}

// revision says which changes of a partition a look has seen.
type revision struct{ given, foreign uint64 }

// look is lookup without the lock on the order: changedSince tells, under it,
// whether the answer still holds.
func (p *part) look(key string) (state.Entry, bool, revision, error) {
	p.mu.Lock()
	r := revision{p.given, p.foreign}
	p.mu.Unlock()
	e, known, err := p.lookup(key)
	return e, known, r, err
}

func (p *part) changedSince(r revision) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return r != revision{p.given, p.foreign}
}

// append hands a record to the writer. p.order must be held for an object's.
// It waits while this member may not write, and for as long as brokers are away.
func (p *part) append(ctx context.Context, rec *topology.Record) error {
	// Guarantee 4: only who hears from the group appends. What slips through
	// between this look and the broker is repaired by the next elected one.
	for !p.m.alive() {
		if !sleep(ctx, 20*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
	rec.Writer = p.m.incarnation
	if rec.ObservedAt.IsZero() {
		rec.ObservedAt = time.Now()
	}
	failpoint.Hit("eventslistener/before-produce")
	p.mu.Lock()
	p.given++
	seq := p.given
	if rec.Kind == topology.Object {
		p.pending[rec.Key] = pendingEntry{entryOf(rec), seq}
	}
	p.mu.Unlock()
	p.m.counts.appended.Add(1)
	encoded := rec.Encode(p.m.topic, p.id.Number)
	rec.Body, rec.Managers, rec.NamespaceLabels, rec.NamespaceAnnotations = bodyToRemember(rec), nil, nil, nil
	p.m.writer.Append(p.m.ctx, encoded, func(k *kgoRecord, err error) {
		if err != nil {
			p.m.fail(fmt.Errorf("appending to %s: %w", p.m.topic, err))
			return
		}
		failpoint.Hit("eventslistener/after-produce")
		p.land(rec, k.Offset, seq)
	})
	return context.Cause(ctx)
}

// bodyToRemember keeps a control record's body until it is committed, and no object's.
func bodyToRemember(rec *topology.Record) []byte {
	if rec.Kind == topology.Object {
		return nil
	}
	return rec.Body
}

func (p *part) land(rec *topology.Record, offset int64, seq uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if offset < p.next {
		// Another topic of the same name, or a log cut back by an unclean leader.
		p.m.fail(fmt.Errorf("record landed at offset %d of %s/%d, before %d: %w", offset, p.m.topic, p.id.Number, p.next, errBeginAgain))
		return
	}
	if offset > p.next {
		p.holes = append(p.holes, hole{p.next, offset})
	}
	p.next = offset + 1
	p.acked = seq
	p.landed = append(p.landed, landedRecord{rec, offset, seq})
}

// entryOf is what is remembered of a record.
func entryOf(rec *topology.Record) state.Entry {
	return state.Entry{Version: rec.Version, UID: rec.UID, Hash: rec.Hash, Deleted: rec.Op == topology.Delete, Offset: rec.Offset}
}

// flush returns when everything appended before is acknowledged and committed.
func (m *memory) flush(ctx context.Context) error {
	for _, p := range m.parts {
		p.mu.Lock()
		until := p.given
		p.mu.Unlock()
		for {
			p.mu.Lock()
			done := p.acked >= until
			p.mu.Unlock()
			if done {
				break
			}
			if !sleep(ctx, 2*time.Millisecond) {
				return context.Cause(ctx)
			}
		}
		if err := p.commit(); err != nil {
			return err
		}
	}
	return nil
}

// committer commits what has landed, again and again.
func (m *memory) committer(ctx context.Context, interval time.Duration) {
	for sleep(ctx, interval) {
		for _, p := range m.parts {
			if err := p.commit(); err != nil {
				return
			}
		}
	}
}

// commit remembers what has landed since the last time. An error ends the term:
// what was to be remembered is gone from the queue, and the next commit would
// set the position behind it (guarantee 1); the next term reads it again.
func (p *part) commit() error {
	p.commits.Lock()
	defer p.commits.Unlock()
	err := p.remember(p.m.ctx)
	if err != nil {
		p.m.fail(err)
	}
	return err
}

func (p *part) remember(ctx context.Context) error {
	p.mu.Lock()
	landed, holes, next := p.landed, p.holes, p.next
	p.landed, p.holes = nil, nil
	f := p.facts.clone()
	p.mu.Unlock()
	if len(landed) == 0 {
		return nil
	}
	failpoint.Hit("eventslistener/before-commit")
	change := p.m.stage.Change(p.id)
	foreign, err := p.read(ctx, holes)
	if err != nil {
		return err
	}
	for i := range foreign {
		f.apply(&foreign[i])
	}
	for _, r := range landed {
		r.rec.Offset = r.offset
		f.apply(r.rec)
		if r.rec.Kind == topology.Object {
			change.Put(r.rec.Key, entryOf(r.rec))
		}
	}
	if err := p.judge(foreign, change); err != nil {
		return err
	}
	change.SetMeta(metaFacts, f.encode())
	// Guarantee 1: the position passes only what is acknowledged and remembered.
	if err := change.Commit(&state.Position{Offset: p.trusted(next), CommittedAt: time.Now()}); err != nil {
		return fmt.Errorf("remembering partition %d of %s: %w", p.id.Number, p.m.topic, err)
	}
	failpoint.Hit("eventslistener/after-commit")
	last := landed[len(landed)-1].seq
	p.mu.Lock()
	p.facts = f
	for _, r := range landed {
		if e, ok := p.pending[r.rec.Key]; ok && e.seq <= last {
			delete(p.pending, r.rec.Key)
		}
	}
	p.mu.Unlock()
	return nil
}

// read reads holes back.
func (p *part) read(ctx context.Context, holes []hole) (foreign []topology.Record, err error) {
	for _, h := range holes {
		err := p.m.log.Read(ctx, p.m.topic, p.id.Number, h.from, h.to, func(k *kgoRecord) error {
			rec, err := topology.Decode(k)
			if err != nil {
				p.m.counts.undecodable.Add(1)
				return nil
			}
			if rec.Kind == topology.Object {
				rec.Body = nil
			}
			foreign = append(foreign, rec)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("reading records of another writer in %s/%d: %w", p.m.topic, p.id.Number, err)
		}
	}
	return foreign, nil
}

// judge looks at another writer's records that landed during our term. What is
// not what we remember is doubted: the source decides, and the answer is
// appended even if it says what our own last record said (guarantee 4).
func (p *part) judge(foreign []topology.Record, change *state.Change) error {
	for i := range foreign {
		f := &foreign[i]
		p.m.counts.foreign.Add(1)
		if f.Kind != topology.Object {
			p.m.foreign(*f)
			continue
		}
		p.order.Lock()
		cur, known, err := p.lookup(f.Key)
		if err == nil && (!known || cur.Version.Older(f.Version)) {
			e := entryOf(f)
			change.Put(f.Key, e)
			p.mu.Lock()
			p.foreign++
			p.mu.Unlock()
			p.m.count(f.Key, known && !cur.Deleted, !e.Deleted)
		}
		p.order.Unlock()
		if err != nil {
			return err
		}
		if !known || cur.Version != f.Version || cur.Hash != f.Hash {
			p.doubt(f.Key, f.Offset)
			p.m.suspect(f.Key)
		}
	}
	return nil
}

// count keeps the number of live keys of each resource.
func (m *memory) count(key string, was, is bool) {
	if was == is {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if is {
		m.live[prefixOf(key)]++
	} else {
		m.live[prefixOf(key)]--
	}
}

// tracked is how many live keys of a resource the log holds; "" for all.
func (m *memory) tracked(prefix string) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if prefix != "" {
		return m.live[prefix]
	}
	var n int64
	for _, v := range m.live {
		n += v
	}
	return n
}

// prefixOf is the resource prefix of a record key: up to its third slash.
func prefixOf(key string) string {
	slashes := 0
	for i := range len(key) {
		if key[i] == '/' {
			if slashes++; slashes == 3 {
				return key[:i+1]
			}
		}
	}
	return key
}

// broadcast appends a control record to every partition.
func (m *memory) broadcast(ctx context.Context, rec topology.Record) error {
	for _, p := range m.parts {
		r := rec
		p.order.Lock()
		err := p.append(ctx, &r)
		p.order.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}
