package demo

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/internal/manifest"
	"github.com/afterimage-dr/afterimage/internal/status"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

const kubeconfig = `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:%d"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`

// The manifests must be such as afterimage run takes, with the document's sample
// in them as it is.
func TestManifestsAreValid(t *testing.T) {
	dir := t.TempDir()
	kubeconfigs := map[string]string{}
	for i, name := range []string{"source", "destination"} {
		kubeconfigs[name] = filepath.Join(dir, name)
		if err := os.WriteFile(kubeconfigs[name], fmt.Appendf(nil, kubeconfig, 1000+i), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	manifests := filepath.Join(dir, "manifests")
	if err := writeManifests(manifests, kubeconfigs); err != nil {
		t.Fatal(err)
	}
	set, err := manifest.Load([]string{manifests})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, ls := range set.LiveSynchronizations {
		names = append(names, ls.Namespace+"/"+ls.Name)
	}
	if got := strings.Join(names, " "); got != "default/livesynchronization-sample everything-else/everything-else" {
		t.Errorf("LiveSynchronizations %s", got)
	}
}

func TestReadyNeedsAProofYoungerThanTheLastEdit(t *testing.T) {
	edited := time.Now()
	at := func(state string, verified *time.Time) status.Process {
		s := v1alpha1.LiveSynchronizationStatus{State: state, Conditions: []metav1.Condition{{Type: "Ready", Reason: "OutOfSync"}}}
		if verified != nil {
			m := metav1.NewMicroTime(*verified)
			s.VerifiedAt = &m
		}
		return status.Process{LiveSynchronizations: []status.LiveSynchronization{{Name: "a", Status: s}}}
	}
	before, after := edited.Add(-time.Second), edited.Add(time.Second)
	for name, c := range map[string]struct {
		p    status.Process
		want string
	}{
		"nothing runs":                      {status.Process{}, "no LiveSynchronization runs"},
		"not Ready":                         {at(v1alpha1.StateProgressing, &after), "Progressing (OutOfSync"},
		"Ready, and it was proved before":   {at(v1alpha1.StateReady, &before), "verified only up to"},
		"Ready, and it was never proved":    {at(v1alpha1.StateReady, nil), "verified only up to"},
		"Ready, and proved after the edits": {at(v1alpha1.StateReady, &after), ""},
	} {
		err := ready(c.p, edited)
		if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}
