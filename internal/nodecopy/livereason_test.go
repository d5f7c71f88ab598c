package nodecopy

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/afterimage-dr/afterimage/consumers/zookeeper"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/internal/testenv"
)

// A live copy says why a node was not copied that the source showed, but not so that it
// can be: what one is to do about it differs.
func TestLiveSaysWhyUnread(t *testing.T) {
	from := testenv.StartZooKeeper(t, testenv.WithJuteMaxBuffer(8<<20))
	e := newEnv(t)
	e = newEnvOf(t, connect(t, []string{from.Addr()}, ""), e.destination)
	e.source.put("/test", "")
	e.source.put("/test/hidden", "")
	e.source.restrict("/test/hidden", append(zk.WorldACL(zk.PermRead), digest("admin")...))
	e.source.put("/test/denied", "")
	e.source.restrict("/test/denied", digest("admin"))
	large, _, err := zk.Connect([]string{from.Addr()}, 10*time.Second, zk.WithLogInfo(false), zk.WithMaxConnBufferSize(8<<20))
	must(t, err)
	defer large.Close()
	_, err = large.Create("/test/large", bytes.Repeat([]byte("x"), stream.MaxRecordBytes), 0, zk.WorldACL(zk.PermAll))
	must(t, err)
	l := e.live(quickly, func(o *LiveOptions) { o.Rules.CopyACL = true })
	want := map[string]string{"/test/denied": "not permitted", "/test/hidden": "ADMIN", "/test/large": "too large"}
	e.eventually(20*time.Second, "all are counted", func() bool { return int(l.Status().Standing.Failed) == len(want) })
	for _, f := range l.Status().Standing.Failures {
		reason := zookeeper.ReasonRead
		if f.Path == "/test/large" {
			reason = zookeeper.ReasonTooLarge
		}
		if f.Reason != reason || want[f.Path] == "" || !strings.Contains(f.Message, want[f.Path]) {
			t.Errorf("%+v", f)
		}
	}
}
