package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/logging"
)

// How often a cluster is asked whether it is there, and how long it may take.
const (
	probePeriod      = time.Minute
	probeRetry       = 5 * time.Second
	probeTimeout     = 10 * time.Second
	firstProbePeriod = 5 * time.Second
)

// probe is what the last look at a cluster found.
type probe struct {
	condition string

	mu      sync.Mutex
	uid     string
	reason  string
	message string
	changed time.Time
	log     logging.State
}

// look asks the cluster for its UID once.
func (p *probe) look(ctx context.Context, c cluster) (uid string, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	uid, err := c.ClusterUID(ctx)
	reason, message := "Reachable", ""
	if err != nil {
		reason = probeReason(err)
		message = err.Error() + advice[reason]
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reason != reason {
		p.changed = time.Now()
	}
	p.reason, p.message = reason, message
	if err == nil {
		p.uid = uid
	}
	return p.uid, err == nil
}

// advice says what to do where the error alone does not.
var advice = map[string]string{
	"Unauthorized": ": the credentials of the kubeconfig are refused (expired?); a renewed kubeconfig is taken up while running",
	"Forbidden":    ": the kubeconfig's user must be allowed to get namespaces",
}

func probeReason(err error) string {
	switch {
	case apierrors.IsUnauthorized(err):
		return "Unauthorized"
	case apierrors.IsForbidden(err):
		return "Forbidden"
	case errors.Is(err, context.DeadlineExceeded), kube.Unavailable(err):
		return "Unreachable"
	}
	return "Failing"
}

// status is the probe as a condition.
func (p *probe) status() metav1.Condition {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := metav1.Condition{Type: p.condition, Status: metav1.ConditionUnknown, Reason: "NotProbed", LastTransitionTime: metav1.NewTime(p.changed)}
	if p.reason != "" {
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, p.reason, p.message
		if p.reason == "Reachable" {
			c.Status = metav1.ConditionTrue
		}
	}
	return c
}

// probes looks at both clusters again and again. It tells the components the
// destination's UID, and stops everything when both are one cluster.
func (r *runner) probes(ctx context.Context, first chan<- struct{}) {
	var once sync.Once
	done := func() { once.Do(func() { close(first) }) }
	defer done()
	for ctx.Err() == nil {
		var wg sync.WaitGroup
		var uids [2]string
		var oks [2]bool
		for i, c := range []cluster{r.source, r.destination} {
			wg.Go(func() { uids[i], oks[i] = r.clusters[i].look(ctx, c) })
		}
		wg.Wait()
		if ctx.Err() != nil {
			return
		}
		r.sayReachable(oks)
		if oks[0] && oks[1] && uids[0] == uids[1] {
			r.halt("SameCluster", "source and destination are the same cluster (kube-system has the UID "+uids[0]+" in both): nothing is replicated")
		}
		if oks[1] {
			r.learnDestination(uids[1])
		}
		done()
		next := probePeriod
		if !oks[0] || !oks[1] {
			next = probeRetry
		}
		sleep(ctx, jitter(next))
	}
}

func (r *runner) sayReachable(oks [2]bool) {
	for i, which := range []string{"source", "destination"} {
		p := r.clusters[i]
		if oks[i] {
			p.log.Working(r.logger, which+" cluster reached")
			continue
		}
		c := p.status()
		p.log.Failing(r.logger, c.Reason, which+" cluster cannot be reached, it is tried again",
			slog.String("reason", c.Reason), slog.String("error", c.Message))
	}
}

// learnDestination tells the components which cluster the destination is: the
// loop guard needs it. The source's UID is not told: a new cluster behind the
// same kubeconfig must not become trusted by itself.
func (r *runner) learnDestination(uid string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.live.Load()
	if s.Config.DestinationUID == uid {
		return
	}
	s.Config.DestinationUID = uid
	r.live.Set(s)
}
