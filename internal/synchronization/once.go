package synchronization

import (
	"context"
	"log/slog"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/internal/live"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// once runs a Synchronization of the manifests while elected.
type once struct {
	wanted *live.Value[*v1alpha1.Synchronization]
}

func (o *once) key() string { return o.wanted.Load().Name }

func (o *once) changed() <-chan struct{} {
	_, changed := o.wanted.Get()
	return changed
}

func (o *once) open(l *ledger, _ time.Time) map[string]*v1alpha1.Synchronization {
	runs := map[string]*v1alpha1.Synchronization{}
	if s := l.run(o.key()); s != nil && planOf(s) == "" {
		runs[s.Name] = s
	}
	return runs
}

// step runs it if that was never begun.
func (o *once) step(ctx context.Context, t *term, now time.Time) (time.Time, error) {
	wanted := o.wanted.Load()
	if t.ledger.run(wanted.Name) != nil || t.snapshot()[wanted.Name] != nil {
		return time.Time{}, nil
	}
	s := wanted.DeepCopy()
	s.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.AutomationGroupVersion.String(), Kind: v1alpha1.KindSynchronization}
	s.CreationTimestamp, s.Status = metav1.NewTime(now), v1alpha1.SynchronizationStatus{}
	t.log.Info("synchronization begins", slog.String("synchronization", s.Name))
	return time.Time{}, t.launch(ctx, s)
}

// refusal says why a Synchronization is not run as the manifests have it; empty: it is.
func refusal(wanted, kept *v1alpha1.Synchronization) string {
	switch {
	case kept == nil:
	case planOf(kept) != "":
		return "metadata.name: is that of a run of SynchronizationPlan " + planOf(kept) + ": expected another name"
	case !equality.Semantic.DeepEqual(wanted.Spec, kept.Spec):
		return "spec: cannot be changed, because a synchronization runs once, and one of this name has begun: expected it as it was, or a Synchronization of another name"
	}
	return ""
}
