package synchronizer

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

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

// insideNamespace is what is looked for before a namespace is deleted: the
// resources most namespaces hold. What the LiveSynchronization covers is looked
// for as well, and so is every custom resource the destination defines; what an
// aggregated API server holds and nobody covers is not.
var insideNamespace = []topology.Key{
	{Version: "v1", Resource: "pods"}, {Version: "v1", Resource: "persistentvolumeclaims"},
	{Version: "v1", Resource: "services"}, {Version: "v1", Resource: "configmaps"}, {Version: "v1", Resource: "secrets"},
	{Version: "v1", Resource: "serviceaccounts"}, {Version: "v1", Resource: "replicationcontrollers"},
	{Version: "v1", Resource: "resourcequotas"}, {Version: "v1", Resource: "limitranges"},
	{Group: "apps", Version: "v1", Resource: "deployments"}, {Group: "apps", Version: "v1", Resource: "statefulsets"},
	{Group: "apps", Version: "v1", Resource: "daemonsets"}, {Group: "apps", Version: "v1", Resource: "replicasets"},
	{Group: "batch", Version: "v1", Resource: "jobs"}, {Group: "batch", Version: "v1", Resource: "cronjobs"},
	{Group: "networking.k8s.io", Version: "v1", Resource: "ingresses"},
	{Group: "networking.k8s.io", Version: "v1", Resource: "networkpolicies"},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "roles"},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "rolebindings"},
	{Group: "autoscaling", Version: "v2", Resource: "horizontalpodautoscalers"},
	{Group: "policy", Version: "v1", Resource: "poddisruptionbudgets"},
}

// untracked names an object that deleting a namespace or a definition would take
// with it although Afterimage did not put it there; empty if there is none.
func (s *Synchronizer) untracked(ctx context.Context, key topology.Key, live *owned.Object, owner topology.Owner) (string, error) {
	var inside []kube.Resource
	namespace := ""
	if key.Resource == "namespaces" {
		namespace = key.Name
		keys := insideNamespace
		for _, e := range s.Settings.Load().Config.Replication.Resources {
			keys = append(keys[:len(keys):len(keys)], topology.Key{Group: e.Group, Version: e.Version, Resource: e.Resource})
		}
		for _, k := range keys {
			r, err := s.resources.get(ctx, k.GVR())
			switch {
			case errors.Is(err, kube.ErrNotServed):
			case err != nil:
				return "", err // Guarantee 9: what cannot be looked for may be there
			case r.Namespaced:
				inside = append(inside, r)
			}
		}
		custom, err := s.defined(ctx)
		if err != nil {
			return "", err
		}
		inside = append(inside, custom...)
	} else {
		inside = definedBy(live.Body)
	}
	for _, r := range inside {
		name, err := s.untrackedIn(ctx, r, namespace, owner)
		if name != "" || err != nil && !apierrors.IsNotFound(err) {
			return name, err
		}
	}
	return "", nil
}

func (s *Synchronizer) untrackedIn(ctx context.Context, r kube.Resource, namespace string, owner topology.Owner) (string, error) {
	o := kube.ListOptions{Namespace: namespace, LabelSelector: topology.OwnerLabel + "!=" + owner.Hash(), Limit: listPage}
	metadata := s.kube.Metadata()
	for {
		page, err := metadata.ListPage(ctx, r, o)
		if err != nil {
			return "", err
		}
		for _, item := range page.Items {
			m, err := kube.MetaOf(item)
			if err != nil {
				return "", err
			}
			key := topology.Key{Group: r.Group, Version: r.Version, Resource: r.Resource, Namespace: m.Namespace, Name: m.Name}
			if !owned.MadeByEveryCluster(key) && !controlled(item) && m.Annotations["kubernetes.io/service-account.name"] == "" {
				return r.Resource + "/" + m.Name, nil
			}
		}
		if o.Continue = page.Continue; o.Continue == "" {
			return "", nil
		}
	}
}

// controlled tells whether another object made this one, and stands for it.
func controlled(object []byte) bool {
	var o struct {
		Metadata struct {
			OwnerReferences []struct {
				Controller bool `json:"controller"`
			} `json:"ownerReferences"`
		} `json:"metadata"`
	}
	_ = json.Unmarshal(object, &o) // in doubt it is not
	for _, r := range o.Metadata.OwnerReferences {
		if r.Controller {
			return true
		}
	}
	return false
}

// definitionsPage is small: definitions are the largest objects of a cluster.
const definitionsPage = 25

// defined are the namespaced resources that the destination's definitions define.
func (s *Synchronizer) defined(ctx context.Context) ([]kube.Resource, error) {
	var out []kube.Resource
	o := kube.ListOptions{Limit: definitionsPage}
	for {
		page, err := s.kube.ListPage(ctx, definitions, o)
		if err != nil {
			return nil, err
		}
		for _, item := range page.Items {
			for _, r := range definedBy(item) {
				if r.Namespaced {
					out = append(out, r)
				}
			}
		}
		if o.Continue = page.Continue; o.Continue == "" {
			return out, nil
		}
	}
}

// definedBy is the resource a CustomResourceDefinition defines.
func definedBy(definition []byte) []kube.Resource {
	var d struct {
		Spec struct {
			Group string `json:"group"`
			Scope string `json:"scope"`
			Names struct {
				Plural, Kind string
			} `json:"names"`
			Versions []struct {
				Name   string `json:"name"`
				Served bool   `json:"served"`
			} `json:"versions"`
		} `json:"spec"`
	}
	if json.Unmarshal(definition, &d) != nil {
		return nil
	}
	for _, v := range d.Spec.Versions {
		if v.Served { // every served version shows every object
			key := topology.Key{Group: d.Spec.Group, Version: v.Name, Resource: d.Spec.Names.Plural}
			return []kube.Resource{{GroupVersionResource: key.GVR(), Kind: d.Spec.Names.Kind, Namespaced: d.Spec.Scope == "Namespaced"}}
		}
	}
	return nil
}
