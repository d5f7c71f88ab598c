package fence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/owned"
	"github.com/afterimage-dr/afterimage/topology"
)

// ErrHeld: another recovery holds the Lease.
var ErrHeld = errors.New("another recovery is running")

// errChanged: the Lease changed since it was read; read again.
var errChanged = errors.New("the lease changed meanwhile")

// Changed tells whether an error only says that the Lease changed since it was
// read: the next read tells how.
func Changed(err error) bool { return errors.Is(err, errChanged) }

// Read reads the Lease, consistently.
func (f *Fence) Read(ctx context.Context) (State, error) {
	o, err := owned.Read(ctx, f.client, Resource, f.key)
	if err != nil || o == nil {
		return State{}, err
	}
	var l struct {
		Spec struct {
			HolderIdentity string `json:"holderIdentity"`
			RenewTime      string `json:"renewTime"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(o.Body, &l); err != nil {
		return State{}, fmt.Errorf("lease %s/%s: %w", Namespace, f.key.Name, err)
	}
	s := State{Holder: l.Spec.HolderIdentity, uid: o.Meta.UID, rv: o.Meta.ResourceVersion, bare: len(o.Meta.Annotations) == 0}
	s.RenewedAt, _ = time.Parse(time.RFC3339Nano, l.Spec.RenewTime) // what is no time is long ago
	s.annotations(o.Meta.Annotations)
	return s, nil
}

// Register puts a writer's name into the Lease as it was read, making the Lease
// and its namespace where there are none.
func (f *Fence) Register(ctx context.Context, s State, instance string) error {
	return f.annotate(ctx, s, map[string]string{WriterAnnotation(instance): instance}, nil)
}

// Unregister takes a writer's name out again: it has ended and writes no more.
func (f *Fence) Unregister(ctx context.Context, instance string) error {
	s, err := f.Read(ctx)
	if err != nil || !s.Registered(instance) {
		return err
	}
	ops := []op{{"test", "/metadata/uid", s.uid}, {Op: "remove", Path: annotation(WriterAnnotation(instance))}}
	if s.Writers[instance] > 0 {
		ops = append(ops, op{Op: "remove", Path: annotation(AcknowledgedAnnotation(instance))})
	}
	return f.patch(ctx, ops)
}

// Acknowledge says for a writer that it has no write under way and will begin
// none. It is the one write that a fence allows.
func (f *Fence) Acknowledge(ctx context.Context, s State, instance string) error {
	term := strconv.FormatInt(s.Term, 10)
	return f.annotate(ctx, s, map[string]string{AcknowledgedAnnotation(instance): term}, map[string]string{TermAnnotation: term})
}

// Resume lifts a term: replication may go on.
func (f *Fence) Resume(ctx context.Context, s State) error {
	term := strconv.FormatInt(s.Term, 10)
	return f.annotate(ctx, s, map[string]string{ResumeAnnotation: term}, map[string]string{TermAnnotation: term})
}

// op of a JSON patch.
type op struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

func annotation(key string) string {
	return "/metadata/annotations/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
}

// annotate sets annotations of the Lease as it was read, if others are still as
// expected; a Lease that is not there is made. errChanged: read again.
func (f *Fence) annotate(ctx context.Context, s State, set, expect map[string]string) error {
	if s.uid == "" {
		return f.create(ctx, set, nil)
	}
	ops := []op{{"test", "/metadata/uid", s.uid}}
	if s.bare {
		ops = append(ops, op{"test", "/metadata/resourceVersion", s.rv}, op{"add", "/metadata/annotations", struct{}{}})
	}
	for k, v := range expect {
		ops = append(ops, op{"test", annotation(k), v})
	}
	for k, v := range set {
		ops = append(ops, op{"add", annotation(k), v})
	}
	return f.patch(ctx, ops)
}

func (f *Fence) patch(ctx context.Context, ops []op) error {
	body, err := json.Marshal(ops)
	if err != nil {
		return err
	}
	_, err = f.client.JSONPatch(ctx, Resource, f.key, body, topology.FieldManager)
	if apierrors.IsInvalid(err) || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return fmt.Errorf("%w: %w", errChanged, err)
	}
	return err
}

// create makes the Lease, and its namespace first where that is missing.
func (f *Fence) create(ctx context.Context, annotations map[string]string, spec map[string]any) error {
	body, err := json.Marshal(map[string]any{
		"apiVersion": "coordination.k8s.io/v1", "kind": Resource.Kind, "spec": spec,
		"metadata": map[string]any{"name": f.key.Name, "namespace": Namespace, "annotations": annotations},
	})
	if err != nil {
		return err
	}
	for range 2 {
		_, err = f.client.Create(ctx, Resource, Namespace, body, topology.FieldManager)
		switch {
		case apierrors.IsAlreadyExists(err):
			return fmt.Errorf("%w: %w", errChanged, err)
		case !owned.NamespaceMissing(err):
			return err
		}
		ns := []byte(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"` + Namespace + `"}}`)
		if _, err := f.client.Create(ctx, kube.Namespaces, "", ns, topology.FieldManager); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	return err
}
