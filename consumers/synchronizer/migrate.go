package synchronizer

import (
	"context"
	"encoding/json"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/owned"
	"github.com/afterimage-dr/afterimage/topology"
)

// migrate turns our managedFields entry into one of Apply; see [owned.Migration].
func (a *attempt) migrate(ctx context.Context, pre owned.Precondition) (*owned.Object, error) {
	var m *kube.Meta
	if a.live != nil {
		m = &a.live.Meta
	}
	patch, err := owned.Migration(m, pre)
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

// withdraw takes away what a recovery added to an object that has just become as
// desired again: the fields that only the recovery's manager owns. Its entry of
// managedFields is made one of Apply, and then applies nothing.
func (a *attempt) withdraw(ctx context.Context, live *owned.Object) (*owned.Object, error) {
	for i := range live.Meta.ManagedFields {
		f := &live.Meta.ManagedFields[i]
		if f.Manager != owned.RecoveryManager || f.Subresource != "" {
			continue
		}
		if f.Operation != owned.OperationApply {
			entry := fmt.Sprintf("/metadata/managedFields/%d/", i)
			patch, err := json.Marshal([]owned.PatchOp{
				{Op: "test", Path: "/metadata/uid", Value: live.Meta.UID},
				{Op: "test", Path: entry + "manager", Value: owned.RecoveryManager},
				{Op: "replace", Path: entry + "operation", Value: owned.OperationApply},
			})
			if err != nil {
				return nil, err
			}
			live, err = a.write(ctx, false, func(ctx context.Context) ([]byte, error) {
				return a.s.kube.JSONPatch(ctx, a.r, a.w.key, patch, owned.RecoveryManager)
			})
			if err != nil {
				return nil, err
			}
		}
		empty := owned.Named(a.w.key, a.r, live.Precondition())
		return a.write(ctx, false, func(ctx context.Context) ([]byte, error) {
			return a.s.kube.Apply(ctx, a.r, a.w.key, empty, owned.RecoveryManager)
		})
	}
	return live, nil
}
