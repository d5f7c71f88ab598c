package synchronizer

import (
	"context"
	"encoding/json"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/afterimage-dr/afterimage/internal/owned"
	"github.com/afterimage-dr/afterimage/topology"
)

type patchOp struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value string `json:"value"`
}

// migrate turns our managedFields entry from one of Update, which a create
// leaves, into one of Apply: an apply removes only the fields of its own entry,
// and without it a field removed in the source would stay for ever. (Creating by
// apply would spare this, at 1.6 times the cost of every create.)
//
// The patch is guarded by the uid and by what the entry is. Without a read of
// the object, our entry is guessed to be the first one; a wrong guess is refused
// as invalid and the caller reads.
func (a *attempt) migrate(ctx context.Context, pre owned.Precondition) (*owned.Object, error) {
	index := 0
	ops := []patchOp{{"test", "/metadata/uid", pre.UID}, {"test", "/metadata/resourceVersion", pre.ResourceVersion}}
	if a.live != nil {
		for i := range a.live.Meta.ManagedFields {
			if f := &a.live.Meta.ManagedFields[i]; f.Manager == topology.FieldManager && f.Subresource == "" && f.Operation == owned.OperationUpdate {
				index = i
			}
		}
	}
	entry := fmt.Sprintf("/metadata/managedFields/%d/", index)
	ops = append(ops,
		patchOp{"test", entry + "manager", topology.FieldManager},
		patchOp{"test", entry + "operation", owned.OperationUpdate},
		patchOp{"replace", entry + "operation", owned.OperationApply},
	)
	patch, err := json.Marshal(ops)
	if err != nil {
		return nil, err
	}
	live, err := a.write(ctx, false, func(ctx context.Context) ([]byte, error) {
		return a.s.kube.JSONPatch(ctx, a.r, a.w.key, patch, topology.FieldManager)
	})
	if a.live != nil && apierrors.IsInvalid(err) {
		// A test failed although the object was just read: it changed since.
		err = apierrors.NewConflict(a.w.key.GVR().GroupResource(), a.w.key.Name, err)
	}
	return live, err
}
