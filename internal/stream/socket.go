package stream

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Serve lets other processes of this machine reach the embedded broker through a
// listener, until the listener or the broker is closed. Whoever can connect can
// read and write everything.
func (e *Embedded) Serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go e.pass(conn)
	}
}

// pass copies between a connection and the broker until either ends.
func (e *Embedded) pass(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	broker, err := e.net.DialContext(context.Background(), "tcp", embeddedHost)
	if err != nil {
		return // stopped: the client sees a closed connection and tries again
	}
	defer func() { _ = broker.Close() }()
	var once sync.Once
	done := make(chan struct{})
	for _, way := range [...][2]net.Conn{{conn, broker}, {broker, conn}} {
		go func() {
			_, _ = io.Copy(way[0], way[1]) // the end of a connection is no error
			once.Do(func() { close(done) })
		}()
	}
	<-done
}

// Socket dials an embedded broker of another process of this machine that
// [Embedded.Serve] offers on a Unix socket.
func Socket(path string) Dial {
	var d net.Dialer
	return Dial{
		Options: []kgo.Opt{
			kgo.SeedBrokers(embeddedHost),
			kgo.Dialer(func(ctx context.Context, _, _ string) (net.Conn, error) {
				conn, err := d.DialContext(ctx, "unix", path)
				if errors.Is(err, os.ErrNotExist) {
					// Removed by a process that ended: as good as refused.
					err = &net.OpError{Op: "dial", Net: "unix", Err: syscall.ECONNREFUSED}
				}
				return conn, err
			}),
		},
		local: true,
	}
}

// HistoryFloorIn reads the history floor of an embedded broker's folder, also
// while another process has it open; see [Embedded.HistoryFloor].
func HistoryFloorIn(dir string) (time.Time, error) {
	h, err := readFloor(dir)
	return h.Floor, err
}
