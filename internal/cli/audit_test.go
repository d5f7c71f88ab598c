package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/afterimage-dr/afterimage/internal/pipeline"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

// madeLog opens the log of a data directory, which is made, with topics.
func madeLog(ts *testscript.TestScript, dir string, topics []string, partitions int32) (put func(topic string, partition int32, r topology.Record), done func()) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	dir = ts.MkAbs(dir)
	running, cancelRun := context.WithCancel(ctx)
	p, err := pipeline.Start(running, pipeline.Options{DataDir: dir}, nil)
	ts.Check(err)
	cancelRun()
	ts.Check(p.Wait())
	access, err := pipeline.OpenLog(pipeline.LogOptions{DataDir: dir})
	ts.Check(err)
	for _, topic := range topics {
		_, err := access.Client.Ensure(ctx, topic, stream.TopicSettings{Partitions: partitions, Replication: 1, Configs: map[string]string{"cleanup.policy": "compact"}})
		ts.Check(err)
	}
	w, err := access.Client.Writer()
	ts.Check(err)
	put = func(topic string, partition int32, r topology.Record) {
		ts.Check(w.AppendSync(ctx, r.Encode(topic, partition)))
		time.Sleep(2 * time.Millisecond) // the order of the log is in milliseconds
	}
	return put, func() {
		w.Close()
		access.Close()
		cancel()
	}
}

// logged DIR [NAMESPACE/NAME] makes a data directory with a log as a run leaves it:
// some changes of the LiveSynchronization and what became of them.
func logged(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: logged DIR NAME")
	}
	topics := topology.TopicsFor("dr", args[1])
	put, done := madeLog(ts, args[0], topics.All(), 2)
	defer done()
	config := topology.Config{Namespace: "dr", Name: args[1], Generation: 1}
	config.Replication.Resources = []v1alpha1.Resource{{Group: "apps", Version: "v1", Resource: "deployments"}, {Version: "v1", Resource: "secrets"}}
	body, _ := json.Marshal(config)
	for p := range int32(2) {
		put(topics.Changes, p, topology.Record{Key: topology.ControlKey(topology.Configured, ""), Kind: topology.Configured, Body: body})
	}
	rv := 0
	change := func(key string, op topology.Op, body, manager string) {
		rv++
		p := topology.PartitionOf(key, 2)
		r := topology.Record{Key: key, Kind: topology.Object, Op: op, Version: topology.Version{Epoch: 1, RV: fmt.Sprint(rv)}, UID: "u", ObservedAt: time.Now()}
		if body != "" {
			r.Body = []byte(body)
			r.Managers = []topology.Manager{{Name: manager, Operation: "Update", Time: "2026-01-02T15:04:05Z"}}
		}
		put(topics.Changes, p, r)
		if manager == "pending" {
			return
		}
		outcome := topology.Record{Key: key, Kind: topology.Object, Op: op, Version: r.Version, Reason: "deleted"}
		if op != topology.Delete {
			outcome.Body = fmt.Appendf(nil, `{"op":%q,"result":%q,"at":%q}`, op, op+"d", time.Now().UTC().Format(time.RFC3339Nano))
		}
		put(topics.Outcomes, p, outcome)
	}
	change("apps/v1/deployments/shop/web", topology.Create, `{"spec":{"replicas":1}}`, "helm")
	change("core/v1/secrets/shop/key", topology.Create, `{"data":{"k":"b25jZQ=="}}`, "helm")
	change("apps/v1/deployments/shop/web", topology.Update, `{"spec":{"replicas":3}}`, "kubectl-scale")
	change("core/v1/secrets/shop/key", topology.Update, `{"data":{"k":"dHdpY2U="}}`, "pending")
	change("apps/v1/deployments/shop/web", topology.Delete, "", "")
}
