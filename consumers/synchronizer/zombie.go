package synchronizer

import (
	"context"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/owned"
	"github.com/afterimage-dr/afterimage/topology"
)

// undoPatience is how long an undo is tried; within it a broker that was away
// has come back, or the process is gone.
const undoPatience = 10 * time.Minute

// undoIfDeleted looks into a create whose answer came too late: this process may
// have been stopped meanwhile, its partition given to another, and the object
// deleted there. A zombie undoes its own resurrection: by uid, only what it
// created, and only if desired says that the key is deleted. (An update needs
// none of this: it is preconditioned on the object it saw.)
//
// It works in the background, beyond the life of the partition.
func (s *Synchronizer) undoIfDeleted(p *partition, w want, r kube.Resource, live *owned.Object) {
	s.undoing.Add(1)
	go func() {
		defer s.undoing.Done()
		ctx, cancel := context.WithTimeout(s.background, undoPatience)
		defer cancel()
		for wait := time.Second; ; wait = min(2*wait, time.Minute) {
			err := s.undo(ctx, p, &w, r, live)
			if err == nil {
				return
			}
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				s.log(slog.LevelError, "a late create could not be looked into", &w, "", "", logging.Err(err))
				return
			}
		}
	}()
}

func (s *Synchronizer) undo(ctx context.Context, p *partition, w *want, r kube.Resource, live *owned.Object) error {
	// Suspension and the fence hold here too: what a recovery finds it keeps. Only
	// the partition need not be ours any more.
	anyway := func() bool { return true }
	if _, err := s.gate.wait(ctx, anyway); err != nil {
		return err
	}
	last, err := s.lastDesired(ctx, p, w)
	if err != nil || last == nil || last.live() {
		return err // whoever has the partition now finds the object and goes on from it
	}
	now, err := s.read(ctx, r, w.key)
	if err != nil || now == nil {
		return err
	}
	m := &now.Meta
	if owned.OwnershipOf(m, p.owner(), w.key) != owned.Ours || owned.AppliedVersion(m) != w.version || live != nil && m.UID != live.Meta.UID {
		return nil // not what was created here, or no longer so
	}
	if _, err := s.gate.enter(ctx, anyway); err != nil {
		return err
	}
	err = s.kube.Delete(ctx, r, w.key, kube.Preconditions{UID: m.UID, ResourceVersion: m.ResourceVersion})
	s.gate.leave()
	if err == nil {
		s.log(slog.LevelWarn, "a create that came after the delete was undone", last, m.UID, m.ResourceVersion)
		rec := s.outcomeOf(last, topology.OutcomeBody{Result: string(Undone), DestinationUID: m.UID}).Encode(s.Topics.Outcomes, p.id.Number)
		_ = s.writer.AppendSync(ctx, rec) // the delete counts; its note is a courtesy
	}
	return err
}

// lastDesired is the last record of a key after the one that was worked on; nil
// if there is none.
func (s *Synchronizer) lastDesired(ctx context.Context, p *partition, w *want) (*want, error) {
	b, err := s.Log.Bounds(ctx, s.Topics.Desired, p.id.Number)
	if err != nil {
		return nil, err
	}
	if b.TopicID != p.id.TopicID {
		return nil, nil // the log begins anew, and so does everything in it
	}
	var last *want
	err = s.Log.Read(ctx, s.Topics.Desired, p.id.Number, max(w.offset+1, b.Start), b.End, func(k *kgo.Record) error {
		if string(k.Key) != w.keyText {
			return nil
		}
		rec, err := topology.Decode(k)
		if err != nil {
			return nil
		}
		if x, err := wantOf(&rec); err == nil && x.op != topology.Hold {
			last = &x
		}
		return nil
	})
	return last, err
}
