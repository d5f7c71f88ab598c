// Package kube is what Afterimage needs of a Kubernetes API server: pages,
// watches and single objects as bytes, and preconditioned writes. It caches
// nothing.
package kube

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/afterimage-dr/afterimage/topology"
)

// Client reaches one cluster. Safe for concurrent use.
type Client struct{}

// New makes a client; it does not connect yet. Protobuf is not used: bodies are
// JSON all the way. A QPS of -1 leaves pacing to API Priority and Fairness.
func New(cfg *rest.Config) (*Client, error) { panic("stub") }

// ClusterUID is the UID of the kube-system namespace.
func (c *Client) ClusterUID(ctx context.Context) (string, error) { panic("stub") }

// Resource is one the cluster serves.
type Resource struct {
	schema.GroupVersionResource
	Kind       string
	Namespaced bool
	Verbs      []string
}

// ErrNotServed: the cluster does not serve the resource (yet).
var ErrNotServed error

// Resolve finds a resource by plural, singular or kind. It asks the server for
// the one group version only.
func (c *Client) Resolve(ctx context.Context, group, version, resource string) (Resource, error) {
	panic("stub")
}

// Meta is what decisions need of an object's metadata.
type Meta struct {
	Name              string            `json:"name"`
	Namespace         string            `json:"namespace"`
	UID               string            `json:"uid"`
	ResourceVersion   string            `json:"resourceVersion"`
	Labels            map[string]string `json:"labels"`
	Annotations       map[string]string `json:"annotations"`
	DeletionTimestamp *time.Time        `json:"deletionTimestamp"`
	ManagedFields     []ManagedFields   `json:"managedFields"`
}

// ManagedFields is one entry of metadata.managedFields.
type ManagedFields struct {
	Manager     string          `json:"manager"`
	Operation   string          `json:"operation"`
	Subresource string          `json:"subresource"`
	Time        string          `json:"time"`
	FieldsV1    json.RawMessage `json:"fieldsV1"`
}

// MetaOf decodes the metadata of an object and nothing else.
func MetaOf(object []byte) (Meta, error) { panic("stub") }

// Page of a listing.
type Page struct {
	Items           []json.RawMessage
	ResourceVersion string
	Continue        string
}

// ListOptions of a page. The zero value is a consistent read of everything.
type ListOptions struct {
	Namespace       string
	LabelSelector   string
	ResourceVersion string
	Continue        string
	Limit           int64
}

// ListPage reads one page. An expired continue token gives an error for which
// apierrors.IsResourceExpired is true.
func (c *Client) ListPage(ctx context.Context, r Resource, o ListOptions) (Page, error) {
	panic("stub")
}

// EventType of a watch.
type EventType string

// The event types.
const (
	Added    EventType = "ADDED"
	Modified EventType = "MODIFIED"
	Deleted  EventType = "DELETED"
	Bookmark EventType = "BOOKMARK"
)

// Event of a watch.
type Event struct {
	Type   EventType
	Object json.RawMessage
}

// Watch streams events with bookmarks.
type Watch struct{}

// Watch begins one after a resourceVersion. Too old: apierrors.IsResourceExpired or IsGone.
func (c *Client) Watch(ctx context.Context, r Resource, namespace, resourceVersion string) (*Watch, error) {
	panic("stub")
}

// Next waits for the next event. io.EOF: the server closed the watch normally.
// An ERROR event is returned as its API error.
func (w *Watch) Next() (Event, error) { panic("stub") }

// Close ends it.
func (w *Watch) Close() { panic("stub") }

// Get reads one object, consistently; apierrors.IsNotFound.
func (c *Client) Get(ctx context.Context, r Resource, key topology.Key) ([]byte, error) {
	panic("stub")
}

// Create posts an object.
func (c *Client) Create(ctx context.Context, r Resource, namespace string, body []byte, manager string) ([]byte, error) {
	panic("stub")
}

// Apply does a forced server-side apply. A uid and resourceVersion in the body are preconditions.
func (c *Client) Apply(ctx context.Context, r Resource, key topology.Key, body []byte, manager string) ([]byte, error) {
	panic("stub")
}

// JSONPatch applies an RFC 6902 patch.
func (c *Client) JSONPatch(ctx context.Context, r Resource, key topology.Key, patch []byte, manager string) ([]byte, error) {
	panic("stub")
}

// Preconditions of a delete; empty means any.
type Preconditions struct{ UID, ResourceVersion string }

// Delete deletes one object, in the background.
func (c *Client) Delete(ctx context.Context, r Resource, key topology.Key, p Preconditions) error {
	panic("stub")
}

// RetryAfter is what the server asked for, if anything.
func RetryAfter(err error) (time.Duration, bool) { panic("stub") }

// Unavailable tells whether an error is about the server as a whole (no
// connection, timeout, TLS, 401) and not about one object.
func Unavailable(err error) bool { panic("stub") }

// Transport lets tests put a fault before the server.
type Transport = http.RoundTripper
