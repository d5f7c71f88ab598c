package synchronization

import (
	"context"
	"errors"

	"github.com/afterimage-dr/afterimage/internal/manifest"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// Attempt makes the destination equal to the source, once. It must be safe to be
// stopped at any moment and made again. It may call progress whenever it has counted
// more, from one goroutine at a time; that costs nothing. When ctx ends it returns soon.
//
// It has failed if it returns an error, and also if its outcome counts failures:
// then it is made again, as far as the backoffLimit goes, unless the error is Permanent.
type Attempt func(ctx context.Context, progress func(v1alpha1.SynchronizationResult)) (Outcome, error)

// Outcome of an attempt, also of one that returned an error.
type Outcome struct {
	Result v1alpha1.SynchronizationResult
	// Failures are what is not as it must be; a status has room for the first 50.
	Failures []v1alpha1.Failure
}

// Plugin gives the attempt of a run, whose assets are in the set. An error is
// permanent.
type Plugin func(set *manifest.Set, s *v1alpha1.Synchronization) (Attempt, error)

// Permanent marks an error that no further attempt will mend, such as a root that is
// missing: the run fails at once. Where it, or an error it wraps, has a method
// Reason() string, that is the reason of the condition Failed.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

type permanent struct{ error }

// Unwrap returns what no further attempt will mend.
func (p permanent) Unwrap() error { return p.error }

func isPermanent(err error) bool { return errors.As(err, new(permanent)) }

// reasonOf is the error's own reason, or a given one.
func reasonOf(err error, or string) string {
	var r interface{ Reason() string }
	if errors.As(err, &r) && r.Reason() != "" {
		return r.Reason()
	}
	return or
}
