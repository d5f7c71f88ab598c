package synchronization

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/afterimage-dr/afterimage/internal/manifest"
	"github.com/afterimage-dr/afterimage/internal/nodecopy"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/internal/testenv"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// nodesRig is a log and a server whose chroots are a source and a destination.
type nodesRig struct {
	*testing.T
	broker              *stream.Embedded
	conn                *zk.Conn
	server              string
	source, destination string
}

func newNodesRig(t *testing.T) *nodesRig {
	t.Helper()
	r := &nodesRig{T: t}
	server, source := testenv.ZooKeeper(t)
	_, destination := testenv.ZooKeeper(t)
	r.server, r.source, r.destination = server.Addr(), source, destination
	var err error
	r.conn, _, err = zk.Connect([]string{r.server}, 10*time.Second, zk.WithLogInfo(false))
	r.must(err)
	t.Cleanup(r.conn.Close)
	r.put(source, destination)
	r.broker, err = stream.StartEmbedded(filepath.Join(t.TempDir(), "log"))
	r.must(err)
	t.Cleanup(func() { r.must(r.broker.Close()) })
	return r
}

func (r *nodesRig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// put makes nodes of the server.
func (r *nodesRig) put(paths ...string) {
	r.Helper()
	for _, path := range paths {
		_, err := r.conn.Create(path, nil, 0, zk.WorldACL(zk.PermAll))
		r.must(err)
	}
}

func (r *nodesRig) there(path string) bool {
	r.Helper()
	found, _, err := r.conn.Exists(path)
	r.must(err)
	return found
}

// log is what one process has of it.
func (r *nodesRig) log(instance string) *stream.Client {
	r.Helper()
	client, err := stream.NewClient(r.broker.Dial(), instance)
	r.must(err)
	r.Cleanup(client.Close)
	return client
}

// set are manifests of a Synchronization of a tree; config is more of its spec.config.
func (r *nodesRig) set(root string, config ...string) (*manifest.Set, *v1alpha1.Synchronization) {
	r.Helper()
	database := "apiVersion: assets.astronetes.io/v1alpha1\nkind: Database\nmetadata: {name: %s}\nspec: {zookeeper: {client: {servers: [%q], chroot: %s}}}\n---\n"
	text := fmt.Sprintf(database+database, "source", r.server, r.source, "destination", r.server, r.destination) +
		"apiVersion: automation.astronetes.io/v1alpha1\nkind: Synchronization\nmetadata: {name: nodes}\nspec:\n  plugin: zookeeper-to-zookeeper-nodes\n  backoffLimit: 1\n" +
		"  config:\n    sourceName: source\n    destinationName: destination\n    createRootPath: true\n    rootPath: " + root + "\n"
	for _, line := range config {
		text += "    " + line + "\n"
	}
	file := filepath.Join(r.TempDir(), "nodes.yaml")
	r.must(os.WriteFile(file, []byte(text), 0o600))
	set, err := manifest.Load([]string{file})
	r.must(err)
	return set, set.Synchronizations[0]
}

// run one to its end.
func (r *nodesRig) run(o ZooKeeperOptions, root string, config ...string) v1alpha1.SynchronizationStatus {
	r.Helper()
	set, s := r.set(root, config...)
	o.Embedded = true
	attempt, err := ZooKeeper(o)(set, s)
	r.must(err)
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	return Execute(ctx, s, attempt, ExecuteOptions{})
}

// failed checks why a run did, and that it was not tried more often than that may help.
func (r *nodesRig) failed(s v1alpha1.SynchronizationStatus, reason string, attempts int32, says ...string) {
	r.Helper()
	if s.State != v1alpha1.StateFailed || s.Attempts != attempts || len(s.Conditions) != 1 || s.Conditions[0].Reason != reason {
		r.Fatalf("%+v, want %s after %d attempts", s, reason, attempts)
	}
	for _, text := range says {
		if !strings.Contains(s.Conditions[0].Message, text) {
			r.Errorf("the message lacks %q: %s", text, s.Conditions[0].Message)
		}
	}
}

func (r *nodesRig) complete(s v1alpha1.SynchronizationStatus) {
	r.Helper()
	if s.State != v1alpha1.StateComplete {
		r.Fatalf("%+v, want it complete", s)
	}
}

// A run that the log has nothing for fails at once: it asks nobody else, and so no
// further attempt would help. The destination stays as it is.
func TestNotInLog(t *testing.T) {
	r := newNodesRig(t)
	for _, chroot := range []string{r.source, r.destination} {
		r.put(chroot+"/a", chroot+"/b", chroot+"/b/one")
	}
	r.put(r.destination + "/b/two")
	o := ZooKeeperOptions{Log: r.log("one"), Instance: "one", Attended: true}
	fromLog := o
	fromLog.FromLog = true
	r.failed(r.run(fromLog, "/b"), "NotInLog", 1, "/b", "never copied")
	r.complete(r.run(o, "/a")) // of which the log then holds something
	r.failed(r.run(fromLog, "/b"), "NotInLog", 1, "/b", "never copied")
	if !r.there(r.destination + "/b/two") {
		t.Error("a node was deleted of which the log holds nothing")
	}
	// The log has the tree, and was not told of this node.
	r.complete(r.run(o, "/b", "excludePathRegexp: two"))
	s := r.run(fromLog, "/b")
	r.failed(s, "NotInLog", 1, "1 node", "excludePathRegexp")
	if !r.there(r.destination+"/b/two") || s.Result.Unchanged != 2 {
		t.Errorf("%+v", s)
	}
	r.complete(r.run(o, "/b"))
	r.complete(r.run(fromLog, "/b"))
	if r.there(r.destination + "/b/two") {
		t.Error("what only the destination has was kept")
	}
}

// A run of a tree that something else works on is refused after the wait, and says who
// does; it is done once that has ended.
func TestTreeBusy(t *testing.T) {
	r := newNodesRig(t)
	r.put(r.source+"/a", r.source+"/a/one")
	set, s := r.set("/a")
	const session = 2 * time.Second // for which the tree stays held when it is over
	hold := func(instance string) (end func()) {
		o := nodecopy.LiveOptions{Options: nodecopy.Options{Log: r.log(instance), Embedded: true, InstanceID: instance, Incarnation: instance + "-live", Session: session}}
		r.must(o.Configure(set, s.Namespace, &s.Spec.Config))
		live := nodecopy.NewLive(o)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); live.Run(ctx) }()
		for end := time.Now().Add(20 * time.Second); !live.Status().Destination.Ready; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the tree is not held: %+v", live.Status())
			}
		}
		return func() { cancel(); <-done }
	}
	const turn = 300 * time.Millisecond
	o := ZooKeeperOptions{Log: r.log("one"), Instance: "one", Turn: turn, Attended: true}
	end := hold("one")
	r.failed(r.run(o, "/a"), "TreeBusy", 1, "rootPath /a", "this process works on it", turn.String())
	r.put(r.source + "/b")
	r.complete(r.run(o, "/b")) // another tree is not
	end()
	end = hold("another")
	defer end()
	began := time.Now()
	r.failed(r.run(o, "/a"), "TreeBusy", 1, "rootPath /a", "another process, another, works on it", turn.String())
	if took := time.Since(began); took < turn {
		t.Errorf("it waited %v", took)
	}
	// Where nobody waits for it, it is tried again.
	o.Attended = false
	attempt, err := ZooKeeper(o)(set, s)
	r.must(err)
	if _, err = attempt(t.Context(), func(v1alpha1.SynchronizationResult) {}); reasonOf(err, "") != "TreeBusy" || isPermanent(err) {
		t.Errorf("unattended: %v", err)
	}
	end()
	o.Turn = 0
	r.complete(r.run(o, "/a"))
}
