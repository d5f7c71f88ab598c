package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"

	"github.com/afterimage-dr/afterimage/topology"
)

// request to the API server.
type request struct {
	verb      string // HTTP method
	resource  Resource
	namespace string
	name      string
	path      []string // instead of resource, namespace and name
	query     url.Values
	body      []byte
	bodyType  string
	accept    string
}

const (
	typeJSON      = "application/json"
	typeApply     = "application/apply-patch+yaml" // JSON is YAML
	typeJSONPatch = "application/json-patch+json"

	typeMergePatch = "application/merge-patch+json"

	acceptMetadata     = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
	acceptMetadataList = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
)

func of(verb string, r Resource, key topology.Key) request {
	return request{verb: verb, resource: r, namespace: key.Namespace, name: key.Name}
}

func (q *request) url(base *url.URL) *url.URL {
	segments := q.path
	if segments == nil {
		segments = make([]string, 0, 8)
		if q.resource.Group == "" {
			segments = append(segments, "api")
		} else {
			segments = append(segments, "apis", q.resource.Group)
		}
		segments = append(segments, q.resource.Version)
		if q.namespace != "" {
			segments = append(segments, "namespaces", q.namespace)
		}
		segments = append(segments, q.resource.Resource)
		if q.name != "" {
			segments = append(segments, q.name)
		}
	}
	escaped := make([]string, len(segments))
	for i, s := range segments {
		escaped[i] = url.PathEscape(s)
	}
	u := base.JoinPath(escaped...)
	u.RawQuery = q.query.Encode()
	return u
}

// send sends a request and returns the answer if it is a 2xx. The caller closes
// its body; ctx bounds it as well.
func (c *Client) send(ctx context.Context, q *request) (*http.Response, error) {
	if c.limiter != nil {
		if err := c.limiter.Wait(ctx); err != nil {
			return nil, err
		}
	}
	var body io.Reader
	if q.body != nil {
		body = bytes.NewReader(q.body)
	}
	req, err := http.NewRequestWithContext(ctx, q.verb, q.url(c.base).String(), body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", c.agent)
	req.Header.Set("Accept", typeJSON)
	if q.accept != "" {
		req.Header.Set("Accept", q.accept)
	} else if c.metadata {
		req.Header.Set("Accept", acceptMetadata)
	}
	if q.body != nil {
		req.Header.Set("Content-Type", q.bodyType)
	}
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, errorOf(resp, q.verb, q.resource.GroupResource(), q.name)
}

// do sends a request and hands its whole answer to use, which must not keep it.
func (c *Client) do(ctx context.Context, q *request, use func(answer []byte) error) error {
	bounded, cancel := context.WithTimeoutCause(ctx, c.timeout, errTimeout)
	defer cancel()
	resp, err := c.send(bounded, q)
	if err != nil {
		return c.explain(ctx, bounded, q, err)
	}
	defer resp.Body.Close()
	buf := buffers.Get().(*bytes.Buffer)
	buf.Reset()
	defer func() {
		if buf.Cap() <= maxPooled {
			buffers.Put(buf)
		}
	}()
	if n := resp.ContentLength; n > 0 && n <= maxPooled {
		buf.Grow(int(n) + bytes.MinRead)
	}
	if _, err := buf.ReadFrom(resp.Body); err != nil {
		return c.explain(ctx, bounded, q, err)
	}
	return use(buf.Bytes())
}

// maxPooled is the largest buffer worth keeping: a page of 500 large objects.
const maxPooled = 16 << 20

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// object sends a request and returns a copy of its answer.
func (c *Client) object(ctx context.Context, q request) ([]byte, error) {
	var object []byte
	err := c.do(ctx, &q, func(answer []byte) error {
		object = bytes.Clone(answer)
		return nil
	})
	return object, err
}

// explain sorts an error of send: the caller's own end, the server's answer, or
// no answer at all.
func (c *Client) explain(outer, inner context.Context, q *request, err error) error {
	what := fmt.Sprintf("%s %s", q.verb, q.url(c.base).Path)
	if cause := outer.Err(); cause != nil {
		return fmt.Errorf("%s: %w", what, context.Cause(outer))
	}
	if isAnswer(err) {
		return err
	}
	if inner.Err() != nil && errors.Is(context.Cause(inner), errTimeout) {
		err = fmt.Errorf("%w (%s)", errTimeout, c.timeout)
	}
	return &transportError{what: what, err: err}
}
