package synchronization

import (
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

const (
	// LabelPlan names the plan of a run.
	LabelPlan = topology.MarkPrefix + "synchronization-plan"
	// annotationScheduled is the time of the schedule that a run is for, as a
	// CronJob marks its Jobs.
	annotationScheduled = topology.MarkPrefix + "scheduled-time"
	// annotationSettled of a plan in the log: up to when its schedule is settled.
	annotationSettled = topology.MarkPrefix + "settled-until"

	// headerWriter of a record names the term that wrote it.
	headerWriter = "writer"
)

// runFor makes the run of a plan for a time of its schedule. Its name is that of the
// Job a CronJob would make, so that one time never has two runs.
func runFor(p *v1alpha1.SynchronizationPlan, at, now time.Time) *v1alpha1.Synchronization {
	s := &v1alpha1.Synchronization{Spec: *p.Spec.Template.Spec.DeepCopy()}
	s.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.AutomationGroupVersion.String(), Kind: v1alpha1.KindSynchronization}
	s.Namespace, s.Name = p.Namespace, p.Name+"-"+strconv.FormatInt(at.Unix()/60, 10)
	s.CreationTimestamp = metav1.NewTime(now)
	s.Labels, s.Annotations = map[string]string{}, map[string]string{}
	maps.Copy(s.Labels, p.Spec.Template.Metadata.Labels)
	maps.Copy(s.Annotations, p.Spec.Template.Metadata.Annotations)
	s.Labels[LabelPlan] = p.Name
	s.Annotations[annotationScheduled] = at.Format(time.RFC3339)
	yes := true
	s.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: v1alpha1.AutomationGroupVersion.String(), Kind: v1alpha1.KindSynchronizationPlan,
		Name: p.Name, UID: p.UID, Controller: &yes,
	}}
	return s
}

// planOf is the name of the plan that made a run; empty: none did.
func planOf(s *v1alpha1.Synchronization) string {
	if o := metav1.GetControllerOf(s); o != nil && o.Kind == v1alpha1.KindSynchronizationPlan {
		return o.Name
	}
	return ""
}

// progressOf is what is kept of a plan: its spec, its status, and up to when its
// schedule is settled.
func progressOf(p *v1alpha1.SynchronizationPlan, status v1alpha1.SynchronizationPlanStatus, settled time.Time) *v1alpha1.SynchronizationPlan {
	kept := &v1alpha1.SynchronizationPlan{Spec: p.Spec, Status: status}
	kept.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.AutomationGroupVersion.String(), Kind: v1alpha1.KindSynchronizationPlan}
	kept.Namespace, kept.Name, kept.UID, kept.Generation = p.Namespace, p.Name, p.UID, p.Generation
	kept.Annotations = map[string]string{annotationSettled: settled.UTC().Format(time.RFC3339)}
	return kept.DeepCopy()
}

// settledOf reads it back; false: it is not there.
func settledOf(kept *v1alpha1.SynchronizationPlan) (time.Time, bool) {
	t, err := time.Parse(time.RFC3339, kept.Annotations[annotationSettled])
	return t, err == nil
}

// record of an object, which is a *Synchronization or a *SynchronizationPlan; nil is
// a tombstone.
func record(topic, key, writer string, object any) (*kgo.Record, error) {
	rec := &kgo.Record{Topic: topic, Key: []byte(key), Headers: []kgo.RecordHeader{{Key: headerWriter, Value: []byte(writer)}}}
	if object == nil {
		return rec, nil
	}
	value, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("record of %s: %w", key, err)
	}
	rec.Value = value
	return rec, nil
}

func writerOf(rec *kgo.Record) string {
	for _, h := range rec.Headers {
		if h.Key == headerWriter {
			return string(h.Value)
		}
	}
	return ""
}
