package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/topology"
)

// Log is the log of one LiveSynchronization, to be read and never written.
type Log struct {
	Client *stream.Client
	Topics topology.Topics
	// Embedded: the log of the embedded broker, whose history begins at Floor.
	Embedded bool
	// Floor is when the embedded log was last cleaned (stream.Embedded.HistoryFloor);
	// zero: never. Without meaning for real brokers.
	Floor time.Time
}

// ErrCleaned: the log was cleaned while it was read; another try may succeed.
var ErrCleaned = errors.New("the log was cleaned while it was read")

// Snapshot is the source as it was at a moment.
type Snapshot struct {
	// At is the moment; zero: the newest the log knows.
	At time.Time
	// Config is the newest configuration in the log: today's filters and patches. Its
	// Generation is 0 if there is none.
	Config topology.Config
	// Window as of the reading.
	Window Window
	// Keys counts objects that existed, Deleted those the log remembers to be gone.
	Keys, Deleted int
	// Unreadable counts records that are not of Afterimage and were passed over.
	Unreadable int

	log    Log
	parts  []scannedPart
	stamps map[string]knownStamp
}

// knownStamp is the newest stamp of a namespace at the moment.
type knownStamp struct {
	version             version
	labels, annotations map[string]string
}

// Snapshot reads the log up to its end as of now and finds the state at a moment;
// zero: the newest. A moment in the future or outside of the window is refused
// (ErrFuture, *OutsideError); whether it is in a gap, [Window.Check] tells.
func (l Log) Snapshot(ctx context.Context, at time.Time) (*Snapshot, error) {
	moment := int64(newest)
	if !at.IsZero() {
		moment = at.UnixNano()
		if at.After(time.Now()) {
			return nil, Window{}.Check(at)
		}
	}
	found, err := l.scan(ctx, &moment)
	if err != nil {
		return nil, err
	}
	w, err := l.window(ctx, found)
	if err != nil {
		return nil, err
	}
	if outside := (*OutsideError)(nil); !at.IsZero() && errors.As(w.Check(at), &outside) {
		return nil, outside
	}
	s := &Snapshot{
		At: at, Config: found.facts.config, Window: w, Keys: found.live, Unreadable: found.unreadable,
		log: l, parts: found.parts, stamps: make(map[string]knownStamp, len(found.stamps)),
	}
	for _, p := range found.parts {
		s.Deleted += len(p.picks)
	}
	s.Deleted -= s.Keys
	for namespace, st := range found.stamps {
		k := knownStamp{version: st.version}
		if json.Unmarshal(st.labels, &k.labels) != nil || st.annotations != nil && json.Unmarshal(st.annotations, &k.annotations) != nil {
			continue // each record keeps its own
		}
		s.stamps[namespace] = k
	}
	return s, nil
}

// Each calls fn with the record of each object that existed at the moment, body
// and all, for several partitions at a time: fn must be safe for concurrent use.
// What fn gets is its own, but for the maps of namespace labels and annotations,
// which records share. An error of fn ends it and is returned. [ErrCleaned] says that
// the cleaner was faster, [DamagedError], when all else is done, that records could not
// be decoded.
func (s *Snapshot) Each(ctx context.Context, fn func(*topology.Record) error) error {
	return s.each(ctx, false, fn)
}

// EachKey is Each over deleted objects as well, whose records are tombstones. A key
// that is not among them was never in the log, or has been deleted for longer than
// tombstones are kept.
func (s *Snapshot) EachKey(ctx context.Context, fn func(*topology.Record) error) error {
	return s.each(ctx, true, fn)
}

func (s *Snapshot) each(ctx context.Context, deleted bool, fn func(*topology.Record) error) error {
	var mu sync.Mutex
	var damaged DamagedError
	damage := func(k *kgo.Record, err error) {
		mu.Lock()
		defer mu.Unlock()
		damaged.Keys, damaged.Errs = append(damaged.Keys, string(k.Key)), append(damaged.Errs, err)
	}
	err := each(ctx, len(s.parts), func(ctx context.Context, i int) error {
		r := picker{s: s, picks: s.parts[i].picks, deleted: deleted, fn: fn, damage: damage}
		if r.skip(); len(r.picks) == 0 {
			return nil
		}
		p := s.parts[i].part
		from, to := r.picks[0].offset(), r.last()+1
		if err := s.log.Client.Read(ctx, p.Topic, p.Number, from, to, r.record); err != nil {
			return err
		}
		return r.missed(math.MaxInt64)
	})
	if err == nil && len(damaged.Keys) > 0 {
		return &damaged
	}
	return err
}

// DamagedError names the keys whose records at the moment cannot be decoded.
type DamagedError struct {
	Keys []string
	Errs []error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("%d records of the log cannot be read, the first that of %s: %v", len(e.Keys), e.Keys[0], e.Errs[0])
}

// picker goes along a partition and hands over what was picked.
type picker struct {
	s       *Snapshot
	picks   []pick
	deleted bool
	fn      func(*topology.Record) error
	damage  func(*kgo.Record, error)
}

// skip passes over tombstones nobody asked for.
func (r *picker) skip() {
	for !r.deleted && len(r.picks) > 0 && r.picks[0].deleted() {
		r.picks = r.picks[1:]
	}
}

// last is the offset of the last pick that is asked for.
func (r *picker) last() int64 {
	for i := len(r.picks) - 1; ; i-- {
		if p := r.picks[i]; r.deleted || !p.deleted() {
			return p.offset()
		}
	}
}

// missed tells whether a pick before offset was not met.
func (r *picker) missed(offset int64) error {
	if r.skip(); len(r.picks) > 0 && r.picks[0].offset() < offset {
		return fmt.Errorf("the record at offset %d is gone: %w", r.picks[0].offset(), ErrCleaned)
	}
	return nil
}

func (r *picker) record(k *kgo.Record) error {
	if err := r.missed(k.Offset); err != nil || len(r.picks) == 0 || r.picks[0].offset() != k.Offset {
		return err
	}
	r.picks = r.picks[1:]
	rec, err := topology.Decode(k)
	if err != nil {
		r.damage(k, err)
		return nil
	}
	r.s.stamp(&rec)
	return r.fn(&rec)
}

// stamp puts the namespace's labels of the moment in place of older ones: when they
// change, the objects are stamped again one by one.
func (s *Snapshot) stamp(r *topology.Record) {
	if r.NamespaceLabels == nil {
		return
	}
	st, ok := s.stamps[string(namespaceOf([]byte(r.Key)))]
	if !ok {
		return
	}
	v := parseVersion([]byte(r.Version.String()))
	if v.rv = 0; v.odd || !v.older(st.version) || v.epoch != st.version.epoch {
		return
	}
	// The version stays: a record stamped again later must not seem older than this.
	r.NamespaceLabels, r.NamespaceAnnotations = st.labels, st.annotations
}
