package stream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ErrInUse is wrapped by the error of StartEmbedded when another process has the folder.
var ErrInUse = errors.New("log folder is in use by another process")

const (
	embeddedPort   = 9092 // of the virtual network; no real port is opened
	embeddedHost   = "localhost:9092"
	embeddedTopics = 12
	never          = "9223372036854" // ms until a time nobody reaches
)

// Embedded is a broker inside the process; nothing else can reach it. It keeps
// its log on disk, survives SIGKILL at any instruction, and is for one machine.
//
// Unlike Kafka it has no min.compaction.lag.ms: cleaning keeps only the newest
// record of a key. So it does not clean by the clock but when the folder has
// grown, and HistoryFloor tells since when every version is still there.
type Embedded struct {
	dir  string
	opts EmbeddedOptions
	lock *os.File
	net  *kfake.VirtualNetwork

	mu      sync.Mutex
	cluster *kfake.Cluster
	closed  bool
	after   int64 // bytes after the last cleaning
	floor   time.Time
	cut     bool

	stop chan struct{}
	done chan struct{}
}

// EmbeddedOptions of the embedded broker; the zero value is the default.
type EmbeddedOptions struct {
	// SyncWrites makes every append wait for the disk (about 2 ms). Without it a
	// power loss may lose the newest records; a SIGKILL never does.
	SyncWrites bool
	// CompactBytes is how large the log must be before it is cleaned by itself;
	// then it is cleaned whenever it has trebled since the last time. Default
	// 512 MiB; negative: never by itself.
	CompactBytes int64
}

// StartEmbedded starts the broker on a data folder (locked: a second process is
// refused with ErrInUse).
func StartEmbedded(dir string) (*Embedded, error) {
	return StartEmbeddedWith(dir, EmbeddedOptions{})
}

// StartEmbeddedWith is StartEmbedded with options.
func StartEmbeddedWith(dir string, o EmbeddedOptions) (*Embedded, error) {
	if o.CompactBytes == 0 {
		o.CompactBytes = 512 << 20
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	lock, err := lockFolder(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("embedded broker on %s: %w", dir, err)
	}
	e := &Embedded{
		dir: dir, opts: o, lock: lock, net: &kfake.VirtualNetwork{},
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	err = e.markRunning()
	if err == nil {
		err = e.start()
	}
	if err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("embedded broker on %s: %w", dir, err)
	}
	go e.watchSize()
	return e, nil
}

func (e *Embedded) start() error {
	if err := e.recoverCompaction(); err != nil {
		return err
	}
	if err := e.loadFloor(); err != nil {
		return err
	}
	opts := []kfake.Opt{
		kfake.Ports(embeddedPort),
		kfake.ListenFn(e.net.Listen),
		kfake.ClusterID("afterimage-embedded"),
		kfake.DefaultNumPartitions(embeddedTopics),
		kfake.DataDir(e.logDir()),
		kfake.BrokerConfigs(map[string]string{
			// Nothing is ever lost by age or size, whatever a topic says.
			"log.retention.ms":           "-1",
			"log.retention.bytes":        "-1",
			"message.max.bytes":          "8388608",
			"default.replication.factor": "1",
			// The broker's own cleaner starts its clock anew with each process and
			// keeps no history at all: Compact runs by size instead.
			"log.cleaner.backoff.ms": never,
			// A group's offsets are only for pacing; they may go as they like.
			"group.min.session.timeout.ms": "1000",
		}),
		kfake.GroupMinSessionTimeout(time.Second),
	}
	if e.opts.SyncWrites {
		opts = append(opts, kfake.SyncWrites())
	}
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.cluster = c
	e.mu.Unlock()
	return nil
}

func (e *Embedded) logDir() string { return filepath.Join(e.dir, "log") }

// Dial returns how to reach it.
func (e *Embedded) Dial() Dial {
	return Dial{
		Options: []kgo.Opt{kgo.SeedBrokers(embeddedHost), kgo.Dialer(e.connect)},
		local:   true,
	}
}

// connect fails as a network does, so that the client retries as it would there.
func (e *Embedded) connect(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := e.net.DialContext(ctx, network, address)
	if err != nil && ctx.Err() == nil {
		err = &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("embedded broker is stopped: %w", syscall.ECONNREFUSED)}
	}
	return conn, err
}

// Restart stops the broker and starts it again on the same folder, as a broker
// does that was upgraded. Clients reconnect.
func (e *Embedded) Restart() error {
	if err := e.Stop(); err != nil {
		return err
	}
	return e.Start()
}

// Stop stops the broker and keeps the folder; Start goes on.
func (e *Embedded) Stop() error {
	e.mu.Lock()
	c := e.cluster
	e.cluster = nil
	e.mu.Unlock()
	if c != nil {
		c.Close()
	}
	return nil
}

// Start starts a stopped broker.
func (e *Embedded) Start() error {
	e.mu.Lock()
	running, closed := e.cluster != nil, e.closed
	e.mu.Unlock()
	switch {
	case closed:
		return ErrClosed
	case running:
		return nil
	}
	return e.start()
}

// Close stops it and gives the folder free.
func (e *Embedded) Close() error {
	e.mu.Lock()
	closed := e.closed
	e.closed = true
	e.mu.Unlock()
	if closed {
		return nil
	}
	close(e.stop)
	<-e.done
	err := e.Stop()
	if err == nil {
		err = e.markStopped()
	}
	_ = e.lock.Close() // releases the flock
	return err
}

func lockFolder(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrInUse
		}
		return nil, fmt.Errorf("lock: %w", err)
	}
	return f, nil
}
