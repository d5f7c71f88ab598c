package synchronizer

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/owned"
	"github.com/afterimage-dr/afterimage/topology"
)

// namespaces knows which namespaces the destination has, from a watch: names
// only. It spares a request for each object of a namespace that is not there.
type namespaces struct {
	mu     sync.RWMutex
	synced bool
	known  map[string]bool // value: it is being deleted
	// stamped is the version of the stamp last brought to a namespace that
	// forceNamespaceCreation made, so that each stamp is looked at once.
	stamped map[string]string
	forcing sync.Mutex // one forced creation at a time
	// checked is when a namespace that the watch does not show was asked for.
	checked map[string]time.Time
}

// recheck is how long the watch is believed about a namespace that is not there:
// it may hang.
const recheck = 20 * time.Second

func newNamespaces() *namespaces {
	return &namespaces{known: map[string]bool{}, stamped: map[string]string{}, checked: map[string]time.Time{}}
}

// missing tells whether a namespace is known not to be there.
func (n *namespaces) missing(name string) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	_, ok := n.known[name]
	return n.synced && !ok
}

// doubt tells whether a missing namespace is to be asked for, which it then is
// not again for a while.
func (n *namespaces) doubt(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if time.Since(n.checked[name]) < recheck {
		return false
	}
	n.checked[name] = time.Now()
	return true
}

// set notes that a namespace is there; it tells whether one may write into it
// that could not before.
func (n *namespaces) set(name string, terminating bool) (news bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	was, ok := n.known[name]
	n.known[name] = terminating
	return (!ok || was) && !terminating
}

func (n *namespaces) remove(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.known, name)
	delete(n.stamped, name)
}

// replace sets all names at once, as a listing gives them.
func (n *namespaces) replace(all map[string]bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.known, n.synced = all, true
	clear(n.checked)
	maps.DeleteFunc(n.stamped, func(name, _ string) bool { _, ok := all[name]; return !ok })
}

// awaitNamespace tells why a write must wait for its namespace; with
// forceNamespaceCreation it makes the namespace instead, and keeps one it made up
// to date.
func (a *attempt) awaitNamespace(ctx context.Context) (reason, message string, err error) {
	name := a.w.key.Namespace
	if name == "" || !a.w.live() {
		return "", "", nil
	}
	missing := a.s.namespaces.missing(name)
	if missing && a.s.namespaces.doubt(name) {
		live, err := a.s.read(a.p.effects, kube.Namespaces, topology.Key{Version: "v1", Resource: "namespaces", Name: name})
		if err != nil {
			return "", "", &opError{logging.ErrGettingNamespace, err}
		}
		if missing = live == nil; !missing {
			a.s.namespaces.set(name, live.Meta.DeletionTimestamp != nil)
		}
	}
	if !a.policy.forceNamespaces {
		if missing {
			return ReasonNamespaceMissing, "waits for namespace " + name, nil
		}
		return "", "", nil
	}
	stamp := stampVersion(a.w)
	a.s.namespaces.mu.RLock()
	stamped := a.s.namespaces.stamped[name] == stamp
	a.s.namespaces.mu.RUnlock()
	if stamped && !missing {
		return "", "", nil
	}
	return a.forceNamespace(ctx, stamp)
}

// stampVersion tells stamps apart.
func stampVersion(w *want) string {
	b, _ := json.Marshal([]map[string]string{w.namespaceLabels, w.namespaceAnnotations}) // strings always marshal
	return topology.Version{Epoch: w.version.Epoch, RV: w.version.NamespaceRV}.String() + string(b)
}

// forceNamespace creates the namespace of an object with the labels and
// annotations it has in the source, or updates them on one it created before.
// A namespace somebody else made is left as it is.
func (a *attempt) forceNamespace(ctx context.Context, stamp string) (reason, message string, err error) {
	n := a.s.namespaces
	n.forcing.Lock()
	defer n.forcing.Unlock()
	n.mu.RLock()
	done := n.stamped[a.w.key.Namespace] == stamp
	n.mu.RUnlock()
	if done {
		return "", "", nil
	}
	w := want{
		key: topology.Key{Version: "v1", Resource: "namespaces", Name: a.w.key.Namespace},
		op:  topology.Create, version: topology.Version{Epoch: a.w.version.Epoch, RV: a.w.version.NamespaceRV}, offset: -1,
		body: owned.NamespaceBody(a.w.key.Namespace, a.w.namespaceLabels, a.w.namespaceAnnotations),
	}
	w.keyText = w.key.String()
	b := &attempt{s: a.s, p: a.p, j: &job{want: w}, w: &w, owner: a.owner, policy: a.policy, r: kube.Namespaces, forced: true}
	for turn := 0; turn < maxTurns; turn++ {
		live, err := a.s.read(a.p.effects, b.r, w.key)
		if err != nil {
			return "", "", &opError{logging.ErrGettingNamespace, err}
		}
		if live != nil && live.Meta.DeletionTimestamp != nil {
			return ReasonNamespaceTerminating, "waits for namespace " + w.key.Name + " to be gone", nil
		}
		if live != nil && !b.stampable(live) {
			break
		}
		var next step
		if b.live = live; live == nil {
			a.s.log(slog.LevelDebug, logging.CreatingNamespace, &w, "", "")
			next, _, err = b.create(ctx)
		} else {
			next, _, err = b.update(ctx)
		}
		if err != nil {
			return "", "", &opError{logging.ErrCreatingNamespace, err}
		}
		if next == stepDrop {
			break
		}
	}
	n.mu.Lock()
	n.stamped[w.key.Name] = stamp
	n.known[w.key.Name] = false
	n.mu.Unlock()
	return "", "", nil
}

// stampable tells whether a namespace is one that was made by force for this
// LiveSynchronization and whose stamp is older.
func (a *attempt) stampable(live *owned.Object) bool {
	m := &live.Meta
	return owned.OwnershipOf(m, a.owner, a.w.key, a.policy.former...) == owned.Ours && m.Annotations[owned.ForcedNamespaceAnnotation] != "" &&
		owned.AppliedVersion(m).Older(a.w.version)
}

// untracked names an object that deleting a namespace or a definition would take
// with it although Afterimage did not put it there; empty if there is none.
func (s *Synchronizer) untracked(ctx context.Context, key topology.Key, live *owned.Object, owner topology.Owner) (string, error) {
	return owned.Inside{Client: s.kube, Served: s.resources, Config: s.Settings.Load().Config}.Untracked(ctx, key, live, owner)
}
