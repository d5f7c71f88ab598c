package synchronizer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/live"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/topology"
)

// The fence is a Lease in the destination through which a recovery takes the
// destination over. This file is the protocol, from the synchronizer's side:
//
//   - The Lease is afterimage-system/<FenceName(namespace, name)>. No such Lease,
//     or no such namespace, is a fence that nobody raised.
//   - Annotation afterimage.io/term is the term of the recovery that raised it, a
//     positive number; holderIdentity says who.
//   - Annotation afterimage.io/resume is the highest term that a person has lifted.
//   - While term > resume, the destination is fenced: no synchronizer begins a
//     write. Each one that has none under way says so in an annotation
//     afterimage.io/acknowledged-<hash of its instance id>: <term>.
//   - A synchronizer reads the Lease every 3 s and begins a write only within
//     10 s of the beginning of a successful read; its requests take 8 s at most.
//     So 18 s after a term was raised nothing writes any more that follows this
//     protocol, acknowledged or not; a recovery waits 30 s.
const (
	FenceNamespace         = "afterimage-system"
	FenceTermAnnotation    = topology.MarkPrefix + "term"
	FenceResumeAnnotation  = topology.MarkPrefix + "resume"
	fenceAcknowledgePrefix = topology.MarkPrefix + "acknowledged-"
)

// FenceName of a LiveSynchronization.
func FenceName(namespace, name string) string {
	sum := sha256.Sum256([]byte(namespace + "/" + name))
	return hex.EncodeToString(sum[:16])
}

// fenceAcknowledgement is the annotation of an instance.
func fenceAcknowledgement(instance string) string {
	sum := sha256.Sum256([]byte(instance))
	return fenceAcknowledgePrefix + hex.EncodeToString(sum[:8])
}

var leases = kube.Resource{
	GroupVersionResource: schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"},
	Kind:                 "Lease", Namespaced: true,
}

// fenceState is what the last reads of the fence told.
type fenceState struct {
	readAt       time.Time // beginning of the last successful read
	failing      error     // of the last read, if it failed
	term, lifted int64
	acknowledged int64 // term this instance has acknowledged
}

func (f fenceState) fenced() bool { return f.term > f.lifted }

// fence reads the Lease and tells whether writes may begin.
type fence struct {
	s     *Synchronizer
	key   topology.Key
	state *live.Value[fenceState]
	read  sync.Mutex
	said  logging.State
}

func newFence(s *Synchronizer) *fence {
	c := s.Settings.Load().Config
	return &fence{
		s:     s,
		key:   topology.Key{Group: leases.Group, Version: leases.Version, Resource: leases.Resource, Namespace: FenceNamespace, Name: FenceName(c.Namespace, c.Name)},
		state: live.New(fenceState{}),
	}
}

// open tells whether a write may begin now; the channel is closed when that may change.
func (f *fence) open() (bool, <-chan struct{}) {
	st, changed := f.state.Get()
	return st.failing == nil && !st.fenced() && !st.readAt.IsZero() && time.Since(st.readAt) < f.s.FenceValid, changed
}

// run reads the fence until ctx ends.
func (f *fence) run(ctx context.Context) error {
	for {
		f.refresh(ctx, time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(f.s.FenceEvery):
		}
	}
}

// down reads the fence now and tells whether that fails too, so that the
// destination as a whole is the trouble and not one object.
func (f *fence) down(ctx context.Context) bool {
	f.refresh(ctx, time.Now())
	return f.state.Load().failing != nil
}

// refresh reads the fence unless somebody else did since.
func (f *fence) refresh(ctx context.Context, since time.Time) {
	f.read.Lock()
	defer f.read.Unlock()
	old := f.state.Load()
	if old.readAt.After(since) {
		return
	}
	began := time.Now()
	object, err := f.s.read(ctx, leases, f.key)
	if ctx.Err() != nil {
		return
	}
	st := fenceState{readAt: began, acknowledged: old.acknowledged}
	if err != nil {
		st = old
		st.failing = err
		what := unreached(err)
		f.said.Failing(f.s.Logger, what, what+": writing pauses",
			logging.DestinationCluster(f.s.Settings.Load().Destination), logging.Err(err))
	} else {
		st.term, st.lifted = terms(object)
		f.sayState(old, st)
	}
	f.state.Set(st)
	if st.failing == nil && st.fenced() && st.acknowledged != st.term {
		f.acknowledge(ctx, object, st)
	}
	if old.failing != nil && st.failing == nil {
		f.s.identity.check() // it may be another cluster that came back
	}
}

// unreached says what kind of trouble keeps the fence from being read. A server
// that refuses was reached: the way to mend it is another.
func unreached(err error) string {
	switch {
	case apierrors.IsUnauthorized(err):
		return "the destination refuses the credentials"
	case apierrors.IsForbidden(err):
		return "the destination does not allow reading the recovery fence (get leases in namespace " + FenceNamespace + ")"
	}
	return "the destination cannot be reached"
}

func (f *fence) sayState(old, st fenceState) {
	cluster := logging.DestinationCluster(f.s.Settings.Load().Destination)
	if st.fenced() {
		f.said.Failing(f.s.Logger, "fenced", "a recovery holds the destination: writing stops until it is resumed", cluster)
		return
	}
	if old.fenced() {
		f.said.Working(f.s.Logger, "the recovery fence is lifted: writing goes on", cluster)
		return
	}
	f.said.Working(f.s.Logger, "the destination is reached again: writing goes on", cluster)
}

// terms reads the term that holds and the one that was lifted.
func terms(lease *found) (term, lifted int64) {
	if lease == nil {
		return 0, 0
	}
	number := func(annotation string) int64 {
		n, err := strconv.ParseInt(lease.meta.Annotations[annotation], 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	return number(FenceTermAnnotation), number(FenceResumeAnnotation)
}

// acknowledge tells the recovery that this instance has no write under way and
// will begin none. It is the one write that a fence allows.
func (f *fence) acknowledge(ctx context.Context, lease *found, st fenceState) {
	if f.s.gate.writing.Load() > 0 {
		return // with the next read
	}
	escape := strings.NewReplacer("~", "~0", "/", "~1").Replace
	term := strconv.FormatInt(st.term, 10)
	patch, err := json.Marshal([]patchOp{
		{"test", "/metadata/uid", lease.meta.UID},
		{"test", "/metadata/annotations/" + escape(FenceTermAnnotation), term},
		{"add", "/metadata/annotations/" + escape(fenceAcknowledgement(f.s.InstanceID)), term},
	})
	if err != nil {
		return
	}
	if _, err := f.s.kube.JSONPatch(ctx, leases, f.key, patch, topology.FieldManager); err != nil {
		if !apierrors.IsInvalid(err) && !apierrors.IsNotFound(err) { // else: it changed; the next read tells
			f.s.Logger.Warn("acknowledging the recovery fence failed", logging.Err(err))
		}
		return
	}
	st.acknowledged = st.term
	f.state.Set(st)
}
