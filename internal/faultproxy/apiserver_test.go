package faultproxy_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/afterimage-dr/afterimage/internal/faultproxy"
	"github.com/afterimage-dr/afterimage/internal/testenv"
)

// The faults as a real client meets them in front of a real API server.
func TestBeforeARealAPIServer(t *testing.T) {
	cluster := testenv.StartCluster(t)
	p := faultproxy.StartHTTP(t, cluster.RESTConfig(), faultproxy.WithTLS())
	through, err := kubernetes.NewForConfig(p.RESTConfig())
	must(t, err)
	direct, err := kubernetes.NewForConfig(cluster.RESTConfig())
	must(t, err)
	maps := through.CoreV1().ConfigMaps("default")
	create := func(name string) error {
		_, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		return err
	}

	must(t, create("first"))
	lose := p.Add(faultproxy.Rule{Match: faultproxy.Match{Verbs: []string{"create"}, Resource: "configmaps"}, Fault: faultproxy.LoseResponseAs(504), Times: 1})
	if err := create("unknown"); !apierrors.IsTimeout(err) {
		t.Errorf("creating with a lost response: %v, want a timeout", err)
	}
	if _, err := direct.CoreV1().ConfigMaps("default").Get(t.Context(), "unknown", metav1.GetOptions{}); err != nil || lose.Hits() != 1 {
		t.Errorf("the object whose response was lost: %v (%d hits), want it there", err, lose.Hits())
	}

	forbid := p.Add(faultproxy.Rule{Match: faultproxy.Match{Resource: "secrets"}, Fault: faultproxy.Forbid()})
	if _, err := through.CoreV1().Secrets("").List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("listing secrets: %v, want forbidden", err)
	}
	forbid.Remove()

	empty := p.Add(faultproxy.Rule{Match: faultproxy.Match{Verbs: []string{"list"}}, Fault: faultproxy.EmptyList()})
	list, err := maps.List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 0 || list.ResourceVersion == "" || list.ResourceVersion == "0" {
		t.Errorf("the emptied list has %d items at version %q (%v), want none at a version", len(list.Items), list.ResourceVersion, err)
	}
	empty.Remove()

	_, err = p.StaleReplica(t.Context(), "/api/v1/namespaces/default/configmaps")
	must(t, err)
	must(t, create("after-the-recording"))
	old, err := maps.List(t.Context(), metav1.ListOptions{ResourceVersion: "0"})
	must(t, err)
	now, err := maps.List(t.Context(), metav1.ListOptions{})
	must(t, err)
	if len(now.Items) != len(old.Items)+1 {
		t.Errorf("the stale list has %d items, the consistent one %d, want one more", len(old.Items), len(now.Items))
	}

	watch, err := maps.Watch(t.Context(), metav1.ListOptions{ResourceVersion: now.ResourceVersion})
	must(t, err)
	defer watch.Stop()
	p.Add(faultproxy.Rule{Fault: faultproxy.DropEvent(), Match: faultproxy.Match{Resource: "configmaps", Name: "dropped"}})
	must(t, create("dropped"))
	must(t, create("seen"))
	select {
	case event := <-watch.ResultChan():
		if object, ok := event.Object.(*corev1.ConfigMap); !ok || object.Name != "seen" {
			t.Errorf("the watch gave %s %v, want only the object that was not dropped", event.Type, event.Object)
		}
	case <-time.After(30 * time.Second):
		t.Error("the watch gave nothing")
	}
	if got := p.Count(faultproxy.Match{Verbs: []string{"create"}, Resource: "configmaps"}); got != 5 {
		t.Errorf("%d creates were counted, want 5", got)
	}
}
