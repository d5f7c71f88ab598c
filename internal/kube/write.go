package kube

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/afterimage-dr/afterimage/topology"
)

// Create posts an object and returns it as it is now; apierrors.IsAlreadyExists
// where the name is taken. A missing namespace is apierrors.IsNotFound.
func (c *Client) Create(ctx context.Context, r Resource, namespace string, body []byte, manager string) ([]byte, error) {
	return c.object(ctx, request{
		verb: http.MethodPost, resource: r, namespace: namespace,
		query: c.written(manager), body: body, bodyType: typeJSON,
	})
}

// Apply does a forced server-side apply. A uid and resourceVersion in the body
// are preconditions: a conflict (409) if the object is another or newer one, and
// with a uid also if there is none. With a resourceVersion alone a missing object
// is created.
func (c *Client) Apply(ctx context.Context, r Resource, key topology.Key, body []byte, manager string) ([]byte, error) {
	q := of(http.MethodPatch, r, key)
	q.query = c.written(manager)
	q.query.Set("force", "true")
	q.body, q.bodyType = body, typeApply
	return c.object(ctx, q)
}

// JSONPatch applies an RFC 6902 patch. A failed test operation is
// apierrors.IsInvalid (422).
func (c *Client) JSONPatch(ctx context.Context, r Resource, key topology.Key, patch []byte, manager string) ([]byte, error) {
	q := of(http.MethodPatch, r, key)
	q.query = c.written(manager)
	q.body, q.bodyType = patch, typeJSONPatch
	return c.object(ctx, q)
}

// MergePatch applies a JSON merge patch (RFC 7386). A resourceVersion in it is a
// precondition: a conflict (409) if the object is another or newer one.
func (c *Client) MergePatch(ctx context.Context, r Resource, key topology.Key, patch []byte, manager string) ([]byte, error) {
	q := of(http.MethodPatch, r, key)
	q.query = c.written(manager)
	q.body, q.bodyType = patch, typeMergePatch
	return c.object(ctx, q)
}

// written is the query of a write.
func (c *Client) written(manager string) url.Values {
	v := url.Values{"fieldManager": {manager}}
	if c.dryRun {
		v.Set("dryRun", "All")
	}
	return v
}

// Preconditions of a delete; empty means any.
type Preconditions struct{ UID, ResourceVersion string }

// Delete deletes one object, in the background. apierrors.IsConflict where a
// precondition fails; an object with finalizers stays for a while.
func (c *Client) Delete(ctx context.Context, r Resource, key topology.Key, p Preconditions) error {
	type preconditions struct {
		UID             string `json:"uid,omitempty"`
		ResourceVersion string `json:"resourceVersion,omitempty"`
	}
	body, err := json.Marshal(struct {
		Kind          string        `json:"kind"`
		APIVersion    string        `json:"apiVersion"`
		Propagation   string        `json:"propagationPolicy"`
		Preconditions preconditions `json:"preconditions"`
		// In the body, which makes the server ignore the query.
		DryRun []string `json:"dryRun,omitempty"`
	}{"DeleteOptions", "v1", "Background", preconditions(p), c.dryRuns()})
	if err != nil {
		return err
	}
	q := of(http.MethodDelete, r, key)
	q.body, q.bodyType = body, typeJSON
	return c.do(ctx, &q, func([]byte) error { return nil })
}

// dryRuns is what a delete says of a dry run.
func (c *Client) dryRuns() []string {
	if c.dryRun {
		return []string{"All"}
	}
	return nil
}
