package restorer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/owned"
	"github.com/afterimage-dr/afterimage/topology"
)

// place gives an original its place under other names; false: it has none there,
// because it is in no namespace. What objects say of namespaces (the subjects of a
// RoleBinding) stays as it is.
func (r *Restorer) place(o *original) bool {
	switch {
	case o.key.Namespace != "":
		o.key.Namespace = r.NamespacePrefix + o.key.Namespace
	case o.key.Group == "" && o.key.Resource == "namespaces":
		o.key.Name = r.NamespacePrefix + o.key.Name
	default:
		return false
	}
	o.keyText = o.key.String()
	return true
}

// placed names a body by its place.
func (r *Restorer) placed(key topology.Key, body []byte) ([]byte, error) {
	if r.NamespacePrefix == "" {
		return body, nil
	}
	top, err := kube.Split(body)
	if err != nil {
		return nil, fmt.Errorf("original: %w", err)
	}
	meta, err := kube.Split(top["metadata"])
	if err != nil {
		return nil, fmt.Errorf("metadata of the original: %w", err)
	}
	set := func(name, value string) {
		if value != "" {
			meta[name], _ = json.Marshal(value) // a string always marshals
		}
	}
	set("name", key.Name)
	set("namespace", key.Namespace)
	if top["metadata"], err = owned.Marshal(meta); err != nil {
		return nil, err
	}
	return owned.Marshal(top)
}

// Clean deletes the namespaces that a rehearsal under other names has made, and
// with them everything in them. Afterwards nothing of it is of any use.
func (r *Restorer) Clean(ctx context.Context) error {
	var errs []error
	err := r.surveyOf(ctx, kube.Namespaces.GroupVersionResource, func(key topology.Key, m *kube.Meta) {
		if e := r.existingOf(m, key); e.whose != owned.Ours || e.adopted {
			return // Guarantee 9
		}
		err := r.kube.Delete(ctx, kube.Namespaces, key, kube.Preconditions{UID: m.UID})
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("namespace %s: %w", key.Name, err))
		}
	})
	return errors.Join(append(errs, err)...)
}
