package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/manifest"
	"github.com/afterimage-dr/afterimage/internal/nodecopy"
	"github.com/afterimage-dr/afterimage/internal/pipeline"
	"github.com/afterimage-dr/afterimage/internal/synchronization"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

// syncFlags are what sync is told.
type syncFlags struct {
	files     []string
	name      string
	brokers   []string
	dataDir   string
	from      string
	confirm   string
	format    string
	logLevel  string
	allowExec bool
}

// Where sync reads from.
const (
	fromSource = "source"
	fromLog    = "log"
)

func syncCommand() *cobra.Command {
	var f syncFlags
	c := &cobra.Command{
		Use:   "sync -f FILE|DIR [-f ...]",
		Short: "Run one Synchronization to its end",
		Long: `Sync does what a Synchronization among the manifests asks for, once, and tells what
became of every node or object. A SynchronizationPlan can be run too, once and now, by its
name, and so can a LiveSynchronization of ZooKeeper nodes that does not run.

Everything goes through the log: what differs from it is appended, and what it says is
brought to the destination. The log is that of the data directory (made if there is none,
shared with an afterimage that runs with it) or that of the brokers.

It may be killed and run again: what is there already is not written again. A Synchronization
that fails is tried again as its backoffLimit says. More than half of all nodes are not
deleted without a person's word: the message then names a token for --confirm-prune.

With --from log the source is not contacted: the destination becomes what the log holds,
which is how a tree is brought back when its source is gone.

The exit status is 0 only if the destination was shown to hold everything.`,
		Example: `  afterimage sync -f databases.yaml -f synchronization.yaml
  afterimage sync -f manifests/ --name synchronize-zookeeper
  afterimage sync -f manifests/ --from log -o json`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	c.Flags().StringArrayVarP(&f.files, "filename", "f", nil, "manifest file or directory, - for standard input (repeatable)")
	c.Flags().StringVar(&f.name, "name", "", "NAME or NAMESPACE/NAME of the Synchronization, SynchronizationPlan or LiveSynchronization of nodes; needed only where the manifests hold several")
	c.Flags().StringSliceVar(&f.brokers, "brokers", nil, "host:port of Kafka or Redpanda brokers, comma-separated (default: the log in the data directory)")
	c.Flags().StringVar(&f.from, "from", fromSource, "source, or log: contact no source, and bring what the log holds")
	c.Flags().StringVar(&f.confirm, "confirm-prune", "", "TOKEN of the deletes that are to be done although they are many")
	c.Flags().StringVarP(&f.format, "output", "o", "table", "table or json")
	c.Flags().StringVar(&f.logLevel, "log-level", "warn", "debug, info, warn or error, to standard error")
	c.Flags().BoolVar(&f.allowExec, "allow-kubeconfig-exec", false, "accept kubeconfigs that run a program to get credentials")
	dataDirFlag(c, &f.dataDir)
	return c
}

func (f *syncFlags) check() error {
	switch {
	case f.format != "table" && f.format != "json":
		return usageError{fmt.Errorf("--output %q: want table or json", f.format)}
	case f.from != fromSource && f.from != fromLog:
		return usageError{fmt.Errorf("--from %q: want source or log", f.from)}
	case len(f.files) == 0:
		return usageError{errors.New("no manifests: name them with -f FILE|DIR")}
	}
	if err := checkBrokers(f.brokers); err != nil {
		return usageError{fmt.Errorf("--brokers: %w", err)}
	}
	return checkDataDir(f.dataDir)
}

func (f *syncFlags) run(c *cobra.Command) error {
	if err := f.check(); err != nil {
		return err
	}
	level, err := logging.ParseLevel(f.logLevel)
	if err != nil {
		return usageError{fmt.Errorf("--log-level: %w", err)}
	}
	var options []manifest.Option
	if f.allowExec {
		options = append(options, manifest.AllowKubeconfigExec())
	}
	set, err := manifest.Load(f.files, options...)
	if err != nil {
		return err
	}
	s, err := f.choose(set)
	if err != nil {
		return err
	}
	ctx, cancel := signals(c.Context())
	defer cancel()
	bar := newBar(c.ErrOrStderr())
	report := syncReport{Namespace: s.Namespace, Name: s.Name}
	plugin, done, err := f.plugin(ctx, s, bar, level, &report)
	if err != nil {
		return err
	}
	attempt, err := plugin(set, s)
	if err != nil {
		return errors.Join(err, done())
	}
	report.SynchronizationStatus = synchronization.Execute(ctx, s, attempt, synchronization.ExecuteOptions{
		Logger: logging.New(bar, level, "sync", ""), Report: bar.run,
	})
	bar.end()
	return errors.Join(f.print(ctx, c.OutOrStdout(), &report), done())
}

// plugin that runs it, with what it needs opened.
func (f *syncFlags) plugin(ctx context.Context, s *v1alpha1.Synchronization, bar *bar, level slog.Level, report *syncReport) (p synchronization.Plugin, done func() error, err error) {
	if s.Spec.PluginName() == v1alpha1.PluginZooKeeper {
		log, err := pipeline.OpenLog(pipeline.LogOptions{DataDir: f.dataDir, Brokers: f.brokers, Create: f.from == fromSource, Output: bar, Level: level})
		if err != nil {
			return nil, nil, err
		}
		return synchronization.ZooKeeper(synchronization.ZooKeeperOptions{
			Log: log.Client, Embedded: log.Embedded, Instance: log.Member(), Confirmed: f.confirm, FromLog: f.from == fromLog, Attended: true,
			Progress: bar.nodes, Logger: logging.New(bar, level, "sync", ""), Ended: func(r *nodecopy.Result) { report.Copy = r },
		}), func() error { log.Close(); return nil }, nil
	}
	if f.from == fromLog {
		return nil, nil, usageError{errors.New("--from log is for ZooKeeper: objects of a cluster are brought up by afterimage recover, or pushed again by afterimage replay")}
	}
	if f.confirm != "" {
		s.Annotations = confirmed(s.Annotations, f.confirm)
	}
	ctx, cancel := context.WithCancel(ctx)
	run, err := pipeline.Start(ctx, pipeline.Options{DataDir: f.dataDir, Brokers: f.brokers, Output: bar, Level: level, Version: Version()}, nil)
	if err != nil {
		cancel()
		if errors.Is(err, pipeline.ErrInUse) {
			err = fmt.Errorf("%w: give the Synchronization to that afterimage, among its manifests, or name another --data-dir", err)
		}
		return nil, nil, err
	}
	return synchronization.Kubernetes(synchronization.KubernetesOptions{Pipeline: run}), func() error { cancel(); return run.Wait() }, nil
}

// confirmed is what a person has annotated, by hand.
func confirmed(annotations map[string]string, token string) map[string]string {
	out := map[string]string{topology.MarkPrefix + "confirm-prune": token}
	for k, v := range annotations {
		if _, ok := out[k]; !ok {
			out[k] = v
		}
	}
	return out
}

// choose the one that is asked for.
func (f *syncFlags) choose(set *manifest.Set) (*v1alpha1.Synchronization, error) {
	var known []string
	var found []*v1alpha1.Synchronization
	consider := func(namespace, name string, s *v1alpha1.Synchronization) {
		id := namespace + "/" + name
		known = append(known, id)
		if f.name == "" || f.name == name || f.name == id {
			found = append(found, s)
		}
	}
	for _, s := range set.Synchronizations {
		consider(s.Namespace, s.Name, s)
	}
	for _, p := range set.SynchronizationPlans {
		if f.name != "" || len(set.Synchronizations) == 0 {
			consider(p.Namespace, p.Name, synchronization.Now(p))
		}
	}
	for _, ls := range set.LiveSynchronizations {
		if ls.Spec.PluginName() == v1alpha1.PluginZooKeeper && (f.name != "" || len(set.Synchronizations)+len(set.SynchronizationPlans) == 0) {
			consider(ls.Namespace, ls.Name, synchronization.OfLive(ls))
		}
	}
	slices.Sort(known)
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(known) == 0:
		return nil, usageError{errors.New("the manifests hold no Synchronization, no SynchronizationPlan and no LiveSynchronization of ZooKeeper nodes")}
	case f.name == "":
		return nil, usageError{fmt.Errorf("which Synchronization? Name it with --name: the manifests hold %s", strings.Join(known, ", "))}
	case len(found) > 1:
		return nil, usageError{fmt.Errorf("--name %s: several are called so, want NAMESPACE/NAME: %s", f.name, strings.Join(known, ", "))}
	}
	return nil, usageError{fmt.Errorf("--name %s: the manifests hold %s", f.name, strings.Join(known, ", "))}
}

