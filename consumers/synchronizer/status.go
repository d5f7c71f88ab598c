package synchronizer

import (
	"fmt"
	"sort"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/internal/fence"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// maxFailing objects are named in status.
const maxFailing = 50

// Reasons of the component's status.
const (
	StatusFenced      = "Fenced"
	StatusUnreachable = "DestinationUnreachable"
	StatusWaiting     = "WaitingForPartitions"
	StatusSuspended   = "Suspended"
	StatusUnreadable  = "UnreadableRecords"
)

// Report fills in what the synchronizer knows: its own health, the counts of
// objects, the failing ones, the lag, and up to when the destination is verified
// (only while this process has every partition; absent means unknown).
func (s *Synchronizer) Report(st *v1alpha1.LiveSynchronizationStatus) {
	ps := s.partitions()
	var oldest, verified time.Time
	complete := len(ps) > 0 && int32(len(ps)) == s.count.Load()
	var unread int64
	for _, p := range ps {
		unread += p.unread.Load()
		p.mu.Lock()
		c := &p.memory.counts
		failed := int64(len(p.memory.quarantined))
		pending := int64(0)
		for key := range p.lanes {
			if _, failing := p.memory.quarantined[key]; !failing {
				pending++
			}
		}
		total := c.live + c.newFailing
		st.Objects.Total += total
		st.Objects.Failed += failed
		st.Objects.OutOfSync += failed + pending
		if o := p.track.oldest(); !o.IsZero() && (oldest.IsZero() || o.Before(oldest)) {
			oldest = o
		}
		if p.verifiedAt.IsZero() {
			complete = false
		} else if verified.IsZero() || p.verifiedAt.Before(verified) {
			verified = p.verifiedAt
		}
		for key, q := range p.memory.quarantined {
			f := v1alpha1.FailingObject{Object: key, Reason: q.Reason, Message: q.Message}
			if !q.NextTry.IsZero() {
				t := metav1.NewTime(q.NextTry)
				f.NextTry = &t
			}
			st.Failing = append(st.Failing, f)
		}
		p.mu.Unlock()
	}
	st.Objects.Sync = max(0, st.Objects.Total-st.Objects.OutOfSync)
	sort.Slice(st.Failing, func(i, j int) bool { return st.Failing[i].Object < st.Failing[j].Object })
	if len(st.Failing) > maxFailing {
		st.Failing = st.Failing[:maxFailing]
	}
	if !oldest.IsZero() {
		lag := max(0, time.Since(oldest))
		if st.Lag == nil || st.Lag.Duration < lag {
			st.Lag = &metav1.Duration{Duration: lag}
		}
	} else if st.Lag == nil && len(ps) > 0 {
		st.Lag = &metav1.Duration{}
	}
	if complete {
		t := metav1.NewMicroTime(verified)
		st.VerifiedAt = &t
	}
	st.LastSyncTime = later(st.LastSyncTime, s.lastSync.Load())
	st.LastResyncTime = later(st.LastResyncTime, s.drift.last.Load())
	c := s.health(len(ps))
	if unread > 0 && c.Ready && c.Reason == "" {
		c.Ready, c.Reason = false, StatusUnreadable
		c.Message = fmt.Sprintf("%d records of the log cannot be read and were passed over; the log names them", unread)
	}
	st.Components = append(st.Components, c)
}

func later(t *metav1.MicroTime, unixNano int64) *metav1.MicroTime {
	if unixNano == 0 || t != nil && t.UnixNano() >= unixNano {
		return t
	}
	m := metav1.NewMicroTime(time.Unix(0, unixNano))
	return &m
}

func (s *Synchronizer) health(partitions int) v1alpha1.ComponentStatus {
	c := v1alpha1.ComponentStatus{Name: Component}
	f := s.fence.state.Load()
	open, _ := s.fence.open()
	switch {
	case f.failing != nil:
		c.Reason, c.Message = StatusUnreachable, unreached(f.failing)+": "+f.failing.Error()
	case f.Fenced():
		c.Reason, c.Message = StatusFenced, fmt.Sprintf("a recovery holds the destination, nothing is written to it; to lift that: kubectl --namespace %s annotate lease %s %s=%d --overwrite (at the destination)",
			fence.Namespace, s.fence.lease.Key().Name, fence.ResumeAnnotation, f.Term)
	case s.Settings.Load().Suspend:
		c.Ready, c.Reason = true, StatusSuspended
	case !open:
		c.Reason, c.Message = StatusUnreachable, "the destination was not reached yet"
	case partitions == 0:
		c.Reason, c.Message = StatusWaiting, "no partition of the log is assigned to this process yet"
	default:
		c.Ready = true
	}
	return c
}
