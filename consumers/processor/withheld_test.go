package processor

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

const (
	webhooks    = `{"group":"admissionregistration.k8s.io","version":"v1","resource":"validatingwebhookconfigurations"}`
	definitions = `{"group":"apiextensions.k8s.io","version":"v1","resource":"customresourcedefinitions"}`
	holding     = `{"resources":[{"version":"v1","resource":"configmaps"},` + webhooks + `,` + definitions + `]}`
	letting     = `{"holdBackWebhooks":false,"resources":[{"version":"v1","resource":"configmaps"},` + webhooks + `,` + definitions + `]}`
)

func hookKey(name string) string {
	return "admissionregistration.k8s.io/v1/validatingwebhookconfigurations//" + name
}

func definitionKey(name string) string {
	return "apiextensions.k8s.io/v1/customresourcedefinitions//" + name
}

// hook is a webhook configuration, with a body that the rig's data is read from.
func (r *rig) hook(name string) *topology.Record {
	v := r.version()
	return &topology.Record{
		Key: hookKey(name), Kind: topology.Object, Op: topology.Update, Version: v, UID: "uid-" + name, Writer: "listener",
		Body: fmt.Appendf(nil, `{"data":{"v":"hook"},"metadata":{"name":%q},"webhooks":[{"clientConfig":{"service":{"name":"s"}}}]}`, name),
	}
}

func (r *rig) definition(name, strategy string) *topology.Record {
	v := r.version()
	return &topology.Record{
		Key: definitionKey(name), Kind: topology.Object, Op: topology.Update, Version: v, UID: "uid-" + name, Writer: "listener",
		Body: fmt.Appendf(nil, `{"data":{"v":"crd"},"metadata":{"name":%q},"spec":{"conversion":{"strategy":%q}}}`, name, strategy),
	}
}

// gone is the tombstone of a record.
func (r *rig) gone(of *topology.Record) *topology.Record {
	return &topology.Record{Key: of.Key, Kind: topology.Object, Op: topology.Delete, Version: r.version(), UID: of.UID, Writer: "listener"}
}

