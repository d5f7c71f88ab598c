package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/afterimage-dr/afterimage/topology"
)

// Namespaces is the resource every cluster serves.
var Namespaces = Resource{GroupVersionResource: schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}, Kind: "Namespace"}

// ClusterUID is the UID of the kube-system namespace.
func (c *Client) ClusterUID(ctx context.Context) (string, error) {
	object, err := c.Metadata().Get(ctx, Namespaces, topology.Key{Version: "v1", Resource: "namespaces", Name: "kube-system"})
	if err != nil {
		return "", fmt.Errorf("reading namespace kube-system: %w", err)
	}
	m, err := MetaOf(object)
	if err != nil {
		return "", unexpected("namespace kube-system", err)
	}
	if m.UID == "" {
		return "", unexpected("namespace kube-system", fmt.Errorf("no uid"))
	}
	return m.UID, nil
}

// Page of a listing.
type Page struct {
	// Items, each with its kind and apiVersion, which a server leaves out of the
	// items of a list: so they compare with what a watch or a GET gives.
	Items []json.RawMessage
	// ResourceVersion of the listing; the same on each of its pages.
	ResourceVersion string
	// Continue is the token for the next page; empty on the last.
	Continue string
	// Remaining items behind this page as far as the server says; 0 also when it
	// does not say.
	Remaining int64
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
// apierrors.IsResourceExpired is true. Items are in the order of etcd's keys:
// by <namespace>/<name>. Each item is memory of its own.
func (c *Client) ListPage(ctx context.Context, r Resource, o ListOptions) (Page, error) {
	query := url.Values{}
	set := func(k, v string) {
		if v != "" {
			query.Set(k, v)
		}
	}
	set("labelSelector", o.LabelSelector)
	set("resourceVersion", o.ResourceVersion)
	set("continue", o.Continue)
	if o.Limit > 0 {
		query.Set("limit", strconv.FormatInt(o.Limit, 10))
	}
	q := request{verb: http.MethodGet, resource: r, namespace: o.Namespace, query: query}
	if c.metadata {
		q.accept = acceptMetadataList
	}
	var page Page
	err := c.do(ctx, &q, func(answer []byte) (err error) {
		if page, err = decodePage(answer); err != nil {
			err = unexpected("list of "+r.Resource, err)
		}
		return err
	})
	return page, err
}

// decodePage copies the items out of a list.
func decodePage(answer []byte) (Page, error) {
	var kind, apiVersion string
	var items, metadata []byte
	end, err := walkObject(answer, skipSpace(answer, 0), 0, func(key, value []byte) (err error) {
		switch string(key) {
		case `"kind"`:
			kind, err = unquote(value)
		case `"apiVersion"`:
			apiVersion, err = unquote(value)
		case `"metadata"`:
			metadata = value
		case `"items"`:
			items = value
		}
		return err
	})
	if err != nil {
		return Page{}, err
	}
	if end = skipSpace(answer, end); end != len(answer) {
		return Page{}, badJSON(answer, end, "nothing more")
	}
	if !strings.HasSuffix(kind, "List") || metadata == nil {
		// A proxy's or another server's answer must never read as an empty list.
		return Page{}, fmt.Errorf("kind %q is no list", kind)
	}
	var m struct {
		ResourceVersion    string `json:"resourceVersion"`
		Continue           string `json:"continue"`
		RemainingItemCount int64  `json:"remainingItemCount"`
	}
	if err := json.Unmarshal(metadata, &m); err != nil {
		return Page{}, err
	}
	if m.ResourceVersion == "" {
		return Page{}, fmt.Errorf("no resourceVersion")
	}
	page := Page{ResourceVersion: m.ResourceVersion, Continue: m.Continue, Remaining: m.RemainingItemCount}
	if items == nil || isNull(items) {
		return page, nil
	}
	k, _ := json.Marshal(strings.TrimSuffix(kind, "List"))
	v, _ := json.Marshal(apiVersion)
	typed := []byte(`"kind":` + string(k) + `,"apiVersion":` + string(v))
	_, err = walkArray(items, 0, 0, func(item []byte) error {
		named, err := withType(item, typed)
		page.Items = append(page.Items, named)
		return err
	})
	return page, err
}

// withType copies an item of a list, with kind and apiVersion where they are missing.
func withType(item, typed []byte) (json.RawMessage, error) {
	hasKind, empty := false, true
	if _, err := walkObject(item, 0, 0, func(key, _ []byte) error {
		hasKind = hasKind || keyIs(key, "kind")
		empty = false
		return nil
	}); err != nil {
		return nil, fmt.Errorf("item: %w", err)
	}
	if hasKind || empty {
		return bytes.Clone(item), nil
	}
	out := make([]byte, 0, len(item)+len(typed)+1)
	out = append(out, '{')
	out = append(out, typed...)
	out = append(out, ',')
	return append(out, item[1:]...), nil
}

// Get reads one object, consistently. apierrors.IsNotFound is the server's word
// that there is no object of that name, from which deletes are concluded; a 404
// that does not name the object (the resource is not served, or a proxy found
// nothing behind it) is [ErrNotServed] and no such word.
func (c *Client) Get(ctx context.Context, r Resource, key topology.Key) ([]byte, error) {
	object, err := c.object(ctx, of(http.MethodGet, r, key))
	if apierrors.IsNotFound(err) && !names(err, key.Name) {
		err = fmt.Errorf("%s: %w (%v)", key, ErrNotServed, err)
	}
	return object, err
}

// names tells whether an API server's error is about the object of a name.
func names(err error, name string) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || apierrors.IsUnexpectedServerError(err) {
		return false
	}
	d := status.Status().Details
	return d != nil && d.Name == name
}
