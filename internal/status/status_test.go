package status

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

func sample() Process {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	verified := metav1.NewMicroTime(at.Add(-4 * time.Second))
	next := metav1.NewTime(at.Add(10 * time.Second))
	return Process{
		Version: "v0", PID: 7, At: at, StartedAt: at.Add(-time.Hour), Stream: Stream{Kind: "embedded", Ready: true},
		Manifests: Manifests{LoadedAt: at.Add(-time.Hour), Error: "a.yaml: spec.plugin: want a known plugin"},
		LiveSynchronizations: []LiveSynchronization{{
			Namespace: "default", Name: "pre", CreatedAt: at.Add(-90 * time.Minute),
			Status: v1alpha1.LiveSynchronizationStatus{
				State:      v1alpha1.StateProgressing,
				Objects:    v1alpha1.ObjectCounts{Total: 312, Sync: 311, Failed: 1},
				Lag:        &metav1.Duration{Duration: 1500 * time.Millisecond},
				VerifiedAt: &verified, RPO: &metav1.Duration{Duration: 4 * time.Second},
				Conditions: []metav1.Condition{{Type: "Ready", Status: "False", Reason: "ObjectsFailing", Message: "objects that cannot be applied: 1"}},
				Components: []v1alpha1.ComponentStatus{{Name: "synchronizer", Ready: true}, {Name: "reconciler", Reason: "Restarting", Message: "boom"}},
				HeldBack:   &v1alpha1.HeldBackObjects{Count: 5, Objects: []string{"e/v1/as//1", "e/v1/as//2", "e/v1/as//3", "e/v1/as//4"}},
				Failing:    []v1alpha1.FailingObject{{Object: "core/v1/configmaps/a/b", Reason: "NotOwned", Message: "made by kubectl", NextTry: &next}},
			},
		}, {Namespace: "other", Name: "new", Suspend: true, CreatedAt: at, Status: v1alpha1.LiveSynchronizationStatus{State: v1alpha1.StateSuspended}}},
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	if err := Table(&out, sample()); err != nil {
		t.Fatal(err)
	}
	want := `NAMESPACE   NAME   SUSPENDED   STATE         OBJECTS   OUT OF SYNC   FAILED   LAG       VERIFIED   AGE
default     pre    false       Progressing   312       0             1        1.5s      4s ago     1h30m
other       new    true        Suspended     0         0             0        unknown   unknown    0s

default/pre
  not ready: ObjectsFailing: objects that cannot be applied: 1
  component reconciler: Restarting: boom
  webhooks held back until a recovery: 5, such as e/v1/as//1, e/v1/as//2, e/v1/as//3
  failing core/v1/configmaps/a/b: NotOwned: made by kubectl, tried again at 2026-11-23T12:00:10Z

manifests: in error, those read at 2026-11-23T11:00:00Z stay in effect:
a.yaml: spec.plugin: want a known plugin
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

func TestLine(t *testing.T) {
	p := sample()
	if got, want := Line(p), "1 Progressing, 1 Suspended  312 objects, 0 out of sync, 1 failed, lag unknown, verified unknown"; got != want {
		t.Errorf("line of two %q, want %q", got, want)
	}
	p.LiveSynchronizations = p.LiveSynchronizations[:1]
	if got, want := Line(p), "Progressing  312 objects, 0 out of sync, 1 failed, lag 1.5s, verified 4s ago"; got != want {
		t.Errorf("line of one %q, want %q", got, want)
	}
}

func TestSocket(t *testing.T) {
	for name, dir := range map[string]string{
		"a short path":                         t.TempDir(),
		"a path longer than a socket may have": filepath.Join(t.TempDir(), strings.Repeat("deep/", 30)),
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if _, err := Get(context.Background(), dir); !errors.Is(err, ErrNotRunning) {
				t.Fatalf("before anything runs: %v, want ErrNotRunning", err)
			}
			// Twice, the first never closed: as after a SIGKILL.
			first, err := Serve(dir, func() Process { return Process{PID: 1} })
			if err != nil {
				t.Fatal(err)
			}
			left := first.socket.Paths()
			_ = first.http.Close()
			<-first.done
			want := sample()
			s, err := Serve(dir, func() Process { return want })
			if err != nil {
				t.Fatalf("over a dead process's socket: %v", err)
			}
			info, err := os.Stat(filepath.Join(dir, socketFile))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("mode of the socket: %v, %v; want 0600", info, err)
			}
			got, err := Get(context.Background(), dir)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b metav1.MicroTime) bool { return a.Equal(&b) }), cmp.Comparer(func(a, b metav1.Time) bool { return a.Equal(&b) })); diff != "" {
				t.Errorf("status (-said +heard):\n%s", diff)
			}
			s.Close()
			if _, err := Get(context.Background(), dir); !errors.Is(err, ErrNotRunning) {
				t.Errorf("after it ended: %v, want ErrNotRunning", err)
			}
			for _, p := range append(left, s.socket.Paths()...) {
				if _, err := os.Lstat(p); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s is left behind", p)
				}
			}
		})
	}
}
