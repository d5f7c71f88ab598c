package faultproxy

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Request is what a proxy understood of a request to the Kubernetes API.
type Request struct {
	Method string
	Path   string
	Query  url.Values
	// Verb is get, list, watch, create, update, patch, delete or
	// deletecollection; for paths that name no resource (discovery, /readyz) the
	// HTTP method in lower case.
	Verb string
	// Group, Version and Resource are empty for paths that name no resource; the
	// core group is empty as well.
	Group, Version, Resource string
	Subresource              string
	Namespace, Name          string
	// Status is the HTTP status that the client was sent, 0 if none (yet).
	Status int
	Start  time.Time
}

// Match selects requests, or events of watches. Every field that is set must
// agree; the zero value matches everything.
type Match struct {
	// Verbs are Kubernetes verbs, as in Request.Verb.
	Verbs []string
	// Resource is a plural, "configmaps", or with its group, "deployments.apps".
	Resource string
	// Subresource is one subresource. Empty matches requests with and without.
	Subresource string
	// Namespace and Name are those of the URL; for events, those of the object
	// in the event.
	Namespace, Name string
	// Path is the exact URL path, or its beginning if it ends in *.
	Path string
	// Query names parameters with their values; "*" stands for any value that is
	// not empty.
	Query map[string]string
	// Events are event types (ADDED, MODIFIED, DELETED, BOOKMARK, ERROR). Empty
	// matches all but BOOKMARK. Requests do not look at it.
	Events []string
	// Request, if set, must agree as well.
	Request func(*Request) bool
}

// Writes selects all requests that change something.
func Writes() Match {
	return Match{Verbs: []string{"create", "update", "patch", "delete", "deletecollection"}}
}

// request says whether the match covers a request, the object's name and
// namespace aside if these are matched against events.
func (m Match) request(r *Request, byEvent bool) bool {
	switch {
	case len(m.Verbs) > 0 && !slices.Contains(m.Verbs, r.Verb):
	case m.Resource != "" && m.Resource != r.Resource && m.Resource != r.Resource+"."+r.Group:
	case m.Subresource != "" && m.Subresource != r.Subresource:
	case !byEvent && m.Namespace != "" && m.Namespace != r.Namespace:
	case !byEvent && m.Name != "" && m.Name != r.Name:
	case !m.path(r.Path):
	case !m.query(r.Query):
	case m.Request != nil && !m.Request(r):
	default:
		return true
	}
	return false
}

func (m Match) path(path string) bool {
	if prefix, ok := strings.CutSuffix(m.Path, "*"); ok {
		return strings.HasPrefix(path, prefix)
	}
	return m.Path == "" || m.Path == path
}

func (m Match) query(query url.Values) bool {
	for name, want := range m.Query {
		got := query.Get(name)
		if want == "*" && got == "" || want != "*" && got != want {
			return false
		}
	}
	return true
}

func (m Match) event(e *event) bool {
	switch {
	case len(m.Events) == 0 && e.Type == "BOOKMARK":
	case len(m.Events) > 0 && !slices.Contains(m.Events, e.Type):
	case m.Namespace != "" && m.Namespace != e.Object.Metadata.Namespace:
	case m.Name != "" && m.Name != e.Object.Metadata.Name:
	default:
		return true
	}
	return false
}

// parse reads a request as the Kubernetes API server does.
func parse(r *http.Request) *Request {
	parsed := &Request{
		Method: r.Method, Path: r.URL.Path, Query: r.URL.Query(),
		Verb: strings.ToLower(r.Method), Start: time.Now(),
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case len(parts) >= 3 && parts[0] == "api":
		parsed.Version, parts = parts[1], parts[2:]
	case len(parts) >= 4 && parts[0] == "apis":
		parsed.Group, parsed.Version, parts = parts[1], parts[2], parts[3:]
	default:
		return parsed
	}
	// namespaces/x alone and its own subresources are about the namespace;
	// anything else after it is inside the namespace.
	if parts[0] == "namespaces" && len(parts) > 2 && parts[2] != "status" && parts[2] != "finalize" {
		parsed.Namespace, parts = parts[1], parts[2:]
	}
	parsed.Resource = parts[0]
	if len(parts) > 1 {
		parsed.Name = parts[1]
	}
	if len(parts) > 2 {
		parsed.Subresource = strings.Join(parts[2:], "/")
	}
	parsed.Verb = verb(r.Method, parsed)
	return parsed
}

func verb(method string, r *Request) string {
	switch method {
	case http.MethodGet, http.MethodHead:
		watch := r.Query.Get("watch")
		switch {
		case watch == "true" || watch == "1":
			return "watch"
		case r.Name == "":
			return "list"
		}
		return "get"
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		if r.Name == "" {
			return "deletecollection"
		}
		return "delete"
	}
	return strings.ToLower(method)
}
