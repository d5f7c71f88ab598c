package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/afterimage-dr/afterimage/consumers/audit"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/topology"
)

// rig is a log to write into and to ask.
type rig struct {
	t      testing.TB
	audit  audit.Audit
	writer *stream.Writer
	rv     int
	// partitions of the topics.
	partitions int32
}

func newRig(t testing.TB) *rig {
	t.Helper()
	return newRigOf(t, topology.TopicsFor("dr", "pre"), 3)
}

func newRigOf(t testing.TB, topics topology.Topics, partitions int32) *rig {
	t.Helper()
	e, err := stream.StartEmbeddedWith(t.TempDir(), stream.EmbeddedOptions{CompactBytes: -1})
	check(t, err)
	t.Cleanup(func() { _ = e.Close() })
	c, err := stream.NewClient(e.Dial(), "test")
	check(t, err)
	t.Cleanup(c.Close)
	for _, topic := range []string{topics.Changes, topics.Outcomes} {
		_, err := c.Ensure(t.Context(), topic, stream.TopicSettings{Partitions: partitions, Replication: -1, Configs: map[string]string{"cleanup.policy": "compact"}})
		check(t, err)
	}
	w, err := c.Writer()
	check(t, err)
	t.Cleanup(w.Close)
	return &rig{t: t, audit: audit.Audit{Client: c, Topics: topics}, writer: w, rv: 100, partitions: partitions}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// change appends a state of an object; an empty body deletes it.
func (r *rig) change(key string, op topology.Op, body string, edit ...func(*topology.Record)) *topology.Record {
	r.t.Helper()
	r.rv++
	rec := &topology.Record{
		Key: key, Kind: topology.Object, Op: op, Version: topology.Version{Epoch: 7, RV: fmt.Sprint(r.rv)}, UID: "u", ObservedAt: time.Now(),
	}
	if body != "" {
		rec.Body = []byte(body)
	}
	for _, e := range edit {
		e(rec)
	}
	r.put(r.audit.Topics.Changes, rec)
	return rec
}

func (r *rig) put(topic string, rec *topology.Record) {
	r.t.Helper()
	check(r.t, r.writer.AppendSync(r.t.Context(), rec.Encode(topic, topology.PartitionOf(rec.Key, r.partitions))))
	time.Sleep(2 * time.Millisecond) // the log's time is in milliseconds
}

// outcome of a change under a configuration's generation.
func (r *rig) outcome(of *topology.Record, result string, edit ...func(map[string]any)) {
	r.t.Helper()
	v := of.Version
	v.Generation = 1700000000
	rec := &topology.Record{Key: of.Key, Kind: topology.Object, Op: of.Op, Version: v, Reason: result, ObservedAt: of.ObservedAt}
	body := map[string]any{"op": of.Op, "result": result, "version": v.String(), "at": time.Now().UTC()}
	for _, e := range edit {
		e(body)
	}
	if result != "deleted" {
		rec.Body, _ = json.Marshal(body)
	}
	r.put(r.audit.Topics.Outcomes, rec)
}

// heartbeat goes through changes and comes out at the other end.
func (r *rig) heartbeat() {
	r.t.Helper()
	rec := topology.Record{Key: topology.ControlKey(topology.Heartbeat, ""), Kind: topology.Heartbeat, ObservedAt: time.Now(), VerifiedAt: time.Now()}
	for _, topic := range []string{r.audit.Topics.Changes, r.audit.Topics.Outcomes} {
		for p := range r.partitions {
			check(r.t, r.writer.AppendSync(r.t.Context(), rec.Encode(topic, p)))
		}
	}
	time.Sleep(2 * time.Millisecond)
}

func (r *rig) ask(q audit.Query) (all []audit.Change) {
	r.t.Helper()
	check(r.t, r.audit.Run(r.t.Context(), q, func(c *audit.Change) error { all = append(all, *c); return nil }))
	return all
}

// said is a change in a line.
func said(c audit.Change) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s", c.Op, c.Namespace, c.Name)
	for _, m := range c.By {
		fmt.Fprintf(&b, " by %s", m.Name)
	}
	for _, f := range c.Fields {
		fmt.Fprintf(&b, " %s:%s>%s", f.Path, f.Old, f.New)
	}
	if c.Unknown {
		b.WriteString(" ?")
	}
	return b.String() + " = " + c.Applied.Result
}

