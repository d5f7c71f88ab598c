package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// namespaces of the source. The last is not marked for disaster recovery at
// first: nothing of it may appear at the destination until it is.
var namespaces = []string{"shop", "payments", "backoffice", "scratch"}

// mark brings a namespace into replication.
var mark = map[string]any{"disaster-recovery": "enabled"}

// kind of object the source is filled with.
type kind struct {
	gvr    schema.GroupVersionResource
	kind   string
	prefix string
	share  int // of 20 objects
	fields func(n int, edit int64) map[string]any
}

var kinds = []kind{
	{gvr("", "configmaps"), "ConfigMap", "settings", 9, func(n int, edit int64) map[string]any {
		return map[string]any{"data": map[string]any{"number": fmt.Sprint(n), "edit": fmt.Sprint(edit), fmt.Sprintf("only-%d", edit%3): "a field that comes and goes"}}
	}},
	{gvr("", "secrets"), "Secret", "credentials", 4, func(n int, edit int64) map[string]any {
		return map[string]any{"type": "Opaque", "stringData": map[string]any{"password": fmt.Sprintf("not-a-secret-%d-%d", n, edit)}}
	}},
	{gvr("apps", "deployments"), "Deployment", "web", 3, deployment},
	{gvr("", "services"), "Service", "web", 2, func(n int, edit int64) map[string]any {
		return map[string]any{"spec": map[string]any{
			"selector": map[string]any{"app": fmt.Sprintf("web-%d", n)},
			"ports":    []any{map[string]any{"name": "http", "port": int64(80), "targetPort": 8000 + edit%100, "protocol": "TCP"}},
		}}
	}},
	{gvr("", "serviceaccounts"), "ServiceAccount", "robot", 1, func(_ int, edit int64) map[string]any {
		return map[string]any{"automountServiceAccountToken": edit%2 == 0}
	}},
	{gvr("rbac.authorization.k8s.io", "roles"), "Role", "reader", 1, func(_ int, edit int64) map[string]any {
		return map[string]any{"rules": []any{map[string]any{
			"apiGroups": []any{""}, "resources": []any{"configmaps"}, "verbs": []any{"get"}, "resourceNames": []any{fmt.Sprintf("settings-%d", edit)},
		}}}
	}},
}

func gvr(group, resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: group, Version: "v1", Resource: resource}
}

func deployment(n int, edit int64) map[string]any {
	app := map[string]any{"app": fmt.Sprintf("web-%d", n)}
	return map[string]any{"spec": map[string]any{
		"replicas": 1 + edit%4,
		"selector": map[string]any{"matchLabels": app},
		"template": map[string]any{
			"metadata": map[string]any{"labels": app},
			"spec": map[string]any{"containers": []any{map[string]any{
				"name": "web", "image": fmt.Sprintf("registry.example/web:%d", edit),
			}}},
		},
	}}
}

// workload is what users do to the source.
type workload struct {
	client dynamic.Interface
	each   int // objects of share 1 per namespace

	edits                                atomic.Int64
	created, updated, deleted, recreated atomic.Int64
}

func newWorkload(c *rest.Config) (*workload, error) {
	c = rest.CopyConfig(c)
	c.QPS = -1
	client, err := dynamic.NewForConfig(c)
	if err != nil {
		return nil, err
	}
	return &workload{client: client}, nil
}

func (w *workload) counts() (created, updated, deleted, recreated int64) {
	return w.created.Load(), w.updated.Load(), w.deleted.Load(), w.recreated.Load()
}

// fill makes about n objects and returns how many they are.
func (w *workload) fill(ctx context.Context, n int) (int, error) {
	w.each = max(1, n/(len(namespaces)*20))
	total := 0
	for i, name := range namespaces {
		meta := map[string]any{"name": name, "annotations": map[string]any{"contact": name + "@example.com"}}
		if i < len(namespaces)-1 {
			meta["labels"] = mark
		}
		ns := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": meta}}
		if _, err := w.client.Resource(gvr("", "namespaces")).Create(ctx, ns, metav1.CreateOptions{}); err != nil {
			return 0, err
		}
		total++
	}
	var todo []func() error
	for _, ns := range namespaces {
		for _, k := range kinds {
			for i := range k.share * w.each {
				todo = append(todo, func() error { return w.create(ctx, k, ns, i) })
			}
		}
	}
	return total + len(todo), parallel(todo, 8)
}

