package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Resource is one the cluster serves.
type Resource struct {
	schema.GroupVersionResource
	Kind       string
	Namespaced bool
	Verbs      []string
}

// Can tells whether the resource has a verb.
func (r Resource) Can(verb string) bool { return slices.Contains(r.Verbs, verb) }

// Resolve finds a resource by its plural, singular, kind or short name (in this
// order; upper and lower case are alike). It asks the server for the one group
// version only, so that another group's broken API server does no harm. What is
// not served gives [ErrNotServed]; any other error, a broken aggregated API
// server's among them, says nothing about that.
func (c *Client) Resolve(ctx context.Context, group, version, resource string) (Resource, error) {
	gv := schema.GroupVersion{Group: group, Version: version}
	path := []string{"apis", group, version}
	if group == "" {
		path = []string{"api", version}
	}
	q := request{verb: http.MethodGet, path: path, accept: typeJSON}
	var list metav1.APIResourceList
	err := c.do(ctx, &q, func(answer []byte) error {
		if err := json.Unmarshal(answer, &list); err != nil {
			return unexpected("resources of "+gv.String(), err)
		}
		if list.Kind != "APIResourceList" {
			return unexpected("resources of "+gv.String(), fmt.Errorf("kind %q is no APIResourceList", list.Kind))
		}
		return nil
	})
	switch {
	case apierrors.IsNotFound(err):
		return Resource{}, fmt.Errorf("%s in %s: %w", resource, gv, ErrNotServed)
	case err != nil:
		return Resource{}, fmt.Errorf("reading the resources of %s: %w", gv, err)
	}
	if r := find(list.APIResources, resource); r != nil {
		return Resource{GroupVersionResource: gv.WithResource(r.Name), Kind: r.Kind, Namespaced: r.Namespaced, Verbs: r.Verbs}, nil
	}
	return Resource{}, fmt.Errorf("%s in %s: %w", resource, gv, ErrNotServed)
}

func find(served []metav1.APIResource, name string) *metav1.APIResource {
	is := func(s string) bool { return strings.EqualFold(s, name) }
	for _, matches := range []func(*metav1.APIResource) bool{
		func(r *metav1.APIResource) bool { return is(r.Name) },
		func(r *metav1.APIResource) bool { return is(r.SingularName) },
		func(r *metav1.APIResource) bool { return is(r.Kind) },
		func(r *metav1.APIResource) bool { return slices.ContainsFunc(r.ShortNames, is) },
	} {
		for i := range served {
			if r := &served[i]; !strings.Contains(r.Name, "/") && matches(r) {
				return r
			}
		}
	}
	return nil
}
