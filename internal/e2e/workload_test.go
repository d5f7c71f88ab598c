package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

var configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}

// workload creates, updates, deletes and recreates ConfigMaps in the source.
type workload struct {
	client     dynamic.Interface
	namespaces []string
	names      int
	labels     map[string]any
	seed       uint64

	mu   sync.Mutex
	ops  int
	live map[string]moment
}

// run works until ctx ends, pausing a little between operations.
func (w *workload) run(ctx context.Context, t *testing.T, pause time.Duration) {
	r := rand.New(rand.NewPCG(w.seed, 17))
	for ctx.Err() == nil {
		ns := w.namespaces[r.IntN(len(w.namespaces))]
		name := fmt.Sprintf("config-%03d", r.IntN(w.names))
		// An operation that has begun is seen to its end: one that is cut off may
		// have been done, and then nobody knows what the source holds.
		if err := w.step(context.WithoutCancel(ctx), r.IntN(10), ns, name); err != nil {
			if ctx.Err() == nil {
				t.Errorf("workload: %v", err)
			}
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (w *workload) step(ctx context.Context, dice int, ns, name string) error {
	key := ns + "/" + name
	m, known := w.live[key]
	c := w.client.Resource(configMaps).Namespace(ns)
	w.mu.Lock()
	w.ops++
	w.mu.Unlock()
	switch {
	case !known || m.gone:
		m = moment{life: m.life + 1, state: 1}
		_, err := c.Create(ctx, w.object(ns, name, m), metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("creating %s: %w", key, err)
		}
	case dice < 2: // delete
		m.gone = true
		if err := c.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			return fmt.Errorf("deleting %s: %w", key, err)
		}
	case dice < 4: // delete and recreate at once
		if err := c.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			return fmt.Errorf("deleting %s: %w", key, err)
		}
		m = moment{life: m.life + 1, state: 1}
		if _, err := c.Create(ctx, w.object(ns, name, m), metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("recreating %s: %w", key, err)
		}
	default:
		m.state++
		if _, err := c.Update(ctx, w.object(ns, name, m), metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("updating %s: %w", key, err)
		}
	}
	w.live[key] = m
	return nil
}

// clear deletes everything that lives.
func (w *workload) clear(t *testing.T) {
	t.Helper()
	for key, m := range w.live {
		if m.gone {
			continue
		}
		ns, name, _ := strings.Cut(key, "/")
		if err := w.client.Resource(configMaps).Namespace(ns).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		m.gone = true
		w.live[key] = m
	}
}

// recall makes the workload go on from what the source holds, after it was set
// back: a key that is missing there may have any life behind it.
func (w *workload) recall(t *testing.T) {
	t.Helper()
	for key, m := range w.live {
		m.gone = true
		w.live[key] = m
	}
	for _, ns := range w.namespaces {
		l, err := w.client.Resource(configMaps).Namespace(ns).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range l.Items {
			if data, ok, _ := unstructured.NestedStringMap(o.Object, "data"); ok && data[lifeField] != "" {
				w.live[ns+"/"+o.GetName()] = moment{life: number(data[lifeField]), state: number(data[stateField])}
			}
		}
	}
}

func (w *workload) object(ns, name string, m moment) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": name, "namespace": ns, "labels": w.labels},
		"data":     map[string]any{lifeField: strconv.Itoa(m.life), stateField: strconv.Itoa(m.state)},
	}}
	if m.state%3 == 0 { // a field that comes and goes
		o.Object["data"].(map[string]any)["sometimes"] = "here"
	}
	return o
}

// differences compares the ConfigMaps of both sides, data and labels, in the
// workload's namespaces, and returns what differs.
func (w *workload) differences(ctx context.Context, destination dynamic.Interface) ([]string, error) {
	var out []string
	for _, ns := range w.namespaces {
		src, err := contents(ctx, w.client, ns)
		if err != nil {
			return nil, err
		}
		dst, err := contents(ctx, destination, ns)
		if err != nil {
			return nil, err
		}
		for k, v := range src {
			if got, ok := dst[k]; !ok {
				out = append(out, k+" is missing at the destination")
			} else if got != v {
				out = append(out, fmt.Sprintf("%s differs: source %s, destination %s", k, v, got))
			}
		}
		for k := range dst {
			if _, ok := src[k]; !ok {
				out = append(out, k+" exists only at the destination")
			}
		}
	}
	return out, nil
}

func contents(ctx context.Context, c dynamic.Interface, ns string) (map[string]string, error) {
	l, err := c.Resource(configMaps).Namespace(ns).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	m := map[string]string{}
	for i := range l.Items {
		if l.Items[i].GetName() == "kube-root-ca.crt" {
			continue
		}
		data, _, _ := unstructured.NestedStringMap(l.Items[i].Object, "data")
		labels := l.Items[i].GetLabels()
		delete(labels, "afterimage.io/owner")
		m[ns+"/"+l.Items[i].GetName()] = fmt.Sprint(data, labels)
	}
	return m, nil
}

func makeNamespaces(t *testing.T, labels map[string]any, names []string, clients ...dynamic.Interface) {
	t.Helper()
	gvr := schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	for _, c := range clients {
		for _, n := range names {
			_, err := c.Resource(gvr).Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": n, "labels": labels},
			}}, metav1.CreateOptions{})
			if err != nil && !apierrors.IsAlreadyExists(err) {
				t.Fatal(err)
			}
		}
	}
}
