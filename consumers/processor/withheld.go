package processor

import (
	"fmt"
	"maps"
	"slices"

	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// What the rules keep from the destination until a recovery (webhooks) is marked
// in the memory of its key, so that status names it after a restart too. Here it
// is called withheld: what is held could not be computed, and what is held back
// waits for the limit of a change of the configuration.

// maxNamed is how many of them status names; all are counted.
const maxNamed = 50

// loadWithheld reads what the memory says.
func (w *partition) loadWithheld() error {
	found := map[string]bool{}
	for _, prefix := range topology.HeldBackPrefixes() {
		err := w.State.Each(w.id, prefix, func(key string, e state.Entry) error {
			if e.Withheld && !w.heldBack(&e) {
				found[key] = true
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("reading what is kept for a recovery: %w", err)
		}
	}
	w.setWithheld(found)
	return nil
}

func (w *partition) setWithheld(keys map[string]bool) {
	w.withheld = keys
	names := slices.Sorted(maps.Keys(keys))
	w.note(func(s *status) { s.withheld = names })
}

// trackWithheld takes over what a batch has changed. What still waits for the
// limit is at the destination, and counts once it is not.
func (w *partition) trackWithheld(b *batch) {
	var next map[string]bool
	for key, e := range b.fresh {
		on := e.Withheld && !w.heldBack(&e)
		if on == w.withheld[key] {
			continue
		}
		if next == nil {
			if next = maps.Clone(w.withheld); next == nil {
				next = map[string]bool{}
			}
		}
		if on {
			next[key] = true
		} else {
			delete(next, key)
		}
	}
	if next != nil {
		w.setWithheld(next)
	}
}

// sweepWithheld forgets, at the end of a run over all of changes, what it did not
// meet: nothing in the source is kept for a recovery under these keys. (What is
// at the destination in part is asked for like everything else.)
func (w *partition) sweepWithheld(b *batch) error {
	for key := range w.withheld {
		e, known, err := w.get(b, key)
		if err != nil {
			return err
		}
		if known && e.Withheld && e.Deleted && e.Mark != w.fullRun.ID {
			old := e
			e.Withheld = false
			w.put(b, key, old, e)
		}
	}
	return nil
}

// sayWithheld logs once that a key is kept from the destination, or not any more.
func (w *partition) sayWithheld(r *topology.Record, old state.Entry, c computed) {
	if old.Withheld == c.entry.Withheld {
		return
	}
	key, err := topology.ParseKey(r.Key)
	if err != nil {
		return
	}
	object := logging.SourceObject(key, r.UID, r.Version.RV)
	if c.entry.Withheld {
		w.Logger.Info("webhook is held back from the destination until a recovery", object)
	} else {
		w.Logger.Info("webhook is not held back any longer", object)
	}
}

// reportWithheld sums the partitions up; nil where there is none.
func reportWithheld(statuses []status) *v1alpha1.HeldBackObjects {
	var all []string
	for _, s := range statuses {
		all = append(all, s.withheld...)
	}
	if len(all) == 0 {
		return nil
	}
	slices.Sort(all)
	return &v1alpha1.HeldBackObjects{Count: int64(len(all)), Objects: all[:min(len(all), maxNamed)]}
}
