package restorer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/afterimage-dr/afterimage/internal/fence"
)

// errFenced ends a replay.
var errFenced = errors.New("a recovery holds the destination: lift that with \"afterimage resume\" first")

// takePart makes a replay one of the writers that a recovery waits for: it signs the
// Lease, follows it, and ends when it is fenced or cannot be read. stop says, when
// nothing is written any more, that it is gone.
func (r *Restorer) takePart(ctx context.Context, cancel context.CancelCauseFunc) (stop func(), err error) {
	stop = func() {}
	err = r.persist(ctx, func(ctx context.Context) error {
		for {
			s, err := r.fence.Read(ctx)
			switch {
			case err != nil:
				return err
			case s.Fenced():
				return fmt.Errorf("%w (term %d)", errFenced, s.Term)
			case s.Registered(r.Holder):
				return nil
			}
			if err := r.fence.Register(ctx, s, r.Holder); err != nil && !fence.Changed(err) {
				return err
			}
		}
	})
	if err != nil {
		return stop, fmt.Errorf("taking part in the recovery fence: %w", err)
	}
	following, end := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.follow(following, cancel)
	}()
	return func() {
		end()
		<-done
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), fence.RequestTimeout)
		defer cancel()
		_ = r.fence.Unregister(last, r.Holder) // else a recovery waits for it, in vain
	}, nil
}

// follow reads the Lease until ctx ends.
func (r *Restorer) follow(ctx context.Context, cancel context.CancelCauseFunc) {
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(fence.ReadEvery):
		}
		began := time.Now()
		s, err := r.fence.Read(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && (s.Fenced() || !s.Registered(r.Holder)):
			cancel(errFenced)
			return
		case err == nil:
			last = began
		case time.Since(last) > fence.Valid:
			cancel(fmt.Errorf("the recovery fence cannot be read: %w", err))
			return
		}
	}
}
