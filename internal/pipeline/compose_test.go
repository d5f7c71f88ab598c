package pipeline

import (
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

func TestCompose(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	verified := func(ago time.Duration) *metav1.MicroTime {
		m := metav1.NewMicroTime(now.Add(-ago))
		return &m
	}
	// good is what a LiveSynchronization in the best of health looks like.
	good := func() facts {
		return facts{
			now:        now,
			conditions: []metav1.Condition{{Type: "SourceReachable", Status: "True"}, {Type: "DestinationReachable", Status: "True"}, {Type: "StreamReady", Status: "True"}},
			parts: []v1alpha1.LiveSynchronizationStatus{
				{Components: []v1alpha1.ComponentStatus{{Name: "processor", Ready: true}}, Lag: &metav1.Duration{Duration: 2 * time.Second}},
				{
					Components: []v1alpha1.ComponentStatus{{Name: "synchronizer", Ready: true}}, Lag: &metav1.Duration{Duration: time.Second},
					VerifiedAt: verified(5 * time.Second), Objects: v1alpha1.ObjectCounts{Total: 3, Sync: 3},
				},
			},
		}
	}
	synchronizer := func(f *facts) *v1alpha1.LiveSynchronizationStatus { return &f.parts[1] }
	for name, c := range map[string]struct {
		change        func(*facts)
		state, reason string
	}{
		"all is well":                 {func(*facts) {}, v1alpha1.StateReady, "InSync"},
		"suspended, whatever else":    {func(f *facts) { f.suspend = true; f.parts = nil }, v1alpha1.StateSuspended, "Suspended"},
		"nothing runs":                {func(f *facts) { f.parts = nil }, v1alpha1.StateProgressing, "ComponentNotReady"},
		"a component is not ready":    {func(f *facts) { f.parts[0].Components[0].Ready = false }, v1alpha1.StateProgressing, "ComponentNotReady"},
		"never verified":              {func(f *facts) { synchronizer(f).VerifiedAt = nil }, v1alpha1.StateProgressing, "NotVerified"},
		"verified long ago":           {func(f *facts) { synchronizer(f).VerifiedAt = verified(181 * time.Second) }, v1alpha1.StateProgressing, "VerifiedTooLongAgo"},
		"verified just in time":       {func(f *facts) { synchronizer(f).VerifiedAt = verified(179 * time.Second) }, v1alpha1.StateReady, "InSync"},
		"verified on a clock ahead":   {func(f *facts) { synchronizer(f).VerifiedAt = verified(-59 * time.Second) }, v1alpha1.StateReady, "InSync"},
		"verified in the future":      {func(f *facts) { synchronizer(f).VerifiedAt = verified(-time.Hour) }, v1alpha1.StateProgressing, "ClockSkew"},
		"an object cannot be applied": {func(f *facts) { synchronizer(f).Objects.Failed = 1 }, v1alpha1.StateProgressing, "ObjectsFailing"},
		"an object is named failing":  {func(f *facts) { f.parts[0].Failing = []v1alpha1.FailingObject{{Object: "x"}} }, v1alpha1.StateProgressing, "ObjectsFailing"},
		"an object is to be written":  {func(f *facts) { synchronizer(f).Objects.OutOfSync = 1 }, v1alpha1.StateProgressing, "OutOfSync"},
		"a resource is not served yet": {func(f *facts) {
			f.parts[0].Resources = []v1alpha1.ResourceStatus{{Resource: "a/v1/b", Reason: "NotServed"}}
		}, v1alpha1.StateReady, "InSync"},
		"a resource cannot be read": {func(f *facts) {
			f.parts[0].Resources = []v1alpha1.ResourceStatus{{Resource: "a/v1/b", Reason: "Forbidden"}}
		}, v1alpha1.StateProgressing, "ResourceNotReady"},
		"deletes await a person": {func(f *facts) {
			f.parts[0].Conditions = []metav1.Condition{{Type: "PruneBlocked", Status: "True"}}
		}, v1alpha1.StateFailed, "PruneBlocked"},
		"a halt that is over": {func(f *facts) {
			f.parts[0].Conditions = []metav1.Condition{{Type: "PruneBlocked", Status: "False"}}
		}, v1alpha1.StateReady, "InSync"},
		"one component sees another source, the other does not": {func(f *facts) {
			f.parts[0].Conditions = []metav1.Condition{{Type: "SourceChanged", Status: "True"}}
			f.parts[1].Conditions = []metav1.Condition{{Type: "SourceChanged", Status: "False"}}
		}, v1alpha1.StateFailed, "SourceChanged"},
		"a recovery holds the destination": {func(f *facts) {
			f.parts[1].Components[0] = v1alpha1.ComponentStatus{Name: "synchronizer", Reason: "Fenced"}
		}, v1alpha1.StateFailed, "Fenced"},
		"a configuration is not in effect": {func(f *facts) {
			f.parts[0].Conditions = []metav1.Condition{{Type: "ConfigurationRejected", Status: "True"}}
		}, v1alpha1.StateProgressing, "ConfigurationRejected"},
		"the bucket cannot be used": {func(f *facts) {
			f.parts[0].Conditions = []metav1.Condition{{Type: "BucketReady", Status: "False", Reason: "Unauthorized"}}
			f.parts[0].Components = append(f.parts[0].Components, v1alpha1.ComponentStatus{Name: "archiver", Reason: "BucketUnauthorized"})
		}, v1alpha1.StateProgressing, "BucketUnauthorized"},
		"the bucket was not probed yet": {func(f *facts) {
			f.parts[0].Conditions = []metav1.Condition{{Type: "BucketReady", Status: "Unknown", Reason: "NotProbed"}}
		}, v1alpha1.StateProgressing, "BucketNotProbed"},
		"the bucket can be used": {func(f *facts) {
			f.parts[0].Conditions = []metav1.Condition{{Type: "BucketReady", Status: "True", Reason: "Reachable"}}
		}, v1alpha1.StateReady, "InSync"},
		"a warning": {func(f *facts) {
			f.parts[0].Conditions = []metav1.Condition{{Type: "Conflict", Status: "True"}}
		}, v1alpha1.StateReady, "InSync"},
		"webhooks are held back": {func(f *facts) {
			f.parts[1].HeldBack = &v1alpha1.HeldBackObjects{Count: 1, Objects: []string{"a"}}
		}, v1alpha1.StateReady, "InSync"},
		"the source is down": {func(f *facts) {
			f.conditions[0] = metav1.Condition{Type: "SourceReachable", Status: "False", Reason: "Unreachable"}
		}, v1alpha1.StateProgressing, "SourceUnreachable"},
		"the brokers were not reached yet": {func(f *facts) {
			f.conditions[2] = metav1.Condition{Type: "StreamReady", Status: "Unknown", Reason: "Starting"}
		}, v1alpha1.StateProgressing, "StreamStarting"},
	} {
		t.Run(name, func(t *testing.T) {
			f := good()
			c.change(&f)
			st := compose(f)
			ready := st.Conditions[0]
			if st.State != c.state || ready.Type != "Ready" || ready.Reason != c.reason {
				t.Errorf("state %s, condition %s %s %s; want %s, %s", st.State, ready.Type, ready.Reason, ready.Message, c.state, c.reason)
			}
			if (ready.Status == metav1.ConditionTrue) != (c.state == v1alpha1.StateReady) {
				t.Errorf("condition Ready is %s in state %s", ready.Status, st.State)
			}
		})
	}

	some := good()
	some.parts[0].HeldBack = &v1alpha1.HeldBackObjects{Count: 60, Objects: slices.Repeat([]string{"a"}, maxFailing)}
	some.parts[1].HeldBack = &v1alpha1.HeldBackObjects{Count: 1, Objects: []string{"b"}}
	if got := compose(some).HeldBack; got == nil || got.Count != 61 || len(got.Objects) != maxFailing {
		t.Errorf("held back: %+v; want 61, of which %d are named", got, maxFailing)
	}

	st := compose(good())
	if st.HeldBack != nil {
		t.Errorf("held back: %+v; want nothing", st.HeldBack)
	}
	if st.Lag.Duration != 2*time.Second {
		t.Errorf("lag %s: want the largest, 2s", st.Lag.Duration)
	}
	if st.RPO.Duration != 5*time.Second {
		t.Errorf("RPO %s: want now less verifiedAt, 5s", st.RPO.Duration)
	}
	before := st.Conditions[0]
	f := good()
	f.now, f.before = now.Add(time.Second), []metav1.Condition{before}
	if got := compose(f).Conditions[0].LastTransitionTime; !got.Equal(&before.LastTransitionTime) {
		t.Errorf("last transition %v moved although the status did not change", got)
	}
}
