package archiver

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// The conditions the archiver sets.
const (
	// ConditionBucketReady is False while the bucket as a whole cannot be used,
	// with the reason.
	ConditionBucketReady = "BucketReady"
	// ConditionPruneBlocked says that originals which nothing in the log stands for
	// are kept, because they are too many. Absent while there are none.
	ConditionPruneBlocked = "PruneBlocked"
)

const (
	// maxFailing objects are named in status.
	maxFailing = 50
	// behindAfter is the age of the oldest change that is not in the bucket from
	// which the originals are too old to be called ready.
	behindAfter = 3 * time.Minute
)

// situation is what the partitions of this process are in.
type situation struct {
	parts     int
	catching  int
	waiting   bool
	refused   string
	oldest    time.Time
	failing   []v1alpha1.FailingObject
	nFailing  int
	trouble   string
	serving   bool
	groupFail error
}

func (a *Archiver) situation() situation {
	a.mu.Lock()
	s := situation{serving: a.serving, groupFail: a.trouble}
	for _, t := range a.troubles {
		s.trouble = t
	}
	a.mu.Unlock()
	for _, p := range a.working() {
		p.mu.Lock()
		s.parts++
		s.waiting = s.waiting || p.waiting
		if p.refused != "" {
			s.refused = p.refused
		}
		if !p.waiting && !p.caughtUp {
			s.catching++
		}
		if o := p.track.oldest(); !o.IsZero() && (s.oldest.IsZero() || o.Before(s.oldest)) {
			s.oldest = o
		}
		for name, q := range p.memory.quarantined {
			s.nFailing++
			next := metav1.NewTime(q.NextTry)
			s.failing = append(s.failing, v1alpha1.FailingObject{Object: name, Reason: "Bucket" + q.Reason, Message: q.Message, NextTry: &next})
		}
		p.mu.Unlock()
	}
	slices.SortFunc(s.failing, func(x, y v1alpha1.FailingObject) int { return strings.Compare(x.Object, y.Object) })
	s.failing = s.failing[:min(len(s.failing), maxFailing)]
	return s
}

// Report adds the archiver's part to a status: its own health, whether the bucket
// can be used, the objects whose originals cannot be stored or removed, and what
// waits for a person. It counts no objects: those are the destination's.
func (a *Archiver) Report(out *v1alpha1.LiveSynchronizationStatus) {
	s := a.situation()
	reason, message := a.health.why()
	out.Components = append(out.Components, a.component(&s, reason, message))
	out.Failing = append(out.Failing, s.failing...)

	c := metav1.Condition{Type: ConditionBucketReady, Status: metav1.ConditionTrue, Reason: "Reachable", ObservedGeneration: out.ObservedGeneration}
	switch reason {
	case "":
	case reasonNotProbed:
		c.Status, c.Reason = metav1.ConditionUnknown, reason
	default:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, reason, message
	}
	meta.SetStatusCondition(&out.Conditions, c)

	a.resync.mu.Lock()
	blocked := a.resync.blocked
	a.resync.mu.Unlock()
	if blocked.token != "" {
		meta.SetStatusCondition(&out.Conditions, metav1.Condition{
			Type: ConditionPruneBlocked, Status: metav1.ConditionTrue, Reason: "BucketLimit", ObservedGeneration: out.ObservedGeneration,
			Message: fmt.Sprintf("%s. Nothing of it is removed. If this is meant, confirm it with the annotation afterimage.io/confirm-prune: %q", blocked.why, blocked.token),
		})
	}
}

func (a *Archiver) component(s *situation, reason, message string) v1alpha1.ComponentStatus {
	c := v1alpha1.ComponentStatus{Name: Component}
	unreadable := a.Counts().Undecodable
	switch {
	case s.groupFail != nil:
		c.Reason, c.Message = "GroupUnavailable", s.groupFail.Error()
	case !s.serving:
		c.Reason, c.Message = "NotRunning", "the archiver is not running"
	case a.Settings.Load().Suspend:
		c.Ready, c.Reason = true, "Suspended"
	case reason != "":
		c.Reason, c.Message = "Bucket"+reason, message
	case s.trouble != "":
		c.Reason, c.Message = "PartitionFailing", s.trouble
	case s.parts == 0:
		c.Reason, c.Message = "WaitingForPartitions", "no partition of the log is assigned to this process yet"
	case s.waiting:
		c.Reason, c.Message = "NoConfiguration", "no configuration has reached the log yet"
	case s.catching > 0:
		c.Reason, c.Message = "CatchingUp", fmt.Sprintf("%d of %d partitions of the log are not yet in the bucket", s.catching, s.parts)
	case !s.oldest.IsZero() && time.Since(s.oldest) > behindAfter:
		c.Reason, c.Message = "Behind", fmt.Sprintf("the oldest change that is not in the bucket is %s old", time.Since(s.oldest).Round(time.Second))
	case unreadable > 0:
		c.Reason, c.Message = "UnreadableRecords", fmt.Sprintf("%d records of the log cannot be read and were passed over; the log names them", unreadable)
	case s.refused != "":
		c.Ready, c.Reason, c.Message = true, "ConfigurationRejected", s.refused
	case a.Counts().Foreign > 0:
		c.Ready, c.Reason = true, "ForeignObjects"
		c.Message = fmt.Sprintf("%d objects under %s are not Afterimage's, or are damaged; they are left alone", a.Counts().Foreign, a.folder())
	default:
		c.Ready = true
	}
	return c
}
