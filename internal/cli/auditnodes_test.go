package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/afterimage-dr/afterimage/internal/testenv"
	"github.com/afterimage-dr/afterimage/topology"
)

// logged-nodes DIR NAMESPACE [SOURCE] makes a data directory with the log of the tree
// /test, copied from that Database (source) to destination, as its copies leave it.
func loggedNodes(ts *testscript.TestScript, _ bool, args []string) {
	source := "source"
	switch len(args) {
	case 2:
	case 3:
		source = args[2]
	default:
		ts.Fatalf("usage: logged-nodes DIR NAMESPACE [SOURCE]")
	}
	topics := topology.NodeTopics(args[1], source, "destination", "/test")
	put, done := madeLog(ts, args[0], []string{topics.Changes, topics.Outcomes}, 1)
	defer done()
	zxid := 0
	change := func(path string, op topology.Op, data, result string, acl ...topology.NodeACL) {
		zxid++
		r := topology.Record{Key: topology.NodeKey(path).String(), Kind: topology.Object, Op: op, ObservedAt: time.Now()}
		outcome := topology.Record{Key: r.Key, Kind: topology.Object, Op: op, Reason: result, ObservedAt: r.ObservedAt}
		if op != topology.Delete {
			r.Version = topology.Version{RV: strconv.Itoa(zxid), NamespaceRV: "0"}
			r.Body, r.Hash, r.Node = []byte(data), topology.NodeHash([]byte(data)), &topology.NodeMeta{ACL: acl}
			r.Managers = []topology.Manager{{Name: "zookeeper", Operation: "Update", Time: "2026-01-02T15:04:05Z"}}
			outcome.Version = r.Version
		}
		put(topics.Changes, 0, r)
		if result == "" {
			return
		}
		if result != "deleted" {
			outcome.Body, _ = json.Marshal(map[string]string{"result": result, "reason": map[string]string{"failed": "TooLarge"}[result]})
		}
		put(topics.Outcomes, 0, outcome)
	}
	everybody := topology.NodeACL{Permissions: 31, Scheme: "world", ID: "anyone"}
	bob := topology.NodeACL{Permissions: 31, Scheme: "digest", ID: "bob:c2VjcmV0"}
	change("/test", topology.Create, "", "created", everybody)
	change("/test/a", topology.Create, "one", "created", everybody)
	change("/test/a", topology.Update, "two", "updated", everybody)
	change("/test/key", topology.Create, "hush", "created", bob)
	change("/test/large", topology.Create, "large", "failed", everybody)
	now := time.Now()
	gap, _ := json.Marshal(topology.GapBody{From: now.Add(-time.Minute), To: now})
	put(topics.Changes, 0, topology.Record{Key: topology.ControlKey(topology.Gap, ""), Kind: topology.Gap, Body: gap})
	change("/test/a/b", topology.Create, "below", "", everybody)
	change("/test/key", topology.Delete, "", "deleted")
}

// TestZooKeeperScripts runs the program between two trees of a real server:
//
//	node create|set source|destination PATH [DATA]
//	node delete source|destination PATH
//	node has source|destination PATH DATA
//
// $SERVER is its address; the chroots are /source and /destination of $ROOT.
func TestZooKeeperScripts(t *testing.T) {
	server := testenv.StartZooKeeper(t)
	conn, _, err := zk.Connect([]string{server.Addr()}, 10*time.Second, zk.WithLogInfo(false))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/zookeeper", RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			root := "/" + strings.NewReplacer("/", "-").Replace(e.WorkDir[1:])
			e.Setenv("SERVER", server.Addr())
			e.Setenv("ROOT", root)
			for _, path := range []string{root, root + "/source", root + "/destination"} {
				if _, err := conn.Create(path, nil, 0, zk.WorldACL(zk.PermAll)); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"until": until,
			"node":  func(ts *testscript.TestScript, _ bool, args []string) { ts.Check(node(ts, conn, args)) },
			"write": write,
		},
	})
}

func node(ts *testscript.TestScript, conn *zk.Conn, args []string) error {
	if len(args) < 3 {
		return errors.New("usage: node create|set|delete|has source|destination PATH [DATA]")
	}
	path := ts.Getenv("ROOT") + "/" + args[1] + args[2]
	data := strings.Join(args[3:], " ")
	switch args[0] {
	case "create":
		_, err := conn.Create(path, []byte(data), 0, zk.WorldACL(zk.PermAll))
		return err
	case "set":
		_, err := conn.Set(path, []byte(data), -1)
		return err
	case "delete":
		return conn.Delete(path, -1)
	case "has":
		got, _, err := conn.Get(path)
		if err == nil && string(got) != data {
			err = fmt.Errorf("%s holds %q, want %q", path, got, data)
		}
		return err
	}
	return fmt.Errorf("node %s: want create, set, delete or has", args[0])
}

// write FROM TO writes a file with the variables in it replaced.
func write(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: write FROM TO")
	}
	text := strings.NewReplacer("$SERVER", ts.Getenv("SERVER"), "$ROOT", ts.Getenv("ROOT")).Replace(ts.ReadFile(args[0]))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o600))
}
