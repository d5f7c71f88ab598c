package audit_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/afterimage-dr/afterimage/consumers/audit"
	"github.com/afterimage-dr/afterimage/topology"
)

func newNodeRig(t testing.TB) *rig {
	t.Helper()
	return newRigOf(t, topology.NodeTopics("dr", "source", "destination", "/test"), 1)
}

var everybody = topology.NodeACL{Permissions: 31, Scheme: "world", ID: "anyone"}

// node appends a state of a znode as the producer does; nil data is null.
func (r *rig) node(path string, op topology.Op, data []byte, meta topology.NodeMeta) *topology.Record {
	r.t.Helper()
	r.rv++
	rec := &topology.Record{Key: topology.NodeKey(path).String(), Kind: topology.Object, Op: op, ObservedAt: time.Now()}
	if op != topology.Delete {
		rec.Version, rec.Hash, rec.Node = topology.Version{RV: fmt.Sprint(r.rv), NamespaceRV: "0"}, topology.NodeHash(data), &meta
		rec.Body = append([]byte{}, data...)
		rec.Managers = []topology.Manager{{Name: "zookeeper", Operation: "Update", Time: "2026-01-02T15:04:05Z"}}
	}
	r.put(r.audit.Topics.Changes, rec)
	return rec
}

// nodeOutcome as the consumer notes it.
func (r *rig) nodeOutcome(of *topology.Record, result, reason string) {
	r.t.Helper()
	rec := &topology.Record{Key: of.Key, Kind: topology.Object, Op: of.Op, Version: of.Version, ObservedAt: of.ObservedAt, Reason: result}
	if result != "deleted" {
		rec.Body, _ = json.Marshal(map[string]any{"op": of.Op, "result": result, "reason": reason, "at": time.Now().UTC()})
	}
	r.put(r.audit.Topics.Outcomes, rec)
}

// nodeSaid is a change in a line.
func nodeSaid(all []audit.Change) (out []string) {
	for _, c := range all {
		s := fmt.Sprintf("%s %s", c.Op, c.Path)
		for _, f := range c.Fields {
			s += fmt.Sprintf(" %s:%s>%s", f.Path, f.Old, f.New)
		}
		if c.ChangedAt != nil {
			s += " at " + c.ChangedAt.Format("15:04:05")
		}
		out = append(out, strings.TrimSuffix(s+" = "+c.Applied.Result+" "+c.Applied.Reason, " "))
	}
	return out
}

func TestAuditTellsTheLifeOfANode(t *testing.T) {
	r := newNodeRig(t)
	open := topology.NodeMeta{ACL: []topology.NodeACL{everybody}}
	r.nodeOutcome(r.node("/test/a", topology.Create, []byte("1"), open), "created", "")
	r.nodeOutcome(r.node("/test/a", topology.Update, []byte("2"), open), "updated", "")
	some := topology.NodeMeta{ACL: []topology.NodeACL{
		{Permissions: 1, Scheme: "ip", ID: "10.0.0.0/8"}, {Permissions: 1, Scheme: "world", ID: "anyone"}, {Permissions: 2, Scheme: "world", ID: "anyone"},
	}}
	r.nodeOutcome(r.node("/test/a", topology.Update, []byte("2"), some), "failed", "ACLRefused")
	r.node("/test/a", topology.Update, []byte{0, 1}, some)
	r.node("/test/a", topology.Update, nil, some)
	r.node("/test/a", topology.Update, []byte{}, some)
	r.node("/test/ab", topology.Create, []byte("x"), topology.NodeMeta{Mode: topology.NodeEphemeral})
	// The ends of two lives of one path are told apart though neither has a version.
	first := r.node("/test/a", topology.Delete, nil, open)
	r.nodeOutcome(first, "failed", "NotEmpty")
	r.nodeOutcome(first, "deleted", "")
	r.heartbeat()
	r.node("/test/a", topology.Create, []byte("3"), open)
	r.node("/test/a/b/c/d", topology.Create, []byte("deep"), topology.NodeMeta{})
	r.nodeOutcome(r.node("/test/a", topology.Delete, nil, open), "failed", "NotEmpty")
	want := []string{
		`create /test/a at 15:04:05 = created`,
		`update /test/a /data:"1">"2" at 15:04:05 = updated`,
		`update /test/a /acl/ip:10.0.0.0~18:>"r" /acl/world:anyone:"cdrwa">"rw" = failed ACLRefused`,
		`update /test/a /bytes:1>2 /data:"2"> /dataBase64:>"AAE=" at 15:04:05 = no write`,
		`update /test/a /bytes:2> /data:>null /dataBase64:"AAE="> at 15:04:05 = no write`,
		`update /test/a /bytes:>0 /data:null>"" at 15:04:05 = no write`,
		`create /test/ab at 15:04:05 = no write`,
		`delete /test/a = deleted`,
		`create /test/a at 15:04:05 = pending`,
		`create /test/a/b/c/d at 15:04:05 = pending`,
		`delete /test/a = failed NotEmpty`,
	}
	all := r.ask(audit.Query{})
	if diff := cmp.Diff(want, nodeSaid(all)); diff != "" {
		t.Errorf("everything (-want +got):\n%s", diff)
	}
	for _, c := range all {
		if c.By != nil || c.Name != "" || c.Namespace != "" || c.Group != "" {
			t.Errorf("a node has neither who changed it nor what names objects: %+v", c)
		}
	}
	for name, test := range map[string]struct {
		reason string
		query  audit.Query
		want   []string
	}{
		"object":    {"one node alone", audit.Query{Object: topology.NodeKey("/test/ab").String()}, want[6:7]},
		"under":     {"a node and all below it, and none whose name begins alike", audit.Query{Under: "/test/a", Op: topology.Create}, []string{want[0], want[8], want[9]}},
		"all":       {"everything is below the root of all", audit.Query{Under: "/", Op: topology.Delete}, []string{want[7], want[10]}},
		"namespace": {"a part of a path is no namespace", audit.Query{Namespace: "a"}, nil},
		"by":        {"the name that stands for ZooKeeper is nobody's", audit.Query{By: "zookeeper"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, nodeSaid(r.ask(test.query))); diff != "" {
				t.Errorf("%s (-want +got):\n%s", test.reason, diff)
			}
		})
	}
	if got := r.ask(audit.Query{Object: topology.NodeKey("/test/ab").String(), Values: true}); len(got) != 1 || len(got[0].Fields) != 1 ||
		string(got[0].Fields[0].New) != `{"bytes":1,"data":"x","mode":"ephemeral"}` {
		t.Errorf("with values: %v", nodeSaid(got))
	}
}

