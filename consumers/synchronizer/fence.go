package synchronizer

import (
	"context"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/afterimage-dr/afterimage/internal/fence"
	"github.com/afterimage-dr/afterimage/internal/live"
	"github.com/afterimage-dr/afterimage/internal/logging"
)

// fenceState is what the last reads of the fence told.
type fenceState struct {
	readAt  time.Time // beginning of the last successful read
	failing error     // of the last read, if it failed
	fence.State
	registered bool // this instance is in the Lease
}

// barrier is a writer's side of the recovery fence: it reads the Lease and tells
// whether writes may begin. See package fence for the protocol.
type barrier struct {
	s     *Synchronizer
	lease *fence.Fence
	state *live.Value[fenceState]
	read  sync.Mutex
	said  logging.State
}

func newBarrier(s *Synchronizer) *barrier {
	c := s.Settings.Load().Config
	return &barrier{s: s, lease: fence.New(s.kube, c.Namespace, c.Name), state: live.New(fenceState{})}
}

// open tells whether a write may begin now; the channel is closed when that may change.
func (f *barrier) open() (bool, <-chan struct{}) {
	st, changed := f.state.Get()
	return st.failing == nil && st.registered && !st.Fenced() && !st.readAt.IsZero() && time.Since(st.readAt) < f.s.FenceValid, changed
}

// run reads the fence until ctx ends.
func (f *barrier) run(ctx context.Context) error {
	for {
		f.refresh(ctx, time.Now())
		select {
		case <-ctx.Done():
			f.leave()
			return nil
		case <-time.After(f.s.FenceEvery):
		}
	}
}

// leave takes this instance out of the Lease: a recovery need not wait for it. It
// is called at the end, and only when no write is under way: after that none begins.
func (f *barrier) leave() {
	f.read.Lock()
	defer f.read.Unlock()
	registered := f.state.Load().registered
	f.state.Set(fenceState{})
	if !registered || !f.s.gate.idle(f.s.RequestTimeout) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveWithin)
	defer cancel()
	_ = f.lease.Unregister(ctx, f.s.InstanceID) // else a recovery waits for it, in vain
}

// leaveWithin bounds the last word to a destination that may be away.
const leaveWithin = 2 * time.Second

// down reads the fence now and tells whether that fails too, so that the
// destination as a whole is the trouble and not one object.
func (f *barrier) down(ctx context.Context) bool {
	f.refresh(ctx, time.Now())
	return f.state.Load().failing != nil
}

// refresh reads the fence unless somebody else did since.
func (f *barrier) refresh(ctx context.Context, since time.Time) {
	f.read.Lock()
	defer f.read.Unlock()
	old := f.state.Load()
	if old.readAt.After(since) {
		return
	}
	began := time.Now()
	lease, err := f.lease.Read(ctx)
	if err == nil && !lease.Registered(f.s.InstanceID) {
		if err = f.lease.Register(ctx, lease, f.s.InstanceID); err == nil || fence.Changed(err) {
			// Only what a read shows counts: a term may have been raised in between.
			began = time.Now()
			lease, err = f.lease.Read(ctx)
		}
	}
	if ctx.Err() != nil {
		return
	}
	st := fenceState{readAt: began, State: lease, registered: lease.Registered(f.s.InstanceID)}
	if err != nil {
		st = old
		st.failing = err
		what := unreached(err)
		f.said.Failing(f.s.Logger, what, what+": writing pauses",
			logging.DestinationCluster(f.s.Settings.Load().Destination), logging.Err(err))
	} else {
		f.sayState(old, st)
	}
	f.state.Set(st)
	if st.failing == nil && st.Fenced() {
		f.fenced(ctx, st)
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
		return "the destination does not allow reading and signing the recovery fence (get, create and patch leases in namespace " + fence.Namespace + ", create namespaces)"
	}
	return "the destination cannot be reached"
}

func (f *barrier) sayState(old, st fenceState) {
	cluster := logging.DestinationCluster(f.s.Settings.Load().Destination)
	if st.Fenced() {
		f.said.Failing(f.s.Logger, "fenced", "a recovery holds the destination: writing stops until it is resumed", cluster)
		return
	}
	if old.Fenced() {
		f.said.Working(f.s.Logger, "the recovery fence is lifted: writing goes on", cluster)
		f.s.drift.now() // what the recovery made of the objects is no standby
		return
	}
	f.said.Working(f.s.Logger, "the destination is reached again: writing goes on", cluster)
}

// fenced does what a raised fence asks of a writer: it says that it has no write
// under way and will begin none, and lifts the fence where a person asks for that
// in the manifest.
func (f *barrier) fenced(ctx context.Context, st fenceState) {
	if f.s.Settings.Load().Resume == strconv.FormatInt(st.Term, 10) {
		err := f.lease.Resume(ctx, st.State)
		f.sayUnless(err, "lifting the recovery fence failed")
		return
	}
	if st.Writers[f.s.InstanceID] == st.Term || f.s.gate.writing.Load() > 0 {
		return // said, or with the next read
	}
	err := f.lease.Acknowledge(ctx, st.State, f.s.InstanceID)
	f.sayUnless(err, "acknowledging the recovery fence failed")
}

// sayUnless logs an error, but not that the Lease changed: the next read tells.
func (f *barrier) sayUnless(err error, msg string) {
	if err != nil && !fence.Changed(err) {
		f.s.Logger.Warn(msg, logging.Err(err))
	}
}
