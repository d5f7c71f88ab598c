package owned

import (
	"context"
	"encoding/json"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

// ForcedNamespaceAnnotation marks a namespace that exists because
// forceNamespaceCreation asked for it; it is never pruned.
const ForcedNamespaceAnnotation = topology.MarkPrefix + "forced-namespace"

// Object is an object read at the destination.
type Object struct {
	Body []byte
	Meta kube.Meta
	// Finalizers of an object that is being deleted; of a namespace also those of
	// its spec.
	Finalizers []string
}

// Read returns an object of a cluster; nil if there is none.
func Read(ctx context.Context, c *kube.Client, r kube.Resource, key topology.Key) (*Object, error) {
	body, err := c.Get(ctx, r, key)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return Parse(body)
}

// Parse reads what an API server answered.
func Parse(body []byte) (*Object, error) {
	m, err := kube.MetaOf(body)
	if err != nil {
		return nil, err
	}
	o := &Object{Body: body, Meta: m}
	if m.DeletionTimestamp != nil {
		o.Finalizers = finalizers(body)
	}
	return o, nil
}

func finalizers(body []byte) []string {
	var o struct {
		Metadata struct {
			Finalizers []string `json:"finalizers"`
		} `json:"metadata"`
		Spec struct {
			Finalizers []string `json:"finalizers"`
		} `json:"spec"`
	}
	_ = json.Unmarshal(body, &o) // for a message only
	return append(o.Metadata.Finalizers, o.Spec.Finalizers...)
}

// Precondition of a write over the object as it was read.
func (o *Object) Precondition() Precondition {
	return Precondition{UID: o.Meta.UID, ResourceVersion: o.Meta.ResourceVersion}
}

// Terminating says what an object that is being deleted waits for.
func (o *Object) Terminating() string {
	if len(o.Finalizers) > 0 {
		return "deleted, and waiting for its finalizers: " + strings.Join(o.Finalizers, ", ")
	}
	return "deleted, and not gone yet"
}

// Applied tells whether our entry of managedFields, if any, is one of Apply: then
// an apply removes the fields that ours set before and does not set any more.
func Applied(m *kube.Meta) bool {
	for i := range m.ManagedFields {
		f := &m.ManagedFields[i]
		if f.Manager == topology.FieldManager && f.Subresource == "" && f.Operation == OperationUpdate {
			return false
		}
	}
	return true
}

// Operations of managedFields entries.
const (
	OperationUpdate = "Update"
	OperationApply  = "Apply"
)

// MadeByEveryCluster tells what exists in every cluster without anybody's doing:
// taking it over takes it from nobody.
func MadeByEveryCluster(key topology.Key) bool {
	if key.Group != "" {
		return false
	}
	switch key.Resource {
	case "serviceaccounts":
		return key.Name == "default"
	case "configmaps":
		return key.Name == "kube-root-ca.crt"
	case "namespaces":
		return key.Name == "default" || strings.HasPrefix(key.Name, "kube-")
	}
	return false
}

// Orphans tells whether a deletion policy leaves objects of a key alone (SPEC 42):
// volume claims hold data, so they need to be asked for by name.
func Orphans(key topology.Key, policy string) bool {
	switch policy {
	case v1alpha1.DeletionPolicyOrphan:
		return true
	case v1alpha1.DeletionPolicyDelete:
		return false
	}
	return key.Group == "" && key.Resource == "persistentvolumeclaims"
}

// NamespaceBody is a namespace as the stamp of a record of one of its objects
// tells it, for forceNamespaceCreation.
func NamespaceBody(name string, labels, annotations map[string]string) []byte {
	keep := func(m map[string]string) map[string]string {
		out := map[string]string{}
		for k, v := range m {
			if !topology.IsMark(k) && k != "kubernetes.io/metadata.name" {
				out[k] = v
			}
		}
		return out
	}
	kept := keep(annotations)
	kept[ForcedNamespaceAnnotation] = "true"
	b, _ := Marshal(map[string]any{ // strings always marshal
		"apiVersion": "v1", "kind": "Namespace",
		"metadata": map[string]any{"name": name, "labels": keep(labels), "annotations": kept},
	})
	return b
}

// RecoveryManager is the field manager of what a recovery changes on an object
// that otherwise stays as it is.
const RecoveryManager = topology.FieldManager + "-recovery"
