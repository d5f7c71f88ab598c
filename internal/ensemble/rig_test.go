package ensemble

import (
	"fmt"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/afterimage-dr/afterimage/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type silent struct{}

func (silent) Printf(string, ...any) {}

// bare is the ordinary client.
func bare(t *testing.T, addr string) *zk.Conn {
	t.Helper()
	conn, _, err := zk.Connect([]string{addr}, 10*time.Second, zk.WithLogInfo(false), zk.WithLogger(silent{}))
	must(t, err)
	t.Cleanup(conn.Close)
	return conn
}

// dial connects the client under test.
func dial(t *testing.T, o Options, options ...Option) *Client {
	t.Helper()
	o.SessionTimeout = 5 * time.Second
	c, err := Connect(t.Context(), o, options...)
	must(t, err)
	t.Cleanup(c.Close)
	return c
}

func create(t *testing.T, conn *zk.Conn, path string, data []byte, acl ...zk.ACL) {
	t.Helper()
	if acl == nil {
		acl = zk.WorldACL(zk.PermAll)
	}
	if _, err := conn.Create(path, data, 0, acl); err != nil {
		t.Fatalf("create %s: %v", path, err)
	}
}

// tree makes a tree of everything a node can be.
func tree(t *testing.T, conn *zk.Conn, root string) {
	t.Helper()
	must(t, conn.AddAuth("digest", []byte("ada:secret")))
	create(t, conn, root, nil)
	for i := range 40 {
		dir := fmt.Sprintf("%s/dir-%02d", root, i)
		create(t, conn, dir, []byte{})
		for j := range i * 5 {
			create(t, conn, fmt.Sprintf("%s/node-%03d", dir, j), []byte(fmt.Sprint(i, j)))
		}
	}
	create(t, conn, root+"/bytes", []byte{0, 0xff, 0xfe, '\n'})
	create(t, conn, root+"/größe-日本", []byte("ünïcode"))
	create(t, conn, root+"/large", make([]byte, 900_000))
	create(t, conn, root+"/secret", []byte("x"), zk.DigestACL(zk.PermAll, "ada", "secret")...)
	create(t, conn, root+"/secret/below", []byte("y"))
	deep := root + "/deep"
	for range 60 {
		create(t, conn, deep, []byte("d"))
		deep += "/d"
	}
	_, err := conn.Create(root+"/ephemeral", []byte("e"), zk.FlagEphemeral, zk.WorldACL(zk.PermAll))
	must(t, err)
}
