package demo

import (
	"context"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// lost is the namespace that somebody deletes before the disaster.
const lost = "payments"

// disaster deletes a namespace in the source, stops the source for good, recovers,
// and rebuilds the moment before the deletion. It tells whether all of it is there.
func (d *demo) disaster(ctx context.Context, work *workload, run *runner) (bool, error) {
	standby, err := newWorkload(d.destination.RESTConfig())
	if err != nil {
		return false, err
	}
	before, err := standby.count(ctx, lost)
	if err != nil {
		return false, err
	}
	pause(ctx, time.Second)
	moment := time.Now()
	pause(ctx, time.Second)
	if err := work.client.Resource(gvr("", "namespaces")).Delete(ctx, lost, metav1.DeleteOptions{}); err != nil {
		return false, fmt.Errorf("deleting namespace %s: %w", lost, err)
	}
	d.say("by mistake somebody deletes namespace %s in the source; the standby follows", lost)
	if err := standby.awaitGone(ctx, lost); err != nil {
		return false, err
	}
	if err := run.awaitReady(ctx, time.Now(), patience); err != nil {
		return false, err
	}
	d.say("the destination is proved to be as the source is now")
	if err := d.source.Stop(); err != nil {
		return false, err
	}
	d.source = nil
	d.say("DISASTER: the source is stopped for good")

	for _, liveSync := range []string{"default/livesynchronization-sample", "everything-else/everything-else"} {
		if err := d.recover(ctx, run, "--livesync", liveSync); err != nil {
			return false, err
		}
	}
	up, err := standby.running(ctx)
	if err != nil {
		return false, err
	}
	d.say("%d Deployments have the replicas their recoveryProcess asks for", up)
	for _, liveSync := range []string{"everything-else/everything-else", "default/livesynchronization-sample"} {
		if err := d.recover(ctx, run, "--livesync", liveSync, "--at", moment.UTC().Format(time.RFC3339Nano)); err != nil {
			return false, err
		}
	}
	after, err := standby.count(ctx, lost)
	if err != nil {
		return false, err
	}
	d.say("namespace %s is back as it was before it was deleted: %d of %d objects", lost, after, before)
	return up > 0 && before > 0 && after == before, nil
}

// recover runs afterimage recover and shows the end of its report.
func (d *demo) recover(ctx context.Context, run *runner, args ...string) error {
	args = append([]string{"recover", "-f", run.manifests, "--data-dir", run.dataDir}, args...)
	d.say("afterimage %s", strings.Join(args, " "))
	report, err := output(ctx, d.Binary, args...)
	if i := strings.LastIndex(report, "\n\n"); i >= 0 && err == nil {
		report = report[i+2:]
	}
	d.quote(report)
	if err != nil {
		return fmt.Errorf("recovering: %w", err)
	}
	return nil
}

// ours lists what Afterimage put into a namespace, of one resource.
func (w *workload) ours(ctx context.Context, g schema.GroupVersionResource, ns string) ([]unstructured.Unstructured, error) {
	l, err := w.client.Resource(g).Namespace(ns).List(ctx, metav1.ListOptions{LabelSelector: "afterimage.io/owner"})
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", g.Resource, err)
	}
	return l.Items, nil
}

// count is how many objects a namespace of the destination holds.
func (w *workload) count(ctx context.Context, ns string) (n int, err error) {
	for _, k := range kinds {
		items, err := w.ours(ctx, k.gvr, ns)
		if err != nil {
			return 0, err
		}
		n += len(items)
	}
	return n, nil
}

func (w *workload) awaitGone(ctx context.Context, ns string) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); pause(ctx, 250*time.Millisecond) {
		if n, err := w.count(ctx, ns); err != nil || n == 0 {
			return err
		}
	}
	return fmt.Errorf("namespace %s is not gone from the destination within %s", ns, patience)
}

// running counts the Deployments with replicas.
func (w *workload) running(ctx context.Context) (n int, err error) {
	items, err := w.ours(ctx, gvr("apps", "deployments"), "")
	for i := range items {
		if r, ok, _ := unstructured.NestedInt64(items[i].Object, "spec", "replicas"); ok && r > 0 {
			n++
		}
	}
	return n, err
}
