package reconciler

import (
	"cmp"
	"context"
	"fmt"

	"github.com/afterimage-dr/afterimage/topology"
)

// sourceChangedError: the source is another cluster than the one whose objects
// the destination holds.
type sourceChangedError struct{ is, was string }

func (e *sourceChangedError) Error() string {
	return fmt.Sprintf("the source cluster is now %s, but the destination holds the objects of %s: nothing is deleted; "+
		"if this is meant, confirm it with the annotation afterimage.io/confirm-source: %q", e.is, e.was, e.is)
}

// checkSource makes sure that the source is the cluster we think it is. The
// configuration knows; where it does not, the objects of the destination do,
// also after all state of our own was lost.
func (p *pass) checkSource(ctx context.Context, uid string, resources []served) error {
	if p.settings.ConfirmSource == uid || len(p.only) > 0 && p.verified == uid {
		return nil
	}
	if was := p.settings.Config.SourceUID; was != "" {
		if was != uid {
			return &sourceChangedError{is: uid, was: was}
		}
		return nil
	}
	// One object of this source is enough: the eventslistener logs nothing of an
	// unconfirmed source, so none can have come from one.
	for _, s := range resources {
		c := newCursor(p.destination, s.destination, topology.OwnerLabel+"="+p.owner.Hash(), 1, false)
		if _, found, err := c.next(ctx); err != nil {
			return &sideError{false, err}
		} else if found {
			return nil
		}
	}
	for _, s := range resources {
		was, err := p.otherSource(ctx, s)
		if err != nil {
			return err
		}
		if was != "" {
			// Resources that cannot be read may hold objects of this source.
			return cmp.Or[error](p.firstError(), &sourceChangedError{is: uid, was: was})
		}
	}
	return nil
}

// otherSource looks for an object of this LiveSynchronization that came from
// another source.
func (p *pass) otherSource(ctx context.Context, s served) (string, error) {
	c := newCursor(p.destination, s.destination, topology.OwnerLabel, p.opts.PageSize, false)
	for {
		e, more, err := c.next(ctx)
		if err != nil {
			return "", &sideError{false, err}
		}
		if !more {
			return "", nil
		}
		owner, ok := topology.OwnerIn(e.meta.Annotations)
		if ok && owner.LiveSynchronization == p.owner.LiveSynchronization && owner.SourceUID != p.owner.SourceUID {
			return owner.SourceUID, nil
		}
	}
}
