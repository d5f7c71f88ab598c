package testcluster

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Ports are drawn below the range from which kernels take the local ends of
// outgoing connections (32768 and up on Linux, 49152 elsewhere). Otherwise the
// port of a server that is stopped for a while may be taken by any client, or a
// client that retries could connect to itself.
const (
	firstPort = 20000
	lastPort  = 32000
)

// port is a loopback port that no other process using this package takes for as
// long as this process lives or until release.
type port struct {
	number int
	lock   *os.File
}

// takePort finds a free port. The lock file keeps it ours while our server is
// down, since test binaries of several packages run side by side.
func takePort() (*port, error) {
	folder := portLocks()
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of port locks: %w", err)
	}
	for range 200 {
		number := firstPort + rand.IntN(lastPort-firstPort)
		lock, err := os.OpenFile(filepath.Join(folder, strconv.Itoa(number)), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, fmt.Errorf("opening a port lock: %w", err)
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil && portIsFree(number) {
			return &port{number: number, lock: lock}, nil
		}
		_ = lock.Close()
	}
	return nil, fmt.Errorf("no free port between %d and %d", firstPort, lastPort)
}

// portLocks is the folder of lock files that all processes of a user share.
func portLocks() string {
	return filepath.Join(os.TempDir(), "afterimage-ports-"+strconv.Itoa(os.Getuid()))
}

func portIsFree(number int) bool {
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(number)))
	if err != nil {
		return false
	}
	return listener.Close() == nil
}

// address is host and port.
func (p *port) address() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.number))
}

func (p *port) release() {
	if p != nil {
		_ = p.lock.Close()
	}
}

// Ports takes n free loopback ports outside the range of outgoing connections;
// release gives them back. For servers that this package does not start.
func Ports(n int) (addresses []string, release func(), err error) {
	var taken []*port
	release = func() {
		for _, p := range taken {
			p.release()
		}
	}
	for range n {
		p, err := takePort()
		if err != nil {
			release()
			return nil, nil, err
		}
		taken = append(taken, p)
		addresses = append(addresses, p.address())
	}
	return addresses, release, nil
}
