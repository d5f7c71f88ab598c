package synchronization

import (
	"context"
	"errors"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// Outcome of an attempt.
type Outcome struct {
	Result   v1alpha1.SynchronizationResult
	Failures []v1alpha1.Failure
}

// Attempt is one attempt of a run.
type Attempt func(ctx context.Context, progress func(v1alpha1.SynchronizationResult)) (Outcome, error)

type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// Permanent marks an error that trying again cannot mend.
func Permanent(err error) error { return permanent{err} }

// IsPermanent tells whether trying again cannot mend an error.
func IsPermanent(err error) bool {
	var p permanent
	return errors.As(err, &p)
}
