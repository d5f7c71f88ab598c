package synchronization

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/manifest"
	"github.com/afterimage-dr/afterimage/internal/pipeline"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// KubernetesOptions say how to make passes over Kubernetes objects.
type KubernetesOptions struct {
	// Pipeline runs the components, beside those of LiveSynchronizations.
	Pipeline *pipeline.Pipeline
	// Patience is how long something may be out of reach, without anything else
	// getting on, before the attempt is given up; default 30 s.
	Patience time.Duration
	// Grace is how long objects that wait for something else (their namespace, their
	// definition, a webhook) are waited for once nothing else is left to do; default 10 s.
	Grace time.Duration
}

const (
	defaultPatience = 30 * time.Second
	defaultGrace    = 10 * time.Second
	// probeTimeout of the look at each cluster before anything is begun.
	probeTimeout = 10 * time.Second
)

// Kubernetes is the plugin kubernetes-objects-to-kubernetes. An attempt makes the
// destination what the source was at some moment after its start, prune included, with
// the pipeline of a LiveSynchronization: it returns once a complete listing of
// everything covered and a heartbeat behind it have arrived at the destination, and
// both comparisons (of the destination with what was applied, and of the two clusters)
// that began after that found nothing left to do.
//
// What it counts is what this attempt did. It may be killed and begun again at any
// moment, like everything the pipeline does.
func Kubernetes(o KubernetesOptions) Plugin {
	if o.Patience <= 0 {
		o.Patience = defaultPatience
	}
	if o.Grace <= 0 {
		o.Grace = defaultGrace
	}
	return func(set *manifest.Set, run *v1alpha1.Synchronization) (Attempt, error) {
		owner := Owner(run)
		for _, ls := range set.LiveSynchronizations {
			if ls.Namespace == run.Namespace && ls.Name == owner {
				return nil, fmt.Errorf("LiveSynchronization %s/%s is in the same manifests: %w: expected another name for one of them", ls.Namespace, ls.Name, pipeline.ErrSameOwner)
			}
		}
		sync, err := pipeline.LiveSyncOf(set, asLiveSynchronization(run))
		if err != nil {
			return nil, err
		}
		sync.Settings.ResyncPeriod = 0 // the comparisons are asked for
		p := &kubernetes{KubernetesOptions: o, run: run, sync: sync}
		return p.attempt, nil
	}
}

// kubernetes makes the attempts of one run.
type kubernetes struct {
	KubernetesOptions
	run  *v1alpha1.Synchronization
	sync pipeline.LiveSync
}

func (k *kubernetes) attempt(ctx context.Context, progress func(v1alpha1.SynchronizationResult)) (Outcome, error) {
	began := time.Now()
	if err := k.reach(ctx); err != nil {
		return Outcome{}, err
	}
	x, err := k.Pipeline.Begin(ctx, k.sync)
	if errors.Is(err, pipeline.ErrSameOwner) {
		err = Permanent(&refused{"SameOwner", err.Error()})
	}
	if err != nil {
		return Outcome{}, err
	}
	defer x.Stop()
	p := &pass{Pass: x, kubernetes: k, began: began, progress: progress, tally: newTally(x.Outcomes)}
	return p.watch(ctx)
}

// reach looks whether both clusters answer, so that a run that cannot do anything
// says so at once and not after everybody's patience.
func (k *kubernetes) reach(ctx context.Context) error {
	config := &k.run.Spec.Config
	var uids [2]string
	for i, side := range [...]struct {
		which, name string
		config      *rest.Config
	}{{"source", config.SourceName, k.sync.Source}, {"destination", config.DestinationName, k.sync.Destination}} {
		c, err := kube.New(side.config, kube.WithTimeout(probeTimeout))
		if err != nil {
			return Permanent(fmt.Errorf("%s cluster %s: %w", side.which, side.name, err))
		}
		if uids[i], err = c.ClusterUID(ctx); err != nil {
			return fmt.Errorf("%s cluster %s cannot be reached: %w", side.which, side.name, err)
		}
	}
	if uids[0] == uids[1] {
		return Permanent(&refused{"SameCluster", fmt.Sprintf("source %s and destination %s are the same cluster (kube-system has the UID %s in both)", config.SourceName, config.DestinationName, uids[0])})
	}
	return nil
}

// Owner is the name under which a run owns what it writes at the destination, as a
// LiveSynchronization of that name would: that of its SynchronizationPlan, else its
// generateName without the dash at the end, else its own name. So a later run prunes
// what an earlier one has put there.
func Owner(run *v1alpha1.Synchronization) string {
	if plan := planOf(run); plan != "" {
		return plan
	}
	if name := strings.TrimRight(run.GenerateName, "-"); name != "" {
		return name
	}
	return run.Name
}

// asLiveSynchronization is the run under its owner's name, for all that is told
// from a LiveSynchronization.
func asLiveSynchronization(run *v1alpha1.Synchronization) *v1alpha1.LiveSynchronization {
	return &v1alpha1.LiveSynchronization{
		ObjectMeta: metav1.ObjectMeta{Namespace: run.Namespace, Name: Owner(run), Annotations: run.Annotations, Generation: run.Generation},
		Spec:       v1alpha1.LiveSynchronizationSpec{Plugin: run.Spec.Plugin, Config: run.Spec.Config},
	}
}

// refused is why nothing is done until a person acts.
type refused struct{ reason, message string }

func (r *refused) Error() string { return r.message }

// Reason of the condition Failed.
func (r *refused) Reason() string { return r.reason }
