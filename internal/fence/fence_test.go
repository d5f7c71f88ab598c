package fence

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func destination(t *testing.T) *kube.Client {
	t.Helper()
	_, d := testenv.Pair(t)
	c, err := kube.New(d.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func read(t *testing.T, f *Fence) State {
	t.Helper()
	s, err := f.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func register(t *testing.T, f *Fence, instances ...string) {
	t.Helper()
	for _, i := range instances {
		if err := f.Register(t.Context(), read(t, f), i); err != nil {
			t.Fatal(err)
		}
	}
}

// The whole life of a fence: writers register, a recovery raises it, those that
// are there acknowledge, one that is gone is not waited for, a person lifts it.
func TestLife(t *testing.T) {
	f := New(destination(t), "life", "a")
	if s := read(t, f); s.Fenced() || len(s.Writers) != 0 {
		t.Fatalf("before anything: %+v", s)
	}
	register(t, f, "one", "two", "dead")
	if s := read(t, f); !s.Registered("one") || !s.Registered("dead") || s.Registered("other") || s.Fenced() {
		t.Fatalf("registered: %+v", s)
	}
	term, err := f.Raise(t.Context(), "recovery", nil)
	if err != nil {
		t.Fatal(err)
	}
	if s := read(t, f); !s.Fenced() || s.Term != term || s.Holder != "recovery" || !slices.Equal(s.Waiting(), []string{"dead", "one", "two"}) {
		t.Fatalf("raised: %+v", s)
	}
	if err := f.Acknowledge(t.Context(), read(t, f), "one"); err != nil {
		t.Fatal(err)
	}
	var told [][]string
	done := make(chan struct{})
	go func() {
		defer close(done)
		silent, err := f.Await(t.Context(), time.Now(), func(i string) bool { return i == "dead" }, func(w []string) {
			told = append(told, w)
			if err := f.Acknowledge(t.Context(), read(t, f), "two"); err != nil {
				t.Error(err)
			}
		})
		if err != nil || len(silent) != 0 {
			t.Errorf("silent %v, error %v", silent, err)
		}
	}()
	<-done
	if len(told) != 1 || !slices.Equal(told[0], []string{"two"}) {
		t.Errorf("waited for %v, want once for two", told)
	}
	if s := read(t, f); s.Registered("dead") || !s.Registered("one") {
		t.Errorf("a writer that did not answer stays registered: %+v", s)
	}

	again, err := f.Raise(t.Context(), "recovery", nil)
	if err != nil || again != term {
		t.Errorf("a second recovery while fenced has term %d, %v; want %d", again, err, term)
	}
	if err := f.Resume(t.Context(), read(t, f)); err != nil {
		t.Fatal(err)
	}
	if read(t, f).Fenced() {
		t.Error("fenced after it was lifted")
	}
	next, err := f.Raise(t.Context(), "recovery", nil)
	if err != nil || next <= term {
		t.Errorf("the next recovery has term %d, %v; want more than %d", next, err, term)
	}
}

// Writers that never answer are waited for until the protocol itself says that
// they cannot write any more, and no longer.
func TestSilentWriter(t *testing.T) {
	f := New(destination(t), "silent", "a")
	register(t, f, "silent")
	if _, err := f.Raise(t.Context(), "recovery", nil); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	nobody := func(string) bool { return false }
	if _, err := f.Await(short, time.Now(), nobody, func([]string) {}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("did not wait: %v", err)
	}
	silent, err := f.Await(t.Context(), time.Now().Add(-Settled), nobody, func([]string) {})
	if err != nil || !slices.Equal(silent, []string{"silent"}) {
		t.Errorf("silent %v, %v", silent, err)
	}
}

// One recovery at a time; another may take over from one that died.
func TestHeld(t *testing.T) {
	f := New(destination(t), "held", "a")
	term, err := f.Raise(t.Context(), "first", nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.Hold(ctx, "first", term, func(err error) { t.Error(err) })
	}()
	if _, err := f.Raise(t.Context(), "second", nil); !errors.Is(err, ErrHeld) {
		t.Fatalf("two at once: %v", err)
	}
	if _, err := f.Raise(t.Context(), "first", nil); err != nil {
		t.Fatalf("the same one again: %v", err)
	}
	cancel()
	<-done
	if s := read(t, f); s.Holder != "" || !s.Fenced() {
		t.Errorf("after it ended: %+v; want no holder, and fenced still", s)
	}
	if again, err := f.Raise(t.Context(), "second", nil); err != nil || again != term {
		t.Errorf("the next one: term %d, %v; want %d", again, err, term)
	}
	// One that died is waited for, by our own clock, and then taken over from.
	var told []string
	began := time.Now()
	again, err := f.Raise(t.Context(), "third", func(holder string) { told = append(told, holder) })
	if err != nil || again != term || !slices.Equal(told, []string{"second"}) || time.Since(began) < HoldFor {
		t.Errorf("after one that died: term %d, %v, waited for %v, %s", again, err, told, time.Since(began))
	}
}

// A writer that leaves is not waited for, and a fence made by hand is honoured.
func TestUnregisterAndBareLease(t *testing.T) {
	c := destination(t)
	f := New(c, "bare", "a")
	register(t, f, "leaves")
	if err := f.Unregister(t.Context(), "leaves"); err != nil {
		t.Fatal(err)
	}
	if s := read(t, f); s.Registered("leaves") {
		t.Errorf("still registered: %+v", s)
	}
	if _, err := c.JSONPatch(t.Context(), Resource, f.key, []byte(`[{"op":"remove","path":"/metadata/annotations"}]`), "person"); err != nil {
		t.Log("no annotations left already:", err)
	}
	register(t, f, "one")
	if s := read(t, f); !s.Registered("one") {
		t.Errorf("in a lease without annotations: %+v", s)
	}
}