func saids(all []audit.Change) (out []string) {
	for _, c := range all {
		out = append(out, said(c))
	}
	return out
}

func cm(name string) string { return "core/v1/configmaps/shop/" + name }

func by(names ...string) func(*topology.Record) {
	return func(r *topology.Record) {
		for i, n := range names {
			r.Managers = append(r.Managers, topology.Manager{Name: n, Operation: "Update", Time: fmt.Sprintf("2026-01-01T00:00:%02dZ", i)})
		}
	}
}

func TestAuditTellsTheLifeOfAnObject(t *testing.T) {
	r := newRig(t)
	created := r.change(cm("a"), topology.Create, `{"metadata":{"resourceVersion":"1"},"data":{"x":"1","gone":"y"}}`, by("helm"))
	r.outcome(created, "created")
	updated := r.change(cm("a"), topology.Update, `{"metadata":{"resourceVersion":"2"},"data":{"x":"2","a/b":"z"},"list":[1,2]}`, by("helm", "kubectl"))
	r.outcome(updated, "failed", func(b map[string]any) { b["reason"], b["message"] = "Invalid", "no" })
	r.outcome(updated, "updated")
	r.change(cm("a"), topology.Update, `{"metadata":{"resourceVersion":"3"},"data":{"x":"2","a/b":"z"},"list":[1,3]}`, by("helm", "kubectl", "editor"))
	r.change("apps/v1/deployments/shop/b", topology.Create, `{"spec":{"replicas":1}}`)
	r.heartbeat()
	gone := r.change(cm("a"), topology.Delete, "", func(rec *topology.Record) { rec.Inferred, rec.Reason = true, "missing" })
	r.outcome(gone, "deleted")
	r.change("core/v1/namespaces//shop", topology.Create, `{}`)
	want := []string{
		`create shop a by helm = created`,
		`update shop a by kubectl /data/a~1b:>"z" /data/gone:"y"> /data/x:"1">"2" /list:>[1,2] = updated`,
		`update shop a by editor /list/1:2>3 = no write`,
		`create shop b = no write`,
		`delete shop a = deleted`,
		`create  shop = pending`,
	}
	if diff := cmp.Diff(want, saids(r.ask(audit.Query{}))); diff != "" {
		t.Errorf("everything (-want +got):\n%s", diff)
	}
	for name, test := range map[string]struct {
		reason string
		query  audit.Query
		want   []string
	}{
		"object":    {"one object's life, from one partition", audit.Query{Object: cm("a")}, []string{want[0], want[1], want[2], want[4]}},
		"by":        {"changes a manager made, not those it once had a part in", audit.Query{By: "kubectl"}, want[1:2]},
		"op":        {"one kind of change", audit.Query{Op: topology.Delete}, want[4:5]},
		"namespace": {"a namespace is in itself", audit.Query{Namespace: "shop", Op: topology.Create}, []string{want[0], want[3], want[5]}},
		"elsewhere": {"no other namespace", audit.Query{Namespace: "sho"}, nil},
		"since":     {"the first is compared with what was before", audit.Query{Since: updated.ObservedAt, Object: cm("a")}, []string{want[1], want[2], want[4]}},
		"since all": {"over all partitions", audit.Query{Since: updated.ObservedAt}, want[1:]},
		"until":     {"what came later is left out", audit.Query{Until: updated.ObservedAt}, want[:2]},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, saids(r.ask(test.query))); diff != "" {
				t.Errorf("%s (-want +got):\n%s", test.reason, diff)
			}
		})
	}
	last := r.ask(audit.Query{Object: cm("a"), Op: topology.Delete})[0]
	if !last.Inferred || last.Reason != "missing" {
		t.Errorf("an inferred delete does not say so: %+v", last)
	}
}

// What was seen while the broker was away belongs to the time at which it was seen.
func TestAuditGoesByTheMoment(t *testing.T) {
	r := newRig(t)
	seen := time.Now().Add(-time.Hour)
	r.change(cm("a"), topology.Create, `{}`, func(rec *topology.Record) { rec.ObservedAt = seen })
	if got := r.ask(audit.Query{Since: time.Now().Add(-time.Minute)}); len(got) != 0 {
		t.Errorf("told as of the last minute: %v", saids(got))
	}
	if got := r.ask(audit.Query{Since: seen.Add(-time.Minute), Until: seen.Add(time.Minute)}); len(got) != 1 {
		t.Errorf("not told as of then: %v", saids(got))
	}
}

