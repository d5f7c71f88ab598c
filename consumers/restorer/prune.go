package restorer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/afterimage-dr/afterimage/internal/breaker"
	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/owned"
	"github.com/afterimage-dr/afterimage/topology"
)

// prune deletes what is ours at the destination and was not there at the moment
// that was asked for.
//
// Guarantee 8: that these objects are not wanted is inferred, so it passes the
// breaker; --force is the person that confirms.
func (r *Restorer) prune(ctx context.Context) (blocked string, err error) {
	r.progress.phase("looking for what is later")
	later, tracked := r.later()
	if len(later) == 0 {
		return "", nil
	}
	if blocked = r.block(later, tracked); blocked != "" && !r.Force {
		for _, key := range later {
			r.result(Result{Key: key, Action: Kept, Reason: ReasonPruneBlocked, Message: "it was not there at that moment; see blocked"})
		}
		return blocked + "; nothing was deleted: --force deletes", nil
	}
	r.progress.phase("deleting what is later")
	// What is inside goes before what holds it.
	slices.SortStableFunc(later, func(a, b string) int { return foundation(a) - foundation(b) })
	for _, key := range later {
		res, err := r.deleteLater(ctx, key)
		if err != nil {
			return "", err
		}
		r.result(res)
	}
	return "", nil
}

// foundation is 1 for what holds others.
func foundation(text string) int {
	if key, err := topology.ParseKey(text); err == nil && cascades(key) {
		return 1
	}
	return 0
}

// later are the keys of ours that no original stands for, and how many of ours
// there are, by resource.
func (r *Restorer) later() (later []string, tracked map[string]int) {
	tracked = map[string]int{}
	r.live.mu.Lock()
	defer r.live.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	for text, e := range r.live.keys {
		key, err := topology.ParseKey(text)
		if err != nil || e.whose != owned.Ours || slices.Contains(r.Untold, key.GVR()) || r.strict.Skipped(key) {
			continue
		}
		tracked[topology.ResourcePrefix(key.GVR())]++
		if _, wanted := r.results[text]; !wanted && (r.Only == nil || r.Only(text)) {
			later = append(later, text)
		}
	}
	slices.Sort(later)
	return later, tracked
}

// block tells why deleting is too much; empty: it is not.
func (r *Restorer) block(later []string, tracked map[string]int) string {
	gone := map[string]int64{}
	for _, text := range later {
		key, _ := topology.ParseKey(text)
		gone[topology.ResourcePrefix(key.GVR())]++
	}
	all := breaker.Tally{Gone: int64(len(later))}
	for _, n := range tracked {
		all.Tracked += int64(n)
	}
	for resource, n := range gone {
		of := breaker.Tally{Gone: n, Tracked: int64(tracked[resource])}
		switch breaker.Default().Judge(of, all) {
		case breaker.Within:
		case breaker.All:
			return fmt.Sprintf("%d of %d objects were not there at that moment", all.Gone, all.Tracked)
		default:
			return fmt.Sprintf("%d of %d objects of %s were not there at that moment", of.Gone, of.Tracked, strings.TrimSuffix(resource, "/"))
		}
	}
	return ""
}

// deleteLater deletes one object, as far as it is ours to delete.
func (r *Restorer) deleteLater(ctx context.Context, text string) (Result, error) {
	key, err := topology.ParseKey(text)
	if err != nil {
		return Result{}, err
	}
	res := Result{Key: text, Action: Kept}
	live := r.live.get(text)
	switch {
	case live.adopted:
		res.Message = "it was adopted, not created, by Afterimage"
	case live.forced:
		res.Message = "the namespace was made by forceNamespaceCreation, which never prunes"
	case owned.Orphans(key, r.Config.Replication.DeletionPolicy):
		res.Message = "the deletion policy leaves it alone"
	case live.terminating:
		res.Action = Deleted
	case r.inside(key) != "":
		res.Message = "it holds " + r.inside(key) + ", which stays"
	default:
		return r.deleteNow(ctx, key, res)
	}
	return res, nil
}

// inside names something that this recovery leaves in a namespace or definition;
// empty: nothing is known to be.
func (r *Restorer) inside(key topology.Key) string {
	if !cascades(key) {
		return ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for text, res := range r.results {
		k, err := topology.ParseKey(text)
		if err != nil || res.Action == Deleted || k == key {
			continue
		}
		if key.Resource == "namespaces" && k.Namespace == key.Name || isDefinition(key) && k.Resource+"."+k.Group == key.Name {
			return text
		}
	}
	return ""
}

func (r *Restorer) deleteNow(ctx context.Context, key topology.Key, res Result) (Result, error) {
	fail := func(reason, message string) (Result, error) {
		res.Action, res.Reason, res.Message = Failed, reason, message
		return res, nil
	}
	resource, err := r.served.Get(ctx, key.GVR())
	if err != nil {
		return fail(owned.Classify(err, key.Namespace))
	}
	err = r.persist(ctx, func(ctx context.Context) error {
		live, err := owned.Read(ctx, r.Destination, resource, key)
		if err != nil || live == nil {
			return err
		}
		// Guarantee 9: as it is now, it must be ours.
		if owned.OwnershipOf(&live.Meta, r.owner, key, r.Config.FormerSourceUIDs...) != owned.Ours {
			return errNotOurs
		}
		if cascades(key) {
			inside := owned.Inside{Client: r.Destination, Served: r.served, Config: r.Config}
			foreign, err := inside.Untracked(ctx, key, live, r.owner)
			if err != nil {
				return err
			}
			if foreign != "" {
				return &notEmptyError{foreign}
			}
		}
		return r.kube.Delete(ctx, resource, key, kube.Preconditions{UID: live.Meta.UID, ResourceVersion: live.Meta.ResourceVersion})
	})
	var holds *notEmptyError
	switch {
	case ctx.Err() != nil:
		return res, context.Cause(ctx)
	case errors.Is(err, errNotOurs):
		res.Message = err.Error()
		return res, nil
	case errors.As(err, &holds):
		return fail(ReasonNotEmpty, holds.Error())
	case err != nil && !apierrors.IsNotFound(err):
		return fail(owned.Classify(err, key.Namespace))
	}
	res.Action = Deleted
	return res, nil
}

// result notes the result of a key that no original stands for.
func (r *Restorer) result(res Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.results[res.Key] = res
}
