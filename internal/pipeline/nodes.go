package pipeline

import (
	"context"
	"crypto/tls"
	"reflect"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/internal/ensemble"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/nodecopy"
	"github.com/afterimage-dr/afterimage/internal/status"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// nodeRunner runs one LiveSynchronization of the plugin zookeeper-to-zookeeper-nodes.
type nodeRunner struct {
	l      LiveSync
	copy   *nodecopy.Live
	began  time.Time
	stop   context.CancelFunc
	finish chan struct{}
}

func startNodes(ctx context.Context, p *parts, l LiveSync) *nodeRunner {
	c := l.Settings.Config
	logger := p.logger("zookeeper", "", p.leveler(l.LogLevels[Synchronizer])).With(logging.LiveSynchronization(c.Namespace, c.Name))
	r := &nodeRunner{l: l, copy: p.nodes(*l.Nodes, logger), began: time.Now(), finish: make(chan struct{})}
	ctx, r.stop = context.WithCancel(ctx)
	go func() {
		defer close(r.finish)
		r.copy.Run(ctx)
	}()
	return r
}

func (r *nodeRunner) end()                   { r.stop() }
func (r *nodeRunner) ended() <-chan struct{} { return r.finish }

// reaches: nothing of such a copy changes while it runs. Another one compares
// everything, and writes what differs.
func (r *nodeRunner) reaches(l LiveSync) bool {
	return l.Nodes != nil && sameNodes(r.l.Nodes, l.Nodes) && r.l.Generation == l.Generation
}

func (r *nodeRunner) configure(l LiveSync) { r.l.LogLevels = l.LogLevels }

func sameNodes(a, b *nodecopy.LiveOptions) bool {
	x, y := *a, *b
	if (x.Rules.Exclude == nil) != (y.Rules.Exclude == nil) || x.Rules.Exclude != nil && x.Rules.Exclude.String() != y.Rules.Exclude.String() {
		return false
	}
	x.Rules.Exclude, y.Rules.Exclude = nil, nil
	for _, side := range [...][2]*ensemble.Options{{&x.Source, &y.Source}, {&x.Destination, &y.Destination}} {
		if !sameTLS(side[0].TLS, side[1].TLS) {
			return false
		}
		side[0].TLS, side[1].TLS = nil, nil
	}
	return reflect.DeepEqual(x, y)
}

func sameTLS(a, b *tls.Config) bool {
	if a == nil || b == nil {
		return a == b
	}
	if len(a.Certificates) != len(b.Certificates) || a.InsecureSkipVerify != b.InsecureSkipVerify || (a.RootCAs == nil) != (b.RootCAs == nil) {
		return false
	}
	for i := range a.Certificates {
		if !reflect.DeepEqual(a.Certificates[i].Certificate, b.Certificates[i].Certificate) {
			return false
		}
	}
	return a.RootCAs == nil || a.RootCAs.Equal(b.RootCAs)
}

func (r *nodeRunner) describe() (l status.LiveSynchronization, warnings []string) {
	c := r.l.Settings.Config
	return status.LiveSynchronization{Namespace: c.Namespace, Name: c.Name, Suspend: r.l.Settings.Suspend, CreatedAt: r.began}, nil
}

func (r *nodeRunner) facts(now time.Time, log status.Stream) facts {
	s := r.copy.Status()
	stream := metav1.Condition{Type: "StreamReady", Status: metav1.ConditionTrue, Reason: "TopicsReady"}
	return facts{
		now: now, suspend: r.l.Settings.Suspend, generation: r.l.Generation,
		conditions: []metav1.Condition{
			reachable("SourceReachable", s.Source), reachable("DestinationReachable", s.Destination), streamCondition(stream, log),
		},
		parts: []v1alpha1.LiveSynchronizationStatus{nodeStatus(now, &s)},
	}
}

// reachable is the condition of an ensemble: unknown until it was followed once.
func reachable(kind string, s nodecopy.Side) metav1.Condition {
	c := metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: "Reachable", LastTransitionTime: metav1.NewTime(s.Since)}
	switch s.Reason {
	case nodecopy.ReasonUnreachable:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, s.Reason, s.Message
	case nodecopy.ReasonStarting, nodecopy.ReasonElsewhere:
		c.Status, c.Reason, c.Message = metav1.ConditionUnknown, s.Reason, s.Message
	}
	return c
}

// nodeStatus is what a live copy of nodes knows, in the words of all.
func nodeStatus(now time.Time, s *nodecopy.Status) v1alpha1.LiveSynchronizationStatus {
	at := s.Standing
	var st v1alpha1.LiveSynchronizationStatus
	for _, side := range [...]struct {
		name string
		nodecopy.Side
	}{{EventsListener, s.Source}, {Synchronizer, s.Destination}} {
		st.Components = append(st.Components, v1alpha1.ComponentStatus{Name: side.name, Ready: side.Ready, Reason: side.Reason, Message: side.Message})
	}
	total := at.Nodes
	if s.Found != nil && at.ComparedAt.IsZero() {
		total = s.Found.Nodes
	}
	st.Objects = v1alpha1.ObjectCounts{Total: total, Failed: at.Failed, Sync: max(at.Nodes-at.Failed, 0)}
	st.Objects.OutOfSync = max(total-st.Objects.Sync-at.Failed, 0)
	if at.Failed > 0 {
		st.Objects.OutOfSync = 0 // they are among the failed
	}
	st.LastSyncTime, st.LastResyncTime, st.VerifiedAt = moment(at.SyncedAt), moment(at.ComparedAt), moment(at.VerifiedAt)
	for _, f := range at.Failures {
		st.Failing = append(st.Failing, v1alpha1.FailingObject{Object: f.Path, Reason: f.Reason, Message: f.Message})
	}
	switch {
	case !s.Destination.Ready && !at.ComparedAt.IsZero():
		// What has been logged since then waits; nobody knows since when exactly.
		since := s.Destination.Since
		if !at.Behind.IsZero() && at.Behind.Before(since) {
			since = at.Behind
		}
		st.Lag = &metav1.Duration{Duration: max(now.Sub(since), 0)}
	case s.Destination.Ready && !at.Behind.IsZero():
		st.Lag = &metav1.Duration{Duration: max(now.Sub(at.Behind), 0)}
	case s.Destination.Ready:
		st.Lag = &metav1.Duration{}
	}
	return st
}

func moment(t time.Time) *metav1.MicroTime {
	if t.IsZero() {
		return nil
	}
	m := metav1.NewMicroTime(t)
	return &m
}
