package testcluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// kafkaScript finds or fetches Apache Kafka.
const kafkaScript = "bench/tools/kafka/kafka-assets.sh"

// KafkaConfig is what an Apache Kafka is started with. The zero value is fine.
type KafkaConfig struct {
	// Dir holds data and logs. Default: a new temporary folder, removed by
	// Close; a folder given here is kept.
	Dir string
	// Jars is the folder of Kafka's jars. Default: what the script finds or
	// fetches.
	Jars string
	// Advertised is the address that clients are told to use, for a proxy placed
	// before the broker. Default: where the broker listens. It must be known
	// before the start: make the proxy first, with KafkaConfig.Listen as its
	// upstream.
	Advertised string
	// Listen is the address to listen on, from Ports. Default: a free one.
	Listen string
	// Settings are added to the broker's own, as in server.properties.
	Settings map[string]string
	// Progress receives what is being fetched. Default: standard error.
	Progress io.Writer
}

// Kafka is one broker that is its own controller (KRaft). Its methods are safe
// for concurrent use.
type Kafka struct {
	config     KafkaConfig
	ownsDir    bool
	listen     string
	controller *port
	broker     *port
	process    *process
	java       java
}

// StartKafka starts a broker and returns once it takes connections and has
// joined its own cluster. ctx bounds the start only; end it with Close. About 5 s.
func StartKafka(ctx context.Context, config KafkaConfig) (_ *Kafka, err error) {
	k := &Kafka{config: config}
	if k.java, err = findJava(ctx, kafkaScript, config.Jars, config.Progress); err != nil {
		return nil, err
	}
	if k.config.Dir == "" {
		if k.config.Dir, err = os.MkdirTemp("", "afterimage-kafka-"); err != nil {
			return nil, fmt.Errorf("making Kafka's folder: %w", err)
		}
		k.ownsDir = true
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, k.Close())
		}
	}()
	if err = k.prepare(ctx); err != nil {
		return nil, err
	}
	if err = k.Start(ctx); err != nil {
		return nil, err
	}
	return k, nil
}

// prepare takes the ports, writes the settings and formats the storage.
func (k *Kafka) prepare(ctx context.Context) error {
	var err error
	if k.controller, err = takePort(); err != nil {
		return err
	}
	k.listen = k.config.Listen
	if k.listen == "" {
		if k.broker, err = takePort(); err != nil {
			return err
		}
		k.listen = k.broker.address()
	}
	if k.config.Advertised == "" {
		k.config.Advertised = k.listen
	}
	if err := os.MkdirAll(k.config.Dir, 0o700); err != nil {
		return fmt.Errorf("making Kafka's folder: %w", err)
	}
	settings := k.settings()
	var properties strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&properties, "%s=%s\n", name, settings[name])
	}
	if err := os.WriteFile(k.path("server.properties"), []byte(properties.String()), 0o600); err != nil {
		return fmt.Errorf("writing Kafka's settings: %w", err)
	}
	if _, err := os.Stat(k.path("data")); err == nil {
		return nil // a folder of an earlier run: go on with its data
	}
	format := exec.CommandContext(ctx, k.java.binary, k.java.arguments(nil, "kafka.tools.StorageTool", "format",
		"--cluster-id", "AfterimageTestsClust00", "--config", k.path("server.properties"))...)
	if output, err := format.CombinedOutput(); err != nil {
		return fmt.Errorf("formatting Kafka's storage: %w: %s", err, output)
	}
	return nil
}

// settings are those of a single node that starts fast and forgets nothing on
// its own, then the caller's.
func (k *Kafka) settings() map[string]string {
	settings := map[string]string{
		"process.roles":                            "broker,controller",
		"node.id":                                  "1",
		"controller.quorum.voters":                 "1@" + k.controller.address(),
		"listeners":                                "BROKER://" + k.listen + ",CONTROLLER://" + k.controller.address(),
		"advertised.listeners":                     "BROKER://" + k.config.Advertised,
		"listener.security.protocol.map":           "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"inter.broker.listener.name":               "BROKER",
		"controller.listener.names":                "CONTROLLER",
		"log.dirs":                                 k.path("data"),
		"num.partitions":                           "12",
		"auto.create.topics.enable":                "false",
		"offsets.topic.replication.factor":         "1",
		"offsets.topic.num.partitions":             "1",
		"transaction.state.log.replication.factor": "1",
		"transaction.state.log.min.isr":            "1",
		"transaction.state.log.num.partitions":     "1",
		"group.initial.rebalance.delay.ms":         "0",
		"group.min.session.timeout.ms":             "1000",
		"message.max.bytes":                        "8388608",
		"log.retention.ms":                         "-1",
		// Preallocated per segment; the default of 10 MB is for years of data.
		"log.index.size.max.bytes": "1048576",
	}
	maps.Copy(settings, k.config.Settings)
	return settings
}

func (k *Kafka) path(parts ...string) string {
	return filepath.Join(append([]string{k.config.Dir}, parts...)...)
}

// Start starts the broker again on the same data and port, and returns once it
// takes connections.
func (k *Kafka) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if k.process == nil {
		k.process = &process{name: "kafka", logFile: k.path("kafka.log")}
	}
	environment := []string{"HOME=" + k.config.Dir, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir()}
	if err := k.process.start(environment, k.java.binary, k.java.arguments(nil, "kafka.Kafka", k.path("server.properties"))...); err != nil {
		return err
	}
	return k.process.await(ctx, func(ctx context.Context) error {
		// The listener opens only once the broker has been unfenced.
		connection, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", k.listen)
		if err != nil {
			return err
		}
		return connection.Close()
	})
}

// Kill ends the broker as a crash would.
func (k *Kafka) Kill() error { return k.process.kill() }

// Stop asks the broker to end and waits, at most 20 s; then it is killed.
func (k *Kafka) Stop() error { return k.process.stop(20 * time.Second) }

// Freeze stops the broker in its tracks: connections stay open, nothing is
// answered.
func (k *Kafka) Freeze() error { return k.process.signal(syscall.SIGSTOP) }

// Thaw lets a frozen broker go on.
func (k *Kafka) Thaw() error { return k.process.signal(syscall.SIGCONT) }

// Close ends the broker at once and removes its data unless KafkaConfig.Dir was
// given.
func (k *Kafka) Close() error {
	var errs []error
	if k.process != nil {
		errs = append(errs, k.process.kill())
	}
	k.controller.release()
	k.broker.release()
	if k.ownsDir {
		errs = append(errs, os.RemoveAll(k.config.Dir))
	}
	return errors.Join(errs...)
}

// Addr is the address for clients: the advertised one.
func (k *Kafka) Addr() string { return k.config.Advertised }

// Dir holds the broker's data and log.
func (k *Kafka) Dir() string { return k.config.Dir }