// What not everybody may read in the source must not be read in an audit.
func TestNodesAreHidden(t *testing.T) {
	const secret = "hush"
	user := topology.NodeACL{Permissions: 31, Scheme: "digest", ID: "bob:" + secret}
	odd := topology.NodeACL{Permissions: 31, Scheme: "custom", ID: secret}
	lists := [][]topology.NodeACL{
		{user}, {odd, user}, {{Permissions: 31 - 1, Scheme: "world", ID: "anyone"}, user}, {everybody, user, {Permissions: 1, Scheme: "digest", ID: secret}},
	}
	r := newNodeRig(t)
	for i, acl := range lists {
		op, data := topology.Update, []byte(secret+fmt.Sprint(i))
		if i == 0 {
			op = topology.Create
		}
		if i == len(lists)-1 {
			data = []byte("shown")
		}
		r.node("/test/s", op, data, topology.NodeMeta{ACL: acl})
	}
	r.node("/test/s", topology.Update, []byte("shown too"), topology.NodeMeta{ACL: []topology.NodeACL{everybody}})
	r.node("/test/s", topology.Update, []byte(secret), topology.NodeMeta{ACL: []topology.NodeACL{user}})
	r.node("/test/s", topology.Delete, nil, topology.NodeMeta{})
	for _, values := range []bool{false, true} {
		out, err := json.Marshal(r.ask(audit.Query{Values: values}))
		check(t, err)
		if strings.Contains(string(out), secret) || strings.Contains(string(out), "aHVza") {
			t.Errorf("values %v: something secret is told: %s", values, out)
		}
		for _, told := range []string{"sha256:", "digest:bob:sha256:", `"shown"`, "custom:sha256:"} {
			if !strings.Contains(string(out), told) {
				t.Errorf("values %v: %s is not told: %s", values, told, out)
			}
		}
	}
}

// A schedule leaves a gap between any two runs: those without a change between them
// are one.
func TestGapsThatMeetAreOne(t *testing.T) {
	r := newNodeRig(t)
	began := time.Now().Add(-time.Hour).Truncate(time.Second).UTC()
	gap := func(from, to int) {
		body, _ := json.Marshal(topology.GapBody{From: began.Add(time.Duration(from) * time.Minute), To: began.Add(time.Duration(to) * time.Minute)})
		r.put(r.audit.Topics.Changes, &topology.Record{Key: topology.ControlKey(topology.Gap, ""), Kind: topology.Gap, Body: body})
	}
	gap(0, 1)
	gap(1, 2)
	gap(2, 3)
	r.node("/test", topology.Create, nil, topology.NodeMeta{})
	gap(3, 4)
	gap(6, 7)
	var got []string
	for _, c := range r.ask(audit.Query{}) {
		if c.Kind == audit.OfGap {
			got = append(got, fmt.Sprint(c.From.Sub(began), c.To.Sub(began)))
		} else {
			got = append(got, c.Path)
		}
	}
	if diff := cmp.Diff([]string{"0s 3m0s", "/test", "3m0s 4m0s", "6m0s 7m0s"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
