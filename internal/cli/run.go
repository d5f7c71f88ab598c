package cli

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/afterimage-dr/afterimage/consumers/restorer"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/manifest"
	"github.com/afterimage-dr/afterimage/internal/pipeline"
	"github.com/afterimage-dr/afterimage/internal/recovery"
	"github.com/afterimage-dr/afterimage/internal/status"
	"github.com/afterimage-dr/afterimage/internal/synchronization"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// runFlags is what run is told.
type runFlags struct {
	files     []string
	brokers   []string
	dataDir   string
	logLevel  string
	fsync     bool
	logs      bool
	allowExec bool
	session   time.Duration
}

func runCommand() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run -f FILE|DIR [-f ...]",
		Short: "Replicate what the manifests say",
		Long: `Run reads KubernetesClusters, their Secrets and LiveSynchronizations from files and
keeps the destination clusters as the manifests say, in one process, until it is
told to stop (Ctrl-C or SIGTERM).

The manifests are Kubernetes custom resources. Everything is checked before anything
is started: a mistake is named with its file, its field and what was expected. While
it runs the files are read again when they change; suspend, filters, patches and
resyncPeriod take effect without a restart. Files that became invalid or vanished
change nothing: the last good ones stay in effect and "afterimage status" says so.
A Recovery among them is run once, as by "afterimage recover"; a Synchronization is
run once too, and a SynchronizationPlan at the times of its schedule.

Clusters and brokers that cannot be reached are tried again for as long as it runs.
It may be killed at any moment: it goes on where it was.

Without --brokers the log is kept in the data directory, for this machine alone. One
process at a time may use a data directory.

Logs are JSON on standard error. On a terminal a line of progress is shown instead
and the logs go to afterimage.log in the data directory (--logs keeps them here).`,
		Example: `  afterimage run -f clusters.yaml -f livesynchronization.yaml
  afterimage run -f manifests/ --data-dir /var/lib/afterimage
  afterimage run -f manifests/ --brokers kafka-0:9092,kafka-1:9092`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return run(c, f) },
	}
	c.Flags().StringArrayVarP(&f.files, "filename", "f", nil, "manifest file or directory, - for standard input (repeatable)")
	c.Flags().StringSliceVar(&f.brokers, "brokers", nil, "host:port of Kafka or Redpanda brokers, comma-separated (default: a log embedded in this process)")
	c.Flags().StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error; a component's logLevel in its manifest wins")
	c.Flags().BoolVar(&f.fsync, "fsync", false, "make the embedded log wait for the disk at every append (safe against power loss; slower)")
	c.Flags().BoolVar(&f.logs, "logs", false, "log to standard error on a terminal too")
	c.Flags().BoolVar(&f.allowExec, "allow-kubeconfig-exec", false, "accept kubeconfigs that run a program to get credentials")
	c.Flags().DurationVar(&f.session, "session-timeout", pipeline.DefaultSession, "how long the brokers wait for a silent process before others take over its partitions (1s to 30m; brokers have limits of their own)")
	dataDirFlag(c, &f.dataDir)
	return c
}

// The limits of a consumer group's session: below, a pause of the garbage
// collector looks like a death; above, Kafka refuses by default.
const (
	minSession = time.Second
	maxSession = 30 * time.Minute
)

// gcPercent of the live heap may be garbage before it is collected; GOGC wins.
const gcPercent = 50

// run checks everything, then starts everything, then waits.
func run(c *cobra.Command, f runFlags) error {
	if len(f.files) == 0 {
		return usageError{errors.New("which manifests? Name them with -f FILE|DIR")}
	}
	level, err := logging.ParseLevel(f.logLevel)
	if err != nil {
		return usageError{fmt.Errorf("--log-level: %w", err)}
	}
	if err := checkBrokers(f.brokers); err != nil {
		return usageError{fmt.Errorf("--brokers: %w", err)}
	}
	if f.session < minSession || f.session > maxSession {
		return usageError{fmt.Errorf("--session-timeout: %s: want %s to %s", f.session, minSession, maxSession)}
	}
	if err := checkDataDir(f.dataDir); err != nil {
		return err
	}
	m := &manifests{paths: f.files}
	if f.allowExec {
		m.options = append(m.options, manifest.AllowKubeconfigExec())
	}
	syncs, err := m.load()
	if err != nil {
		return err
	}
	// Bodies pass through in bulk and little stays: half the usual headroom keeps
	// the resident memory flat for a few per cent of the time.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, cancel := signals(c.Context())
	defer cancel()

	errOut := c.ErrOrStderr()
	terminal := isTerminal(errOut) && !f.logs
	var logs io.Writer = errOut
	if terminal {
		file, err := openLogFile(f.dataDir)
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		logs = file
	}
	logs = logging.Shared(logs)
	logger := logging.New(logs, level, "run", "")
	logging.Capture(logger)

	p, err := pipeline.Start(ctx, pipeline.Options{
		DataDir: f.dataDir, Brokers: f.brokers, Fsync: f.fsync, Session: f.session, Output: logs, Level: level, Version: Version(),
	}, syncs)
	if err != nil {
		return err
	}
	jobs := &recovery.Jobs{DataDir: absolute(f.dataDir), Brokers: f.brokers, Logger: logging.New(logs, level, restorer.Component, "")}
	runs := runsOf(p, f.session, logging.New(logs, level, "synchronization", ""))
	say := func() status.Process {
		s := p.Status()
		s.Recoveries = jobs.Status()
		s.SynchronizationPlans, s.Synchronizations = runs.Status()
		return s
	}
	server, err := status.Serve(absolute(f.dataDir), say)
	if err != nil {
		cancel()
		return errors.Join(err, p.Wait())
	}
	jobs.Apply(ctx, m.first)
	runs.Apply(ctx, m.first)
	go m.watch(ctx, p, jobs, runs)
	if terminal {
		_, _ = fmt.Fprintf(errOut, "afterimage %s, logs in %s, Ctrl-C stops\n", Version(), filepath.Join(f.dataDir, logFile))
		progress(ctx, errOut, say)
	}
	<-ctx.Done()
	// Before Wait gives the data directory away: the next process has its socket
	// in the same place.
	server.Close()
	jobs.Wait()
	runs.Wait()
	return p.Wait()
}

// runsOf runs Synchronizations and their plans beside a pipeline, on its log.
func runsOf(p *pipeline.Pipeline, session time.Duration, logger *slog.Logger) *synchronization.Service {
	log, embedded, instance := p.Log()
	return synchronization.New(synchronization.Options{
		Log: log, Instance: instance, Session: session, Logger: logger,
		Plugins: map[string]synchronization.Plugin{
			v1alpha1.PluginKubernetes: synchronization.Kubernetes(synchronization.KubernetesOptions{Pipeline: p}),
			v1alpha1.PluginZooKeeper: synchronization.ZooKeeper(synchronization.ZooKeeperOptions{
				Log: log, Embedded: embedded, Instance: instance, Session: session, Logger: logger,
			}),
		},
	})
}

func absolute(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		return abs
	}
	return dir
}

func checkBrokers(brokers []string) error {
	for _, b := range brokers {
		host, port, err := net.SplitHostPort(b)
		if n, e := strconv.ParseUint(port, 10, 16); err != nil || e != nil || n == 0 || strings.TrimSpace(host) == "" {
			return fmt.Errorf("%q: want host:port", b)
		}
	}
	return nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