// syncReport is what sync tells.
type syncReport struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	v1alpha1.SynchronizationStatus
	// Copy is what only a copy of nodes has.
	Copy *nodecopy.Result `json:"copy,omitempty"`
}

func (f *syncFlags) print(ctx context.Context, w io.Writer, r *syncReport) error {
	var err error
	if f.format == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		err = e.Encode(r)
	} else {
		err = r.table(w)
	}
	switch {
	case err != nil:
		return err
	case r.State == v1alpha1.StateComplete:
		return nil
	case ctx.Err() != nil:
		return errors.New("interrupted: what was done is done, run it again to go on")
	}
	return errSilent // the report has said why
}

func (r *syncReport) table(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "SYNCHRONIZATION\tSTATE\tCREATED\tUPDATED\tDELETED\tUNCHANGED\tSKIPPED\tFAILED\tTOOK")
	n := r.Result
	_, _ = fmt.Fprintf(t, "%s/%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n", r.Namespace, r.Name, r.State, n.Created, n.Updated, n.Deleted, n.Unchanged, n.Skipped, n.Failed, r.took())
	if len(r.Failures) > 0 {
		_, _ = fmt.Fprintln(t, "\nFAILED\tREASON\tMESSAGE")
		for _, f := range r.Failures {
			_, _ = fmt.Fprintf(t, "%s\t%s\t%s\n", f.Object, f.Reason, f.Message)
		}
		if more := n.Failed - int64(len(r.Failures)); more > 0 {
			_, _ = fmt.Fprintf(t, "and %d more\n", more)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if c := r.Copy; c != nil && r.State == v1alpha1.StateComplete {
		if written := n.Created + n.Updated + n.Deleted; written > 0 {
			_, _ = fmt.Fprintf(w, "\nequal: %d of %d written nodes were read back as written, %d were equal before\n", c.Verified, written, n.Unchanged)
		} else {
			_, _ = fmt.Fprintf(w, "\nequal: all %d nodes were equal before, nothing was written\n", n.Unchanged)
		}
	}
	for _, c := range r.Conditions {
		if c.Type == v1alpha1.ConditionFailed {
			_, _ = fmt.Fprintf(w, "\n%s: %s\n", c.Reason, c.Message)
		}
	}
	return nil
}

func (r *syncReport) took() string {
	if r.StartTime == nil || r.CompletionTime == nil {
		return "-"
	}
	return r.CompletionTime.Sub(r.StartTime.Time).Round(10 * time.Millisecond).String()
}
