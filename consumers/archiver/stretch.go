package archiver

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/topology"
)

// stretch is what lies between the position and the end of the partition when it
// begins to be read. Only each key's last record of it counts: a replayed create
// must not bring back what its own later delete removed.
type stretch struct {
	fold *stream.Fold
	end  int64
	// readable are the last readable records of the keys whose last record may be
	// unreadable: being passed over, that must not hide what came before.
	readable map[string]int64
	// newest configuration that supersedes the one in force; nil without one.
	newest *topology.Config
}

// readAhead folds from the position to the current end.
func (p *partition) readAhead(ctx context.Context) (s stretch, err error) {
	s.end = p.next
	unreadable := map[string]int64{}
	s.fold, err = p.a.Log.Fold(ctx, p.a.Topics.Changes, p.number, p.next, p.in.End, func(rec *kgo.Record) {
		// What lies between the last record and the end was compacted away.
		s.end = rec.Offset + 1
		r, err := topology.Decode(rec)
		if err != nil {
			unreadable[string(rec.Key)] = -1 // counted when it is read
			return
		}
		if c := configuration(&r); c != nil && p.supersedes(c) && (s.newest == nil || c.Generation > s.newest.Generation) {
			s.newest = c
		}
	})
	if err != nil {
		return s, fmt.Errorf("folding changes: %w", err)
	}
	s.readable = unreadable
	if len(unreadable) == 0 {
		return s, nil
	}
	err = p.a.Log.Read(ctx, p.a.Topics.Changes, p.number, p.next, s.end, func(rec *kgo.Record) error {
		if _, ok := unreadable[string(rec.Key)]; ok {
			if _, err := topology.Decode(rec); err == nil {
				unreadable[string(rec.Key)] = rec.Offset
			}
		}
		return nil
	})
	if err != nil {
		return s, fmt.Errorf("reading changes past what is unreadable: %w", err)
	}
	return s, nil
}

// last tells whether a record is the last readable one of its key in the
// stretch, or lies behind it.
func (s *stretch) last(rec *kgo.Record) bool {
	if rec.Offset >= s.end {
		return true
	}
	if last, ok := s.readable[string(rec.Key)]; ok {
		return rec.Offset == last
	}
	return s.fold.Last(rec.Key, rec.Offset)
}
