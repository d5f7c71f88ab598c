package synchronizer

import (
	"context"
	"time"

	"github.com/afterimage-dr/afterimage/internal/live"
	"github.com/afterimage-dr/afterimage/internal/logging"
)

// identityEvery is how often the destination is asked whether it still is the
// cluster it was.
const identityEvery = 30 * time.Second

// identity knows which cluster the destination is. Another one behind the same
// kubeconfig makes everything remembered of it void (guarantee 7).
type identity struct {
	s    *Synchronizer
	uid  *live.Value[string] // empty: not known yet
	wake chan struct{}
	said logging.State
}

func newIdentity(s *Synchronizer) *identity {
	return &identity{s: s, uid: live.New(""), wake: make(chan struct{}, 1)}
}

// check asks now.
func (i *identity) check() {
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

func (i *identity) run(ctx context.Context) error {
	for wait := time.Duration(0); ; {
		select {
		case <-time.After(wait):
		case <-i.wake:
		case <-ctx.Done():
			return nil
		}
		uid, err := i.s.kube.ClusterUID(ctx)
		if err != nil {
			if ctx.Err() == nil {
				i.said.Failing(i.s.Logger, "identity", "the destination does not say which cluster it is",
					logging.DestinationCluster(i.s.Settings.Load().Destination), logging.Err(err))
			}
			wait = min(max(2*wait, time.Second), identityEvery)
			continue
		}
		i.said.Working(i.s.Logger, "the destination says again which cluster it is")
		wait = identityEvery
		if was := i.uid.Load(); was != uid {
			if was != "" {
				i.s.Logger.Warn("the destination is another cluster now: everything is compared anew", "was", was, "is", uid)
			}
			i.s.resources.Reset()
			i.uid.Set(uid)
		}
	}
}

// await returns the cluster's UID as soon as it is known.
func (i *identity) await(ctx context.Context) (string, error) {
	for {
		uid, changed := i.uid.Get()
		if uid != "" {
			return uid, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// other waits until the destination is another cluster than the one given.
func (i *identity) other(ctx context.Context, than string) error {
	for {
		uid, changed := i.uid.Get()
		if uid != than {
			return errStartOver
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}
