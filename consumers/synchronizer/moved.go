package synchronizer

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// An entry whose API version is edited changes the keys of its objects: the old
// ones are tombstoned at once, the new ones follow when the source was listed.
// The object is one and the same. It waits for its new key to take it over, which
// makes it the old key's no longer, and is deleted only when it is known that
// the new key does not want it.

// metaGeneration is the generation of the last configuration before the watermark.
const metaGeneration = "generation"

// moves says what an object waits for that would be deleted because no entry
// names its key any more, while one names the resource in another version; empty
// if nothing is waited for.
func (a *attempt) moves(ctx context.Context) (message string, err error) {
	if a.w.reason != topology.ReasonUncovered {
		return "", nil
	}
	for _, e := range a.s.Settings.Load().Config.Replication.Resources {
		if e.Group != a.w.key.Group || e.Version == a.w.key.Version {
			continue
		}
		r, err := a.s.resources.Get(ctx, schema.GroupVersionResource{Group: e.Group, Version: e.Version, Resource: e.Resource})
		name := r.Resource
		if errors.Is(err, kube.ErrNotServed) {
			name = e.Resource // as it is written, which may be the plural
		} else if err != nil {
			return "", err
		}
		now := a.w.key
		now.Version = e.Version
		if !strings.EqualFold(name, now.Resource) {
			continue
		}
		unwanted, err := a.s.unwanted(now, a.w.version.Generation)
		if err != nil || !unwanted {
			return "waits to be taken over as " + now.String(), err
		}
	}
	return "", nil
}

// unwanted tells whether desired is known not to want a key: a complete listing
// of its resource, under a configuration as new as the given one, lies before the
// watermark and left nothing of the key.
func (s *Synchronizer) unwanted(key topology.Key, generation int64) (bool, error) {
	text := key.String()
	s.mu.Lock()
	p := s.parts[topology.PartitionOf(text, max(s.count.Load(), 1))]
	s.mu.Unlock()
	if p == nil {
		return false, nil // another process knows
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, busy := p.lanes[text]; busy {
		return false, nil
	}
	if _, failing := p.memory.quarantined[text]; failing {
		return false, nil
	}
	e, known, err := p.memory.get(text)
	if err != nil || known && !e.Deleted {
		return false, err
	}
	subject := strings.TrimSuffix(topology.ResourcePrefix(key.GVR()), "/")
	under, ok := p.listed[subject]
	if !ok {
		if v, err := p.meta(metaListed + subject); err != nil {
			return false, err
		} else if under, err = strconv.ParseInt(v, 10, 64); err != nil {
			return false, nil // never listed
		}
	}
	return under >= generation, nil
}

// releaseMoved tries what waits to be taken over: something was, or it is known
// better what is wanted.
func (s *Synchronizer) releaseMoved() {
	for _, p := range s.partitions() {
		p.release(func(_ string, q *state.Quarantine) bool { return q.Reason == ReasonMoved })
	}
}
