package eventslistener

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

// maxRecord leaves room for what a patch and the marks of desired add.
const maxRecord = stream.MaxRecordBytes - 256<<10

// oversize are the objects whose present state is larger than the log takes. An
// object of etcd's 1.5 MB may be several times that in JSON. It stays as it is in
// the log and at the destination, is named in status, and stops nothing else
// (guarantee 5).
type oversize struct {
	mu   sync.Mutex
	size map[string]int // of the record in bytes, by key
}

// namedOversize bounds what status names; all are counted.
const namedOversize = 50

// add notes an object; first tells whether it was not known to be too large.
func (v *oversize) add(key string, size int) (first bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, known := v.size[key]
	if v.size == nil {
		v.size = map[string]int{}
	}
	v.size[key] = size
	return !known
}

// drop forgets an object whose present state the log has.
func (v *oversize) drop(key string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.size, key)
}

// retain forgets the objects of a resource that a complete listing did not show.
func (v *oversize) retain(prefix string, shown func(key string) bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for key := range v.size {
		if strings.HasPrefix(key, prefix) && !shown(key) {
			delete(v.size, key)
		}
	}
}

// report names them as failing.
func (v *oversize) report(s *v1alpha1.LiveSynchronizationStatus) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s.Objects.Failed += int64(len(v.size))
	keys := make([]string, 0, len(v.size))
	for key := range v.size {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys[:min(len(keys), namedOversize)] {
		s.Failing = append(s.Failing, v1alpha1.FailingObject{
			Object: key, Reason: "TooLarge",
			Message: fmt.Sprintf("a record of %d bytes is more than the %d the log takes: the object stays as it was", v.size[key], maxRecord),
		})
	}
}

// refused tells whether a record is larger than the log takes, and notes it.
func (t *term) refused(ctx context.Context, o *object, key string, rec *topology.Record) bool {
	if len(rec.Body) < maxRecord/2 {
		return false // what else is in it is bounded by Kubernetes
	}
	size := sizeOf(rec.Encode(t.m.topic, 0))
	if size <= maxRecord {
		return false
	}
	if t.oversize.add(key, size) {
		t.log.ErrorContext(ctx, "an object is too large for the log and is not replicated", t.cluster(),
			logging.SourceObject(o.key, o.uid, o.rv), slog.Int("bytes", size), slog.Int("limit", maxRecord))
	}
	return true
}

func sizeOf(k *kgo.Record) int {
	n := len(k.Key) + len(k.Value) + 16
	for _, h := range k.Headers {
		n += len(h.Key) + len(h.Value) + 16
	}
	return n
}