// parallel runs everything, so many at a time.
func parallel(todo []func() error, workers int) error {
	var wg sync.WaitGroup
	next := make(chan func() error)
	var mu sync.Mutex
	var errs []error
	for range workers {
		wg.Go(func() {
			for f := range next {
				if err := f(); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	for _, f := range todo {
		next <- f
	}
	close(next)
	wg.Wait()
	return errors.Join(errs...)
}

func (w *workload) object(k kind, ns string, n int) *unstructured.Unstructured {
	version := "v1"
	if k.gvr.Group != "" {
		version = k.gvr.Group + "/v1"
	}
	o := map[string]any{
		"apiVersion": version, "kind": k.kind,
		"metadata": map[string]any{"name": fmt.Sprintf("%s-%d", k.prefix, n), "namespace": ns, "labels": map[string]any{"part-of": "demo"}},
	}
	for f, v := range k.fields(n, w.edits.Add(1)) {
		o[f] = v
	}
	return &unstructured.Unstructured{Object: o}
}

func (w *workload) create(ctx context.Context, k kind, ns string, n int) error {
	_, err := w.client.Resource(k.gvr).Namespace(ns).Create(ctx, w.object(k, ns, n), metav1.CreateOptions{})
	return err
}

// churn does at random what users do, for some time, and brings the last
// namespace into replication halfway. No two edits touch one object at once.
func (w *workload) churn(ctx context.Context, d time.Duration) error {
	end := time.Now().Add(d)
	var wg sync.WaitGroup
	errs := make([]error, len(kinds)+1)
	for i, k := range kinds {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(i)))
			for errs[i] == nil && time.Now().Before(end) && ctx.Err() == nil {
				errs[i] = w.edit(ctx, r, k)
				pause(ctx, 20*time.Millisecond)
			}
		})
	}
	pause(ctx, d/2)
	errs[len(kinds)] = w.markLast(ctx)
	wg.Wait()
	return errors.Join(errs...)
}

// markLast labels the namespace that was left out.
func (w *workload) markLast(ctx context.Context) error {
	patch := []byte(`{"metadata":{"labels":{"disaster-recovery":"enabled"}}}`)
	_, err := w.client.Resource(gvr("", "namespaces")).Patch(ctx, namespaces[len(namespaces)-1], types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

// edit does one thing to one object: whatever is there is updated, deleted or
// recreated, whatever is not is created.
func (w *workload) edit(ctx context.Context, r *rand.Rand, k kind) error {
	// The first of each kind stays: it is what people are told to try things on.
	ns, n := namespaces[r.IntN(len(namespaces))], 1+r.IntN(k.share*w.each*5/4+1)
	o := w.object(k, ns, n)
	c := w.client.Resource(k.gvr).Namespace(ns)
	have, err := c.Get(ctx, o.GetName(), metav1.GetOptions{})
	var count *atomic.Int64
	switch roll := r.IntN(10); {
	case apierrors.IsNotFound(err):
		count = &w.created
		_, err = c.Create(ctx, o, metav1.CreateOptions{})
	case err != nil:
	case roll < 7:
		count = &w.updated
		o.SetResourceVersion(have.GetResourceVersion())
		_, err = c.Update(ctx, o, metav1.UpdateOptions{})
	case roll < 9:
		count = &w.deleted
		err = c.Delete(ctx, o.GetName(), metav1.DeleteOptions{})
	default:
		count = &w.recreated
		if err = c.Delete(ctx, o.GetName(), metav1.DeleteOptions{}); err == nil {
			_, err = c.Create(ctx, o, metav1.CreateOptions{})
		}
	}
	if err == nil {
		count.Add(1)
		return nil
	}
	// A Deployment is written by its controller as well, and a deleted one may
	// linger until it was collected: what a user does then is to try again.
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) || ctx.Err() != nil {
		return nil
	}
	return err
}
