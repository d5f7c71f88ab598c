package synchronizer

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/owned"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// watchNamespaces follows the namespaces of the destination and releases what
// waits for one within 2 s of its appearing (SPEC 39).
func (s *Synchronizer) watchNamespaces(ctx context.Context) error {
	var said logging.State
	return s.follow(ctx, s.kube.Metadata(), kube.Namespaces, &said, follower{
		listed: func(all []json.RawMessage) {
			names := make(map[string]bool, len(all))
			for _, o := range all {
				if m, err := kube.MetaOf(o); err == nil {
					names[m.Name] = m.DeletionTimestamp != nil
				}
			}
			s.namespaces.replace(names)
			s.releaseNamespace("")
		},
		event: func(e kube.Event) {
			m, err := kube.MetaOf(e.Object)
			switch {
			case err != nil:
			case e.Type == kube.Deleted:
				s.namespaces.remove(m.Name)
			case s.namespaces.set(m.Name, m.DeletionTimestamp != nil):
				s.releaseNamespace(m.Name)
			}
		},
	})
}

// watchDefinitions follows the custom resource definitions of the destination.
func (s *Synchronizer) watchDefinitions(ctx context.Context) error {
	var said logging.State
	news := func(object json.RawMessage) (group, resource string) {
		m, err := kube.MetaOf(object)
		if err != nil {
			return "", ""
		}
		resource, group, _ = strings.Cut(m.Name, ".") // a definition is named <plural>.<group>
		s.resources.Forget(group, resource)
		s.releaseResource(group, resource)
		return group, resource
	}
	return s.follow(ctx, s.kube.Metadata(), owned.Definitions, &said, follower{
		listed: func(all []json.RawMessage) {
			for _, o := range all {
				news(o)
			}
		},
		event: func(e kube.Event) {
			if group, resource := news(e.Object); e.Type != kube.Deleted {
				go s.releaseOnceServed(ctx, group, resource)
			}
		},
	})
}

// A definition that was just made is served a moment after its last event, so
// nothing announces that moment: it is looked for this often, for so long.
const (
	servedEvery = 250 * time.Millisecond
	servedLooks = 60
)

// releaseOnceServed tries what waits for a resource as soon as the destination
// serves it, within 2 s (SPEC 39).
func (s *Synchronizer) releaseOnceServed(ctx context.Context, group, resource string) {
	for range servedLooks {
		waiting := s.waitingFor(group, resource)
		if len(waiting) == 0 {
			return
		}
		for gvr := range waiting {
			s.resources.Forget(group, resource)
			if _, err := s.resources.Get(ctx, gvr); err == nil {
				s.releaseResource(group, resource)
				break
			}
		}
		select {
		case <-time.After(servedEvery):
		case <-ctx.Done():
			return
		}
	}
}

// waitingFor is which versions of a resource objects wait for.
func (s *Synchronizer) waitingFor(group, resource string) map[schema.GroupVersionResource]bool {
	waiting := map[schema.GroupVersionResource]bool{}
	for _, p := range s.partitions() {
		p.mu.Lock()
		for key, q := range p.memory.quarantined {
			if k, err := topology.ParseKey(key); err == nil && q.Reason == ReasonNotServed && k.Group == group && k.Resource == resource {
				waiting[k.GVR()] = true
			}
		}
		p.mu.Unlock()
	}
	return waiting
}

// releaseNamespace tries what waits for a namespace, or for any that is there.
func (s *Synchronizer) releaseNamespace(name string) {
	for _, p := range s.partitions() {
		p.release(func(key string, q *state.Quarantine) bool {
			if q.Reason != ReasonNamespaceMissing && q.Reason != ReasonNamespaceTerminating {
				return false
			}
			k, err := topology.ParseKey(key)
			return err == nil && (name == "" && !s.namespaces.missing(k.Namespace) || k.Namespace == name)
		})
	}
}

// releaseResource tries what waits for a resource to be served.
func (s *Synchronizer) releaseResource(group, resource string) {
	for _, p := range s.partitions() {
		p.release(func(key string, q *state.Quarantine) bool {
			k, err := topology.ParseKey(key)
			return err == nil && q.Reason == ReasonNotServed && k.Group == group && k.Resource == resource
		})
	}
}

// follower is told of a whole listing, and then of each change.
type follower struct {
	listed func([]json.RawMessage)
	event  func(kube.Event)
}

// follow lists and watches a resource until ctx ends. Trouble is retried, said
// once. Nothing depends on it but how soon something is retried, so that a hung
// watch is renewed rather than detected.
func (s *Synchronizer) follow(ctx context.Context, k *kube.Client, r kube.Resource, said *logging.State, f follower) error {
	for {
		err := s.followOnce(ctx, k, r, said, f)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			said.Failing(s.Logger, "watch", "watching the destination failed", logging.DestinationCluster(s.Settings.Load().Destination), slog.String("resource", r.Resource), logging.Err(err))
		}
		select {
		case <-time.After(s.WatchBackoff):
		case <-ctx.Done():
			return nil
		}
	}
}

// watchLife is after how long a watch is renewed with a listing.
const watchLife = 5 * time.Minute

func (s *Synchronizer) followOnce(ctx context.Context, k *kube.Client, r kube.Resource, said *logging.State, f follower) error {
	var all []json.RawMessage
	o := kube.ListOptions{Limit: listPage}
	var rv string
	for {
		page, err := k.ListPage(ctx, r, o)
		if err != nil {
			return err
		}
		all, rv = append(all, page.Items...), page.ResourceVersion
		if o.Continue = page.Continue; o.Continue == "" {
			break
		}
	}
	f.listed(all)
	ctx, cancel := context.WithTimeout(ctx, watchLife)
	defer cancel()
	w, err := k.Watch(ctx, r, "", rv)
	if err != nil {
		return err
	}
	defer w.Close()
	said.Working(s.Logger, "watching the destination works again")
	for {
		e, err := w.Next()
		if err != nil {
			if errors.Is(err, io.EOF) || ctx.Err() != nil {
				return nil
			}
			return err
		}
		if e.Type != kube.Bookmark {
			f.event(e)
		}
	}
}