// heldBack checks what is reported, and that it does not make the component bad.
func (r *rig) heldBack(reason string, want ...string) {
	r.Helper()
	var s v1alpha1.LiveSynchronizationStatus
	r.p.Report(&s)
	var got []string
	if s.HeldBack != nil {
		got = s.HeldBack.Objects
		if s.HeldBack.Count != int64(len(got)) {
			r.Fatalf("%s: count %d with %d names", reason, s.HeldBack.Count, len(got))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		r.Fatalf("%s: held back (-want +got):\n%s", reason, diff)
	}
	if c := s.Components[0]; !c.Ready || c.Reason != "" {
		r.Fatalf("%s: component %+v; want it ready", reason, c)
	}
}

// restarts runs a check now, after a restart with the same state, and after one
// with none.
func (r *rig) restarts(check func(when string)) {
	r.Helper()
	check("while it runs")
	r.kill()
	r.start()
	r.settle()
	check("after a restart")
	r.kill()
	r.wipe()
	r.start()
	r.settle()
	check("without its state")
}

func TestWebhooksAreHeldBack(t *testing.T) {
	r := newRig(t)
	r.configure(holding)
	r.start()
	r.put("a", "1")
	one, two := r.hook("one"), r.hook("two")
	things := r.definition("things", "Webhook")
	r.append(r.topics.Changes, one, two, things, r.definition("others", "None"))
	r.settle()
	r.restarts(func(when string) {
		r.want(when, m{"a": "1", "things": "crd", "others": "crd"})
		r.heldBack(when, hookKey("one"), hookKey("two"), definitionKey("things"))
	})
	if n := r.tombstones(); n != 0 {
		t.Errorf("%d tombstones of what desired never held", n)
	}
	// What changes or goes in the source does so here.
	r.append(r.topics.Changes, r.gone(one), r.definition("things", "None"), r.definition("others", "Webhook"))
	r.settle()
	r.restarts(func(when string) {
		r.want(when, m{"a": "1", "things": "crd", "others": "crd"})
		r.heldBack(when, hookKey("two"), definitionKey("others"))
	})
	r.append(r.topics.Changes, r.gone(two), r.gone(r.definition("others", "")))
	r.settle()
	r.restarts(func(when string) {
		r.want(when, m{"a": "1", "things": "crd"})
		r.heldBack(when)
	})
}

func TestHoldBackWebhooksIsSwitched(t *testing.T) {
	r := newRig(t)
	r.configure(letting)
	r.start()
	r.put("a", "1")
	r.append(r.topics.Changes, r.hook("one"), r.definition("things", "Webhook"))
	r.settle()
	r.want("nothing is held back", m{"a": "1", "one": "hook", "things": "crd"})
	r.heldBack("nothing is held back")

	r.configure(holding)
	r.settle()
	r.eventually("the webhook leaves the selection", func() bool { return r.desired()["one"] == "" })
	r.want("the definition stays", m{"a": "1", "things": "crd"})
	r.settle()
	r.restarts(func(when string) { r.heldBack(when, hookKey("one"), definitionKey("things")) })
	for _, rec := range r.read(r.topics.Desired) {
		if rec.Key == hookKey("one") && rec.Op == topology.Delete && rec.Reason != topology.SkipHeldBack {
			t.Errorf("deleted for the reason %q", rec.Reason)
		}
	}

	r.configure(letting)
	r.settle()
	r.want("and comes back", m{"a": "1", "one": "hook", "things": "crd"})
	r.restarts(func(when string) { r.heldBack(when) })
}

// TestHoldBackWebhooksPassesTheLimit like any change of the configuration: what
// is at the destination still is not said to be kept from it.
func TestHoldBackWebhooksPassesTheLimit(t *testing.T) {
	r := newRig(t)
	r.configure(letting)
	r.start()
	all, names := m{}, []string{}
	for i := range 6 {
		name := fmt.Sprintf("hook-%d", i)
		r.append(r.topics.Changes, r.hook(name))
		all[name], names = "hook", append(names, hookKey(name))
	}
	r.settle()
	r.configure(holding)
	r.settle()
	token := r.wantBlocked("6 of 6 objects of admissionregistration.k8s.io/v1/validatingwebhookconfigurations")
	r.want("nothing is deleted", all)
	r.heldBack("nothing is held back yet")
	r.kill()
	r.start()
	r.settle()
	r.wantBlocked("6 of 6")
	r.heldBack("nothing is held back yet, after a restart")
	r.give(token)
	r.eventually("they are deleted", func() bool { return len(r.desired()) == 0 })
	r.settle()
	r.restarts(func(when string) { r.heldBack(when, names...) })
}

// TestWhatNoEntryNamesIsNotHeldBack any more, whether changes holds it or not.
func TestWhatNoEntryNamesIsNotHeldBack(t *testing.T) {
	r := newRig(t)
	r.configure(holding)
	r.start()
	r.put("a", "1")
	r.append(r.topics.Changes, r.hook("one"), r.definition("things", "Webhook"))
	r.settle()
	r.heldBack("before", hookKey("one"), definitionKey("things"))
	r.configure(everything)
	r.settle()
	r.eventually("the definition leaves", func() bool { return r.desired()["things"] == "" })
	r.settle()
	r.restarts(func(when string) { r.heldBack(when) })
}

// TestARecreatedChangesForgetsWhatWasHeldBack: a run that does not meet a key
// knows that nothing is kept under it.
func TestARecreatedChangesForgetsWhatWasHeldBack(t *testing.T) {
	for name, tc := range map[string]struct {
		config string
		want   []string
	}{
		"one is gone":    {holding, []string{hookKey("two"), definitionKey("things")}}, // things is at the destination still, and asked for
		"no entry names": {everything, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.configure(holding)
			r.start()
			r.append(r.topics.Changes, r.hook("one"), r.hook("two"), r.definition("things", "Webhook"))
			r.settle()
			r.heldBack("before", hookKey("one"), hookKey("two"), definitionKey("things"))
			r.kill()
			r.recreate(r.topics.Changes)
			r.configure(tc.config)
			r.append(r.topics.Changes, r.hook("two"))
			r.start()
			r.settle()
			r.settle() // the second passes when what was taken away is
			r.heldBack(name, tc.want...)
		})
	}
}
