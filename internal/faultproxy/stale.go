package faultproxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// staleFault answers from recordings.
type staleFault struct {
	passive
	answers map[string]*recorded // by path
}

type recorded struct {
	header http.Header
	body   []byte
}

// StaleReplica records what the API server answers now to GETs of the paths
// (lists or objects: /api/v1/configmaps, /api/v1/namespaces/x/configmaps/y) and
// from then on gives these answers to requests that allow old data
// (resourceVersion=0), as a replica that lags behind does. All other requests
// are passed on: a lagging replica answers consistent reads correctly. Watches
// are passed on as well, and selectors of a list are not applied to a recording.
func (p *HTTP) StaleReplica(ctx context.Context, paths ...string) (*Active, error) {
	fault := &staleFault{answers: map[string]*recorded{}}
	for _, path := range paths {
		answer, err := p.record(ctx, path)
		if err != nil {
			return nil, err
		}
		fault.answers[path] = answer
	}
	return p.Add(Rule{
		Match: Match{
			Verbs: []string{"list", "get"},
			Query: map[string]string{"resourceVersion": "0"},
			Request: func(r *Request) bool {
				// Exact asks for that very version, which API servers refuse for 0.
				return fault.answers[r.Path] != nil && r.Query.Get("resourceVersionMatch") != "Exact"
			},
		},
		Fault: fault,
	}), nil
}

func (p *HTTP) record(ctx context.Context, path string) (*recorded, error) {
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(target.url.String(), "/")+path, nil)
	if err != nil {
		return nil, fmt.Errorf("recording %s: %w", path, err)
	}
	if token := target.config.BearerToken; token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := target.transport.RoundTrip(request)
	if err != nil {
		return nil, fmt.Errorf("recording %s: %w", path, err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("recording %s: %w", path, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("recording %s: the API server answered %s", path, response.Status)
	}
	return &recorded{header: response.Header.Clone(), body: body}, nil
}

func (f *staleFault) before(x *exchange) bool {
	answer := f.answers[x.Path]
	x.start(http.StatusOK, answer.header)
	x.copyBody(bytes.NewReader(answer.body), -1)
	return true
}
