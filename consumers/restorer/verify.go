package restorer

import (
	"context"
	"errors"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/topology"
)

var errNotOurs = errors.New("the object at the destination is not one of ours under this key any more")

// notEmptyError: deleting it would delete what others put under it.
type notEmptyError struct{ what string }

func (e *notEmptyError) Error() string {
	return "it still holds what Afterimage did not put there: " + e.what
}

// verify looks at the destination once more: whatever was written or found to be
// as it must be is there, the very object, with the mark of this recovery. What
// somebody changed on it since is theirs.
func (r *Restorer) verify(ctx context.Context) error {
	seen, unread := map[string]written{}, map[string]error{}
	var mu sync.Mutex
	g, inner := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for _, gvr := range r.resources() {
		g.Go(func() error {
			err := r.surveyOf(inner, gvr, func(key topology.Key, m *kube.Meta) {
				if m.DeletionTimestamp != nil {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				seen[key.String()] = written{uid: m.UID, mark: m.Annotations[topology.RecoveredAnnotation]}
			})
			if err != nil && inner.Err() == nil {
				mu.Lock()
				defer mu.Unlock()
				unread[topology.ResourcePrefix(gvr)] = err
				return nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, was := range r.wrote {
		res, is := r.results[was.name], seen[key]
		if res.Action == Failed || res.Action == Deleted || is.uid == was.uid && is.mark == was.mark {
			continue
		}
		if err := unreadOf(unread, key); err != nil {
			r.results[was.name] = Result{Key: was.name, Action: Failed, Reason: ReasonUnverified, Message: err.Error(), Note: res.Note}
			continue
		}
		message := "it was written, and is not at the destination any more"
		if _, there := seen[key]; there {
			message = "it was written, and somebody has replaced it at the destination since"
		}
		r.results[was.name] = Result{Key: was.name, Action: Failed, Reason: ReasonLost, Message: message, Note: res.Note}
	}
	return nil
}

// unreadOf is why the resource of a key could not be listed; nil: it was.
func unreadOf(unread map[string]error, key string) error {
	for prefix, err := range unread {
		if strings.HasPrefix(key, prefix) {
			return err
		}
	}
	return nil
}
