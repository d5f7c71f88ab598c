package testcluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/afterimage-dr/afterimage/internal/testcert"
)

// These find or fetch Apache ZooKeeper, and one from before multiRead.
const (
	zooKeeperScript    = "bench/tools/zookeeper/zookeeper-assets.sh"
	oldZooKeeperScript = "bench/tools/zookeeper35/zookeeper35-assets.sh"
)

// ZooKeeperConfig is what a ZooKeeper server, or each of an ensemble, is started
// with. The zero value is fine.
type ZooKeeperConfig struct {
	// Dir holds data and logs. Default: a new temporary folder, removed by Close; a
	// folder given here is kept.
	Dir string
	// Jars is the folder of ZooKeeper's jars. Default: what the script finds or
	// fetches.
	Jars string
	// Old starts ZooKeeper 3.5.
	Old bool
	// TLS opens a second port for clients, with a certificate of a new authority:
	// see SecureAddr, CA and ClientCertificate.
	TLS bool
	// RequireClientCertificate has the second port refuse clients without a
	// certificate of that authority.
	RequireClientCertificate bool
	// WithoutExtendedTypes refuses TTL nodes, as servers do by default.
	WithoutExtendedTypes bool
	// JuteMaxBuffer is the largest packet, in bytes. Default: ZooKeeper's 1 MiB less
	// one byte.
	JuteMaxBuffer int
	// Fsync has each write wait for the disk, as in production.
	Fsync bool
	// TickTime is the unit of ZooKeeper's timeouts: sessions of two ticks and more
	// are granted. Default 250 ms, so that elections and expiries are quick.
	TickTime time.Duration
	// JavaOptions are added to java's, for example -Xmx2g.
	JavaOptions []string
	// Settings are added to the server's own, as in zoo.cfg. A name that ZooKeeper
	// does not know becomes its system property zookeeper.NAME; others are set with
	// JavaOptions.
	Settings map[string]string
	// Progress receives what is being fetched. Default: standard error.
	Progress io.Writer
}

// ZooKeeper is one server, alone or of an ensemble. Its methods are safe for
// concurrent use.
type ZooKeeper struct {
	config  ZooKeeperConfig
	ownsDir bool
	java    java
	client  *port
	secure  *port // nil without TLS
	process *process
	tls     *zooKeeperTLS
	// identity and members are those of an ensemble, else 0 and nil.
	identity int
	members  []string
}

// StartZooKeeper starts a server and returns once it answers. ctx bounds the start
// only; end it with Close. About 1 s.
func StartZooKeeper(ctx context.Context, config ZooKeeperConfig) (_ *ZooKeeper, err error) {
	z := &ZooKeeper{config: config}
	script := zooKeeperScript
	if config.Old {
		script = oldZooKeeperScript
	}
	if z.java, err = findJava(ctx, script, config.Jars, config.Progress); err != nil {
		return nil, err
	}
	if z.config.Dir == "" {
		if z.config.Dir, err = os.MkdirTemp("", "afterimage-zookeeper-"); err != nil {
			return nil, fmt.Errorf("making ZooKeeper's folder: %w", err)
		}
		z.ownsDir = true
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, z.Close())
		}
	}()
	if config.TLS {
		if z.tls, err = newZooKeeperTLS(); err != nil {
			return nil, err
		}
	}
	if err = z.prepare(); err != nil {
		return nil, err
	}
	if err = z.Start(ctx); err != nil {
		return nil, err
	}
	return z, nil
}

// prepare takes the ports and writes the settings.
func (z *ZooKeeper) prepare() error {
	var err error
	if z.client, err = takePort(); err != nil {
		return err
	}
	if err := os.MkdirAll(z.path("data"), 0o700); err != nil {
		return fmt.Errorf("making ZooKeeper's folder: %w", err)
	}
	if z.tls != nil {
		if z.secure, err = takePort(); err != nil {
			return err
		}
		if err := z.tls.write(z.config.Dir); err != nil {
			return err
		}
	}
	if z.identity != 0 {
		if err := os.WriteFile(z.path("data", "myid"), []byte(strconv.Itoa(z.identity)), 0o600); err != nil {
			return fmt.Errorf("writing ZooKeeper's identity: %w", err)
		}
	}
	settings := z.settings()
	var file strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&file, "%s=%s\n", name, settings[name])
	}
	if err := os.WriteFile(z.path("zoo.cfg"), []byte(file.String()), 0o600); err != nil {
		return fmt.Errorf("writing ZooKeeper's settings: %w", err)
	}
	return nil
}

