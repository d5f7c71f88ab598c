package fence

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/afterimage-dr/afterimage/internal/owned"
)

// Raise takes the Lease for a recovery and fences the destination. A destination
// that is fenced already keeps its term: recoveries until it is lifted share it.
//
// Another holder that is seen to renew the Lease is running: ErrHeld. One that is
// not seen to for HoldFor is taken for dead. Only our own clock counts: waiting, if
// not nil, is told whom it is waited for.
func (f *Fence) Raise(ctx context.Context, holder string, waiting func(holder string)) (term int64, err error) {
	var seen State
	var since time.Time
	for {
		s, err := f.Read(ctx)
		if err != nil {
			return 0, err
		}
		if s.Holder != "" && s.Holder != holder {
			switch {
			case since.IsZero() || s.Holder != seen.Holder:
				seen, since = s, time.Now()
				if waiting != nil {
					waiting(s.Holder)
				}
			case !s.RenewedAt.Equal(seen.RenewedAt):
				return 0, fmt.Errorf("%w: %s", ErrHeld, s.Holder)
			}
			if time.Since(since) < HoldFor {
				select {
				case <-ctx.Done():
					return 0, context.Cause(ctx)
				case <-time.After(time.Second):
				}
				continue
			}
		}
		term = s.Term
		if !s.Fenced() {
			// A number no earlier one exceeds, also where the Lease was lost.
			term = max(time.Now().Unix(), s.Term+1, s.Lifted+1)
		}
		annotations := map[string]string{TermAnnotation: strconv.FormatInt(term, 10)}
		spec := map[string]any{"holderIdentity": holder, "renewTime": now(), "leaseDurationSeconds": int(HoldFor.Seconds())}
		if s.uid == "" {
			err = f.create(ctx, annotations, spec)
		} else {
			err = f.replace(ctx, s, annotations, spec)
		}
		if !errors.Is(err, errChanged) {
			return term, err
		}
	}
}

// Running tells whether the holder of a Lease is seen to renew it.
func (f *Fence) Running(ctx context.Context, s State) (bool, error) {
	if s.Holder == "" {
		return false, nil
	}
	for deadline := time.Now().Add(2*RenewEvery + RequestTimeout); time.Now().Before(deadline); {
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-time.After(time.Second):
		}
		now, err := f.Read(ctx)
		if err != nil {
			return false, err
		}
		if now.Holder != s.Holder {
			return now.Holder != "", nil
		}
		if !now.RenewedAt.Equal(s.RenewedAt) {
			return true, nil
		}
	}
	return false, nil
}

// replace sets the spec and annotations of the very Lease that was read.
func (f *Fence) replace(ctx context.Context, s State, annotations map[string]string, spec map[string]any) error {
	ops := []op{{"test", "/metadata/uid", s.uid}, {"test", "/metadata/resourceVersion", s.rv}, {"add", "/spec", spec}}
	if s.bare {
		ops = append(ops, op{"add", "/metadata/annotations", struct{}{}})
	}
	for k, v := range annotations {
		ops = append(ops, op{"add", annotation(k), v})
	}
	return f.patch(ctx, ops)
}

// now in the form of a MicroTime.
func now() string { return time.Now().UTC().Format("2006-01-02T15:04:05.000000Z07:00") }

// Hold renews the Lease until ctx ends, and gives it back then; the fence stays
// raised. lost is called once if the Lease has another holder or another term:
// the recovery must end.
func (f *Fence) Hold(ctx context.Context, holder string, term int64, lost func(error)) {
	t := time.NewTicker(RenewEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), RenewEvery)
			defer cancel()
			if s, err := f.Read(end); err == nil && s.Holder == holder {
				_ = f.replace(end, s, nil, map[string]any{"holderIdentity": "", "renewTime": now()}) // else it runs out
			}
			return
		case <-t.C:
		}
		s, err := f.Read(ctx)
		if err != nil {
			continue // the destination is away: so are all others
		}
		if s.Holder != holder || s.Term != term || !s.Fenced() {
			lost(fmt.Errorf("the recovery fence is held by %q with term %d, lifted %d, and was taken by %q with term %d", s.Holder, s.Term, s.Lifted, holder, term))
			return
		}
		_ = f.replace(ctx, s, nil, map[string]any{"holderIdentity": holder, "renewTime": now(), "leaseDurationSeconds": int(HoldFor.Seconds())}) // tried again
	}
}

// Await waits until every writer has acknowledged the term, or Settled is over
// since raised, and takes those out of the Lease that have not: they must
// register again before they write. gone tells of an instance that is certainly
// not running; waiting is told for whom it waits, whenever that changes.
func (f *Fence) Await(ctx context.Context, raised time.Time, gone func(instance string) bool, waiting func([]string)) (silent []string, err error) {
	var told []string
	for {
		s, err := f.Read(ctx)
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case err == nil:
			left := slices.DeleteFunc(s.Waiting(), gone)
			if len(left) == 0 || time.Since(raised) >= Settled {
				return left, f.remove(ctx, s.Waiting())
			}
			if !slices.Equal(left, told) {
				told = left
				waiting(left)
			}
		case !owned.Transient(err):
			return nil, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// remove takes writers out of the Lease.
func (f *Fence) remove(ctx context.Context, writers []string) error {
	for _, w := range writers {
		for {
			err := f.Unregister(ctx, w)
			if err == nil {
				break
			}
			if !errors.Is(err, errChanged) && !apierrors.IsNotFound(err) && !owned.Transient(err) {
				return fmt.Errorf("taking writer %s out of the recovery fence: %w", w, err)
			}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(250 * time.Millisecond):
			}
		}
	}
	return nil
}
