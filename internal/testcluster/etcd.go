package testcluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"syscall"
)

// Snapshot copies etcd's data to a folder that must not exist yet. Nothing is
// disturbed: etcd is held still while its files are copied, so that the copy is
// what a SIGKILL at that moment would have left, and that loads.
func (c *Cluster) Snapshot(folder string) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := os.Stat(folder); err == nil {
		return fmt.Errorf("snapshot folder %s exists already", folder)
	}
	if c.etcd.alive() {
		if err := c.etcd.signal(syscall.SIGSTOP); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.etcd.signal(syscall.SIGCONT)) }()
	}
	if err := os.CopyFS(folder, os.DirFS(c.path("etcd"))); err != nil {
		return fmt.Errorf("copying etcd's data: %w", err)
	}
	return nil
}

// Restore puts a snapshot back, as an administrator would after a disaster: all
// servers are stopped, the data is replaced and the servers are started again.
// Resource versions then go on from the snapshot's, so they rewind; UIDs and the
// identity of the cluster stay.
func (c *Cluster) Restore(ctx context.Context, folder string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := os.Stat(folder); err != nil {
		return fmt.Errorf("reading the snapshot: %w", err)
	}
	for _, p := range []*process{c.kcm, c.api, c.etcd} {
		if err := p.kill(); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(c.path("etcd")); err != nil {
		return fmt.Errorf("removing etcd's data: %w", err)
	}
	if err := os.CopyFS(c.path("etcd"), os.DirFS(folder)); err != nil {
		return fmt.Errorf("putting the snapshot back: %w", err)
	}
	return c.startAll(ctx)
}

// Empty replaces the cluster behind the same address by a new, empty one: same
// credentials, other identity.
func (c *Cluster) Empty(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range []*process{c.kcm, c.api, c.etcd} {
		if err := p.kill(); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(c.path("etcd")); err != nil {
		return fmt.Errorf("removing etcd's data: %w", err)
	}
	return c.startAll(ctx)
}

// Compact compacts etcd up to its present revision. With WithoutWatchCache,
// watches from older resource versions and older continue tokens then get 410 at
// once. With the API server's watch cache (the default) they do only after a
// restart of the API server, whose cache then begins anew.
func (c *Cluster) Compact(ctx context.Context) error {
	var head struct {
		Header struct {
			Revision json.Number `json:"revision"`
		} `json:"header"`
	}
	// Any key will do: only the header is of interest.
	if err := c.etcdCall(ctx, "/v3/kv/range", map[string]any{"key": "AA=="}, &head); err != nil {
		return err
	}
	request := map[string]any{"revision": head.Header.Revision.String(), "physical": true}
	return c.etcdCall(ctx, "/v3/kv/compaction", request, nil)
}

// etcdCall uses etcd's JSON gateway, which saves a gRPC client.
func (c *Cluster) etcdCall(ctx context.Context, path string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("encoding a request to etcd: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.etcdURL()+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("making a request to etcd: %w", err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("asking etcd: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("reading etcd's answer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("etcd answered %s to %s: %s", response.Status, path, content)
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(content, answer); err != nil {
		return fmt.Errorf("decoding etcd's answer: %w", err)
	}
	return nil
}
