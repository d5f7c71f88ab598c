package e2e

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"

	"github.com/afterimage-dr/afterimage/topology"
)

// The workload writes into every object which life of its key it is (counted up
// by each recreation) and which state of that life. What the destination shows
// of them must never go down, not even for a moment, and a life that ended there
// must not come back.
const (
	lifeField  = "life"
	stateField = "state"
)

// history watches the destination throughout a test and checks every event.
type history struct {
	mu     sync.Mutex
	events []string
	seen   map[string]moment
	broken []string
	// newEpoch allows a key to go back under a higher epoch.
	newEpoch bool
	// undo is how long a life that ended may be back before its second end.
	undo   time.Duration
	back   map[string]resurrection
	undone int
	// styles, if not nil, are what configurations made of each key.
	styles map[string][2]int64
	cancel context.CancelFunc
	done   chan struct{}
}

type moment struct {
	life, state int
	gone        bool
	epoch       int64
}

// resurrection is a life that came back after its end.
type resurrection struct {
	since time.Time
	what  string
}

// mustUndoWithin is for a process that was stopped and continued: what it writes
// with its first breath may bring back what is deleted, but not for longer.
func (h *history) mustUndoWithin(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.undo, h.back = d, map[string]resurrection{}
}

// resurrected notes a life that is back, and its second end or replacement. It
// tells whether that is all there is to say about the event.
func (h *history) resurrected(key string, before, now moment) bool {
	if h.undo == 0 {
		return false
	}
	r, isBack := h.back[key]
	switch {
	case !isBack && before.gone && !now.gone && now.life <= before.life:
		h.back[key] = resurrection{time.Now(), fmt.Sprintf("%s: life %d came back after the end of life %d", key, now.life, before.life)}
		return true
	case !isBack:
		return false
	case !now.gone && now.life <= before.life:
		return true // still back
	}
	delete(h.back, key)
	h.undone++
	if d := time.Since(r.since); d > h.undo {
		h.broken = append(h.broken, fmt.Sprintf("%s, for %s", r.what, d))
	}
	return now.life <= before.life // its second end; else a newer life took its place
}

// undos is how many resurrections were undone so far.
func (h *history) undos() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.undone
}

// mayGoBackInNewEpoch is for a source that goes back itself.
func (h *history) mayGoBackInNewEpoch() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.newEpoch = true
}

// watchHistory begins to record; it must be called while the destination holds
// none of the objects.
func watchHistory(t *testing.T, c dynamic.Interface, gvr schema.GroupVersionResource, selector string) *history {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	h := &history{seen: map[string]moment{}, cancel: cancel, done: make(chan struct{})}
	list, err := c.Resource(gvr).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	go h.follow(ctx, c.Resource(gvr), selector, list.GetResourceVersion(), started)
	<-started
	t.Cleanup(func() { h.stop() })
	return h
}

func (h *history) stop() {
	h.cancel()
	<-h.done
}

func (h *history) follow(ctx context.Context, c dynamic.ResourceInterface, selector, rv string, started chan struct{}) {
	defer close(h.done)
	once := sync.OnceFunc(func() { close(started) })
	for ctx.Err() == nil {
		w, err := c.Watch(ctx, metav1.ListOptions{LabelSelector: selector, ResourceVersion: rv, AllowWatchBookmarks: true})
		once()
		if err != nil {
			if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
				h.fail("the history has a hole: " + err.Error())
				return
			}
			time.Sleep(100 * time.Millisecond)
			continue
		}
		rv = h.drain(w, rv)
	}
}

func (h *history) drain(w watch.Interface, rv string) string {
	defer w.Stop()
	for e := range w.ResultChan() {
		o, ok := e.Object.(*unstructured.Unstructured)
		if !ok {
			if s, isStatus := e.Object.(*metav1.Status); isStatus && s.Code == 410 {
				h.fail("the history has a hole: " + s.Message)
			}
			return rv
		}
		rv = o.GetResourceVersion()
		if e.Type != watch.Bookmark {
			h.observe(e.Type, o)
		}
	}
	return rv
}

func (h *history) observe(kind watch.EventType, o *unstructured.Unstructured) {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := o.GetNamespace() + "/" + o.GetName()
	data, _, _ := unstructured.NestedStringMap(o.Object, "data")
	now := moment{life: number(data[lifeField]), state: number(data[stateField]), gone: kind == watch.Deleted}
	if v, err := topology.ParseVersion(o.GetAnnotations()[topology.VersionAnnotation]); err == nil {
		now.epoch = v.Epoch
	}
	before := h.seen[key]
	h.events = append(h.events, fmt.Sprintf("%s %s %s life %d state %d version %s", time.Now().UTC().Format(time.RFC3339Nano), kind, key, now.life, now.state, o.GetAnnotations()["afterimage.io/version"]))
	h.configuration(key, o)
	if h.resurrected(key, before, now) {
		return
	}
	switch {
	case h.newEpoch && now.epoch > before.epoch:
	case now.life < before.life:
		h.broken = append(h.broken, fmt.Sprintf("%s went back from life %d to life %d", key, before.life, now.life))
	case now.life == before.life && before.gone && !now.gone:
		h.broken = append(h.broken, fmt.Sprintf("%s: life %d came back after its end", key, now.life))
	case now.life == before.life && now.state < before.state:
		h.broken = append(h.broken, fmt.Sprintf("%s: life %d went back from state %d to state %d", key, now.life, before.state, now.state))
	}
	h.seen[key] = now
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}

func (h *history) fail(why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.broken = append(h.broken, why)
}

// check fails the test if anything went back, and saves the history then.
func (h *history) check(t *testing.T) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.events) == 0 {
		t.Error("the history is empty: the watch saw nothing, so nothing was checked")
	}
	for _, r := range h.back {
		h.broken = append(h.broken, fmt.Sprintf("%s, and is still there after %s", r.what, time.Since(r.since)))
	}
	if len(h.broken) == 0 {
		return
	}
	file := saveLines(t, "history.txt", h.events)
	for i, b := range h.broken {
		if i == 10 {
			t.Errorf("… and %d more", len(h.broken)-i)
			break
		}
		t.Error(b)
	}
	t.Errorf("%d destination events saved in %s", len(h.events), file)
}