func TestAuditTellsWhatIsNotKnown(t *testing.T) {
	r := newRig(t)
	r.change(cm("a"), topology.Update, `{"data":{}}`)
	again := r.change(cm("a"), topology.Update, `{"data":{}}`, func(rec *topology.Record) { rec.Requested = true }, by("helm"))
	r.change(cm("a"), topology.Update, `{"data":{}}`, func(rec *topology.Record) { rec.NamespaceLabels = map[string]string{"l": "1"} }, by("helm"))
	body, _ := json.Marshal(topology.GapBody{From: time.Now().Add(-time.Minute), To: time.Now()})
	for p := range r.partitions {
		g := topology.Record{Key: topology.ControlKey(topology.Gap, "1"), Kind: topology.Gap, Body: body}
		check(t, r.writer.AppendSync(t.Context(), g.Encode(r.audit.Topics.Changes, p)))
	}
	all := r.ask(audit.Query{})
	if len(all) != 4 || !all[0].Unknown || !all[1].Again || all[1].By != nil || all[3].Kind != audit.OfGap {
		t.Fatalf("told: %+v", all)
	}
	if want := []audit.Field{{Path: "(namespace)/labels/l", New: json.RawMessage(`"1"`)}}; !cmp.Equal(want, all[2].Fields) || all[2].By != nil {
		t.Errorf("labels of the namespace: %+v", all[2])
	}
	if got := r.ask(audit.Query{Object: again.Key}); len(got) != 4 {
		t.Errorf("one object, with the gap: %v", saids(got))
	}
	if got := r.ask(audit.Query{By: "helm"}); len(got) != 0 {
		t.Errorf("changes of helm: %v", saids(got))
	}
}

// Nothing of a Secret's values may come out, wherever they stand.
func TestSecretsAreHidden(t *testing.T) {
	const hidden = "aHVzaA=="
	states := []string{
		`{"type":"Opaque","metadata":{"name":"s","labels":{"l":"seen"}},"data":{"k":"` + hidden + `1"}}`,
		`{"type":"Opaque","metadata":{"name":"s","annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"data\":{\"k\":\"` + hidden + `\"}}","a":"` + hidden + `"}},"data":{"k":"` + hidden + `2","l":"` + hidden + `"},"stringData":{"m":"` + hidden + `"}}`,
		`{"type":"Opaque","metadata":{"name":"s","odd":{"deep":["` + hidden + `"]}},"stringData":"` + hidden + `","data":["` + hidden + `"],"other":{"` + "x" + `":"` + hidden + `"}}`,
		`{"type":"kubernetes.io/tls","data":null}`,
	}
	r := newRig(t)
	key := "core/v1/secrets/shop/s"
	r.change(key, topology.Create, states[0])
	for _, s := range states[1:] {
		r.change(key, topology.Update, s)
	}
	r.change(key, topology.Delete, "")
	for _, s := range states {
		r.change(key, topology.Create, s)
		r.change(key, topology.Delete, "")
	}
	for _, values := range []bool{false, true} {
		all := r.ask(audit.Query{Values: values})
		out, err := json.Marshal(all)
		check(t, err)
		if strings.Contains(string(out), "aHVzaA") {
			t.Errorf("values %v: a secret value is told: %s", values, out)
		}
		if !strings.Contains(string(out), "/data/k") || !strings.Contains(string(out), "sha256:") || !strings.Contains(string(out), "seen") {
			t.Errorf("values %v: neither that a value changed is told nor what is harmless: %s", values, out)
		}
	}
}

func TestFollow(t *testing.T) {
	r := newRig(t)
	r.change(cm("old"), topology.Create, `{"data":{"x":"1"}}`)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	told := make(chan audit.Change, 10)
	done := make(chan error, 1)
	go func() {
		done <- r.audit.Follow(ctx, audit.Query{Since: time.Now().Add(time.Millisecond)}, func(c *audit.Change) error { told <- *c; return nil })
	}()
	time.Sleep(1500 * time.Millisecond)
	rec := r.change(cm("old"), topology.Update, `{"data":{"x":"2"}}`)
	r.outcome(rec, "updated")
	select {
	case c := <-told:
		if got := said(c); got != `update shop old /data/x:"1">"2" = updated` {
			t.Errorf("told %s", got)
		}
	case <-ctx.Done():
		t.Fatal("never told")
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}