// settings are those of a server that starts fast and keeps all it is told, then
// the caller's.
func (z *ZooKeeper) settings() map[string]string {
	tick := z.config.TickTime
	if tick == 0 {
		tick = 250 * time.Millisecond
	}
	settings := map[string]string{
		"tickTime":  strconv.FormatInt(tick.Milliseconds(), 10),
		"initLimit": "40",
		// A killed member is noticed at once; a frozen one, or one that gets no
		// processor for long, after 6 s.
		"syncLimit":              "24",
		"maxSessionTimeout":      "60000",
		"dataDir":                z.path("data"),
		"clientPort":             strconv.Itoa(z.client.number),
		"clientPortAddress":      "127.0.0.1",
		"maxClientCnxns":         "0",
		"admin.enableServer":     "false",
		"4lw.commands.whitelist": "*",
		"extendedTypesEnabled":   strconv.FormatBool(!z.config.WithoutExtendedTypes),
		"forceSync":              map[bool]string{true: "yes", false: "no"}[z.config.Fsync],
		// The log is enough to start again from; a snapshot is a pause in the middle
		// of a test.
		"snapCount": "10000000",
	}
	if z.tls != nil {
		maps.Copy(settings, z.tls.settings(z.config.Dir, z.secure.number, z.config.RequireClientCertificate))
	}
	for i, member := range z.members {
		settings[fmt.Sprintf("server.%d", i+1)] = member
	}
	maps.Copy(settings, z.config.Settings)
	return settings
}

func (z *ZooKeeper) path(parts ...string) string {
	return filepath.Join(append([]string{z.config.Dir}, parts...)...)
}

// Start starts the server again on the same data and ports, and returns once it
// serves: as a member of an ensemble, once that has a leader.
func (z *ZooKeeper) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := z.launch(); err != nil {
		return err
	}
	return z.await(ctx)
}

// launch starts the process and does not wait.
func (z *ZooKeeper) launch() error {
	if z.process == nil {
		z.process = &process{name: z.name(), logFile: z.path("zookeeper.log")}
	}
	options := slices.Concat([]string{
		"-Dorg.slf4j.simpleLogger.showDateTime=true",
		"-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
		// Empty containers and expired TTL nodes go within a second or so.
		"-Dznode.container.checkIntervalMs=1000",
	}, z.config.JavaOptions)
	if z.config.JuteMaxBuffer > 0 {
		options = append(options, "-Djute.maxbuffer="+strconv.Itoa(z.config.JuteMaxBuffer))
	}
	environment := []string{"HOME=" + z.config.Dir, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir()}
	arguments := z.java.arguments(options, "org.apache.zookeeper.server.quorum.QuorumPeerMain", z.path("zoo.cfg"))
	return z.process.start(environment, z.java.binary, arguments...)
}

func (z *ZooKeeper) name() string {
	if z.identity == 0 {
		return "zookeeper"
	}
	return fmt.Sprintf("zookeeper %d", z.identity)
}

// await returns once the server serves clients.
func (z *ZooKeeper) await(ctx context.Context) error {
	return z.process.await(ctx, func(ctx context.Context) error {
		_, err := z.Status(ctx)
		return err
	})
}

// Kill ends the server as a crash would.
func (z *ZooKeeper) Kill() error { return z.process.kill() }

// Stop asks the server to end and waits, at most 20 s; then it is killed.
func (z *ZooKeeper) Stop() error { return z.process.stop(20 * time.Second) }

// Freeze stops the server in its tracks: connections stay open, nothing is
// answered.
func (z *ZooKeeper) Freeze() error { return z.process.signal(syscall.SIGSTOP) }

// Thaw lets a frozen server go on.
func (z *ZooKeeper) Thaw() error { return z.process.signal(syscall.SIGCONT) }

// Close ends the server at once and removes its data unless ZooKeeperConfig.Dir
// was given.
func (z *ZooKeeper) Close() error {
	var errs []error
	if z.process != nil {
		errs = append(errs, z.process.kill())
	}
	z.client.release()
	z.secure.release()
	if z.ownsDir {
		errs = append(errs, os.RemoveAll(z.config.Dir))
	}
	return errors.Join(errs...)
}

// Addr is host and port for clients without TLS.
func (z *ZooKeeper) Addr() string { return z.client.address() }

// SecureAddr is host and port for clients with TLS; "" without
// ZooKeeperConfig.TLS.
func (z *ZooKeeper) SecureAddr() string {
	if z.secure == nil {
		return ""
	}
	return z.secure.address()
}

// CA is the certificate to trust, in PEM; nil without TLS.
func (z *ZooKeeper) CA() []byte {
	if z.tls == nil {
		return nil
	}
	return z.tls.authority.PEM
}

// ClientCertificate signs a certificate for a client.
func (z *ZooKeeper) ClientCertificate(name string) (testcert.Pair, error) {
	if z.tls == nil {
		return testcert.Pair{}, errors.New("the ZooKeeper server was started without TLS")
	}
	return z.tls.authority.Client(name)
}

// Dir holds the server's data and log.
func (z *ZooKeeper) Dir() string { return z.config.Dir }
