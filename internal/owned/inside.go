package owned

import (
	"context"
	"encoding/json"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/topology"
)

// Definitions are the CustomResourceDefinitions of a cluster.
var Definitions = kube.Resource{
	GroupVersionResource: schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"},
	Kind:                 "CustomResourceDefinition",
}

// insidePage is how many objects one page of a listing holds.
const insidePage = 500

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

// Inside looks at what a namespace or a definition holds.
type Inside struct {
	Client *kube.Client
	Served *kube.Served
	// Config whose resources are looked for as well.
	Config topology.Config
}

// Untracked names an object that deleting a namespace or a definition would take
// with it although Afterimage did not put it there, or must not delete it (it was
// adopted, or the deletion policy leaves it alone); empty if there is none.
func (i Inside) Untracked(ctx context.Context, key topology.Key, live *Object, owner topology.Owner) (string, error) {
	var inside []kube.Resource
	namespace := ""
	if key.Resource == "namespaces" {
		namespace = key.Name
		keys := insideNamespace
		for _, e := range i.Config.Replication.Resources {
			keys = append(keys[:len(keys):len(keys)], topology.Key{Group: e.Group, Version: e.Version, Resource: e.Resource})
		}
		for _, k := range keys {
			r, err := i.Served.Get(ctx, k.GVR())
			switch {
			case errors.Is(err, kube.ErrNotServed):
			case err != nil:
				return "", err // Guarantee 9: what cannot be looked for may be there
			case r.Namespaced:
				inside = append(inside, r)
			}
		}
		custom, err := i.defined(ctx)
		if err != nil {
			return "", err
		}
		inside = append(inside, custom...)
	} else {
		inside = definedBy(live.Body)
	}
	for _, r := range inside {
		name, err := i.untrackedIn(ctx, r, namespace, owner)
		if name != "" || err != nil && !apierrors.IsNotFound(err) {
			return name, err
		}
	}
	return "", nil
}

func (i Inside) untrackedIn(ctx context.Context, r kube.Resource, namespace string, owner topology.Owner) (string, error) {
	o := kube.ListOptions{Namespace: namespace, Limit: insidePage}
	metadata := i.Client.Metadata()
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
			if m.Labels[topology.OwnerLabel] == owner.Hash() && m.Annotations[topology.AdoptedAnnotation] == "" && !Orphans(key, i.Config.Replication.DeletionPolicy) {
				continue
			}
			if !MadeByEveryCluster(key) && !controlled(item) && m.Annotations["kubernetes.io/service-account.name"] == "" {
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
func (i Inside) defined(ctx context.Context) ([]kube.Resource, error) {
	var out []kube.Resource
	o := kube.ListOptions{Limit: definitionsPage}
	for {
		page, err := i.Client.ListPage(ctx, Definitions, o)
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
