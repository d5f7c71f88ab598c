package eventslistener

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/topology"
)

// stamp is what a record says of its object's namespace, so that filters are a
// pure function of the record.
type stamp struct {
	labels      map[string]string
	annotations map[string]string // only where missing namespaces are created
	rv          string
	sum         [sha256.Size]byte // of labels and annotations
}

// stamps holds the stamps of the source's namespaces, kept current by a watch of
// its own. It is small: some hundred bytes for each namespace.
type stamps struct {
	t     *term
	lf    *life
	ready chan struct{} // closed when the first listing is complete
	once  sync.Once

	mu     sync.Mutex
	byName map[string]stamp
}

func newStamps(t *term) *stamps {
	s := &stamps{t: t, lf: newLife(t, kube.Namespaces), ready: make(chan struct{}), byName: map[string]stamp{}}
	s.lf.handler = s
	return s
}

// run watches namespaces until ctx ends.
func (s *stamps) run(ctx context.Context) error {
	for ctx.Err() == nil {
		s.lf.run(ctx) // every cluster serves namespaces: a 404 is tried again
	}
	return nil
}

func (s *stamps) life() *life { return s.lf }

// of returns the stamp of a namespace, asking the source for one not seen yet.
func (s *stamps) of(ctx context.Context, namespace string) (stamp, error) {
	select {
	case <-s.ready:
	case <-ctx.Done():
		return stamp{}, context.Cause(ctx)
	}
	wait := backoff{max: s.t.opts.Retry}
	for {
		s.mu.Lock()
		st, ok := s.byName[namespace]
		s.mu.Unlock()
		if ok {
			return st, nil
		}
		log, cluster := s.t.log, s.t.cluster()
		log.DebugContext(ctx, logging.ReadingNamespace, cluster, "namespace", namespace)
		raw, err := s.t.source.Get(ctx, kube.Namespaces, topology.Key{Version: "v1", Resource: "namespaces", Name: namespace})
		switch {
		case ctx.Err() != nil:
			return stamp{}, context.Cause(ctx)
		case apierrors.IsNotFound(err):
			// On its way out, with its objects.
			log.InfoContext(ctx, logging.NamespaceNotFound, cluster, "namespace", namespace)
			return stamp{labels: map[string]string{}}, nil
		case err != nil:
			log.WarnContext(ctx, logging.ErrGettingNamespace, cluster, "namespace", namespace, logging.Err(err))
			wait.after(ctx, err)
			continue
		}
		log.DebugContext(ctx, logging.NamespaceRead, cluster, "namespace", namespace)
		if _, _, err := s.take(raw); err != nil {
			return stamp{}, err
		}
	}
}

// take makes a namespace's stamp current. changed tells whether records stamped
// before now carry an outdated one; what is older than the current one changes nothing.
func (s *stamps) take(raw []byte) (name string, changed bool, err error) {
	m, err := kube.MetaOf(raw)
	if err != nil {
		return "", false, err
	}
	st := stamp{labels: m.Labels, rv: m.ResourceVersion}
	if st.labels == nil {
		st.labels = map[string]string{}
	}
	if s.t.settings().Config.Replication.ForceNamespaceCreation {
		st.annotations = m.Annotations
	}
	b, _ := json.Marshal([2]map[string]string{st.labels, st.annotations}) // maps of strings always marshal
	st.sum = sha256.Sum256(b)
	s.mu.Lock()
	defer s.mu.Unlock()
	old, known := s.byName[m.Name]
	switch {
	case known && olderRV(st.rv, old.rv):
		return m.Name, false, nil
	case known && old.sum == st.sum:
		// The version of a record rises with what its stamp says, not with every
		// write to the namespace.
		return m.Name, false, nil
	}
	s.byName[m.Name] = st
	return m.Name, known, nil
}

// item implements handler.
func (s *stamps) item(ctx context.Context, raw []byte, l *listing) error {
	name, changed, err := s.take(raw)
	if err != nil {
		return err
	}
	l.saw(name)
	if changed {
		return s.restamp(ctx, name)
	}
	return nil
}

// complete implements handler: namespaces that are gone are forgotten.
func (s *stamps) complete(_ context.Context, l *listing) error {
	s.mu.Lock()
	for name, st := range s.byName {
		if !l.has(name) && !olderRV(l.rv, st.rv) {
			delete(s.byName, name)
		}
	}
	s.mu.Unlock()
	s.once.Do(func() { close(s.ready) })
	return nil
}

// event implements handler.
func (s *stamps) event(ctx context.Context, ev kube.Event, l *listing) (string, error) {
	if ev.Type == kube.Deleted {
		m, err := kube.MetaOf(ev.Object)
		if err != nil {
			return "", err
		}
		s.mu.Lock()
		delete(s.byName, m.Name)
		s.mu.Unlock()
		return m.ResourceVersion, nil
	}
	name, changed, err := s.take(ev.Object)
	if err != nil {
		return "", err
	}
	l.saw(name)
	if changed {
		if err := s.restamp(ctx, name); err != nil {
			return "", err
		}
	}
	return resourceVersionOf(ev.Object)
}

// restamp appends every object of a namespace under its new stamp, which is
// current already: an event that comes meanwhile carries it too, and the guard
// keeps one of them. Nothing is deleted here, so there is nothing for the
// breaker: what leaves scope does so because a person changed the labels.
func (s *stamps) restamp(ctx context.Context, namespace string) error {
	s.t.log.InfoContext(ctx, "the labels of a namespace changed: looking at its objects again", "namespace", namespace, s.t.cluster())
	for _, lf := range s.t.everyLife() {
		if !lf.r.Namespaced {
			continue
		}
		if err := lf.each(ctx, namespace, func(o *object) error {
			_, err := s.t.observe(ctx, o, cause{observed: time.Now(), paced: true, reason: "the labels of its namespace changed"})
			return err
		}); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if ends(err) {
				return err
			}
			// The next complete listing compares stamps too; until then the
			// resource does not count as verified.
			s.t.log.WarnContext(ctx, logging.ErrListingObjects, s.t.cluster(), "resource", lf.subject, "namespace", namespace, logging.Err(err))
			lf.doubt()
		}
	}
	return nil
}
