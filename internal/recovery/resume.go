package recovery

import (
	"context"
	"fmt"

	"k8s.io/client-go/rest"

	"github.com/afterimage-dr/afterimage/internal/fence"
	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/manifest"
)

// Resume lifts the fence at a destination; term 0: none was raised.
func Resume(ctx context.Context, t manifest.Target, destination *rest.Config) (term int64, err error) {
	client, err := kube.New(destination, kube.WithTimeout(requestTimeout))
	if err != nil {
		return 0, err
	}
	f := fence.New(client, t.LiveSynchronization.Namespace, t.LiveSynchronization.Name)
	for {
		s, err := f.Read(ctx)
		if err != nil {
			return 0, fmt.Errorf("reading the recovery fence: %w", err)
		}
		if !s.Fenced() {
			return 0, nil
		}
		if running, err := f.Running(ctx, s); err != nil || running {
			if err == nil {
				err = fmt.Errorf("%w: %s; wait for its end, or end it", fence.ErrHeld, s.Holder)
			}
			return 0, err
		}
		err = f.Resume(ctx, s)
		switch {
		case err == nil:
			return s.Term, nil
		case !fence.Changed(err):
			return 0, fmt.Errorf("lifting the recovery fence: %w", err)
		}
	}
}
