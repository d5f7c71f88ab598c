package restorer

import (
	"context"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/owned"
	"github.com/afterimage-dr/afterimage/topology"
)

// spaces makes namespaces that are missing, each once, where the configuration
// wants that (forceNamespaceCreation), or a rehearsal has them under other names.
type spaces struct {
	r *Restorer

	mu   sync.Mutex
	made map[string]*space
}

type space struct {
	once            sync.Once
	reason, message string
	err             error
	// pretended: a dry run, which made nothing.
	pretended bool
}

func newSpaces(r *Restorer) *spaces { return &spaces{r: r, made: map[string]*space{}} }

// await makes the namespace of an object where that is wanted, and tells why the
// object must wait.
func (s *spaces) await(ctx context.Context, o *original) (reason, message string, err error) {
	name := o.key.Namespace
	if name == "" || !s.r.Config.Replication.ForceNamespaceCreation && s.r.NamespacePrefix == "" {
		return "", "", nil
	}
	s.mu.Lock()
	sp := s.made[name]
	if sp == nil {
		sp = &space{}
		s.made[name] = sp
	}
	s.mu.Unlock()
	sp.once.Do(func() { sp.reason, sp.message, sp.err = s.make(ctx, o, sp) })
	if sp.reason != "" || sp.err != nil {
		s.mu.Lock()
		delete(s.made, name) // the next object tries again
		s.mu.Unlock()
	}
	return sp.reason, sp.message, sp.err
}

// pretended tells whether a dry run would have made a namespace.
func (s *spaces) pretended(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	sp := s.made[name]
	return sp != nil && sp.pretended
}

func (s *spaces) make(ctx context.Context, o *original, sp *space) (reason, message string, err error) {
	key := topology.Key{Version: "v1", Resource: "namespaces", Name: o.key.Namespace}
	st := owned.State{
		Key: key, Version: topology.Version{Epoch: o.rec.Version.Epoch, RV: o.rec.Version.NamespaceRV},
		Body: owned.NamespaceBody(o.key.Namespace, o.rec.NamespaceLabels, o.rec.NamespaceAnnotations),
	}
	err = s.r.persist(ctx, func(ctx context.Context) error {
		live, err := owned.Read(ctx, s.r.Destination, kube.Namespaces, key)
		switch {
		case err != nil:
			return err
		case live != nil && live.Meta.DeletionTimestamp != nil:
			reason, message = owned.ReasonNamespaceTerminating, "waits for namespace "+key.Name+" to be gone"
			return nil
		case live != nil && s.r.NamespacePrefix != "" && owned.OwnershipOf(&live.Meta, s.r.owner, key) != owned.Ours:
			reason, message = owned.ReasonNotOwned, "namespace "+key.Name+" is there already and is not one of a rehearsal"
			return nil
		case live != nil:
			return nil // as it is: what is newer in the stamp is the synchronizer's
		}
		body, err := st.Marked(s.r.owner, kube.Namespaces, nil)
		if err != nil {
			return err
		}
		sp.pretended = s.r.DryRun
		_, err = s.r.kube.Create(ctx, kube.Namespaces, "", body, topology.FieldManager)
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	})
	if err != nil && ctx.Err() == nil {
		reason, message = owned.Classify(err, "")
		return reason, "creating namespace " + key.Name + ": " + message, nil
	}
	return reason, message, err
}
