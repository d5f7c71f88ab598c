package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/afterimage-dr/afterimage/consumers/restorer"
	"github.com/afterimage-dr/afterimage/internal/manifest"
	"github.com/afterimage-dr/afterimage/internal/pipeline"
	"github.com/afterimage-dr/afterimage/internal/recovery"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/state/bucket"
)

// recoverFlags are what recover is told.
type recoverFlags struct {
	target  targetFlags
	brokers []string
	dataDir string
	at      string
	from    string
	dryRun  bool
	force   bool
	format  string
	moment  time.Time
}

// targetFlags name a LiveSynchronization among manifests.
type targetFlags struct {
	files     []string
	liveSync  string
	allowExec bool
}

func (f *targetFlags) add(c *cobra.Command) {
	c.Flags().StringArrayVarP(&f.files, "filename", "f", nil, "manifest file or directory, - for standard input (repeatable)")
	c.Flags().StringVar(&f.liveSync, "livesync", "", "NAME or NAMESPACE/NAME of the LiveSynchronization; needed only where the manifests hold several")
	c.Flags().BoolVar(&f.allowExec, "allow-kubeconfig-exec", false, "accept kubeconfigs that run a program to get credentials")
}

func recoverCommand() *cobra.Command {
	var f recoverFlags
	c := &cobra.Command{
		Use:   "recover -f FILE|DIR [-f ...]",
		Short: "Bring the applications up at the destination",
		Long: `Recover makes the destination take over: it stops replication to it, wherever that
runs, brings what had not arrived yet, and does with every object what the
recoveryProcess of its entry says. The source is never contacted. The objects come
from the log, which may be that of a running afterimage, or of one that has ended.

Replication is stopped by a fence in the destination itself, and stays stopped until
a person lifts it with "afterimage resume".

It may be killed and run again: nothing is done twice and nothing is forgotten. Every
object that was written is looked for once more at the end. The exit status is 0 only
if all of them are there and none failed.

With --at the destination becomes as the source was at that moment, through today's
filters and patches: objects of that time come back, later ones are deleted, but not
more than half of them without --force. A moment that the log cannot tell is refused
with the bounds; one at which nobody watched the source needs --force.

With --dry-run nothing is stopped and nothing is written: the destination checks
every write and reports what it would refuse.

With a bucket, originals are read from it, and everything is where the log is lost
(--from bucket does not even look for a log).`,
		Example: `  afterimage recover -f manifests/
  afterimage recover -f manifests/ --dry-run
  afterimage recover -f manifests/ --livesync shop --at 2026-11-25T04:30:00Z
  afterimage recover -f manifests/ --brokers kafka-0:9092 -o json`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	f.target.add(c)
	c.Flags().StringSliceVar(&f.brokers, "brokers", nil, "host:port of Kafka or Redpanda brokers, comma-separated (default: the log in the data directory)")
	c.Flags().StringVar(&f.at, "at", "", "rebuild the destination as the source was at this moment: RFC 3339, or a duration ago (2h)")
	c.Flags().StringVar(&f.from, "from", v1alpha1.RecoverFromAuto, "bucket, log, or auto: the log, with originals from the bucket, and the bucket alone where there is no log")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would be done, and what the destination would refuse")
	c.Flags().BoolVar(&f.force, "force", false, "delete beyond the limit, and rebuild a moment at which nobody watched the source")
	c.Flags().StringVarP(&f.format, "output", "o", "table", "table or json")
	dataDirFlag(c, &f.dataDir)
	return c
}

func (f *recoverFlags) check() (err error) {
	if f.format != "table" && f.format != "json" {
		return usageError{fmt.Errorf("--output %q: want table or json", f.format)}
	}
	if !slices.Contains([]string{v1alpha1.RecoverFromAuto, v1alpha1.RecoverFromLog, v1alpha1.RecoverFromBucket}, f.from) {
		return usageError{fmt.Errorf("--from %q: want auto, log or bucket", f.from)}
	}
	if f.from == v1alpha1.RecoverFromBucket && f.at != "" {
		return usageError{errors.New("--from bucket holds the newest state alone: --at needs the log")}
	}
	if err := checkBrokers(f.brokers); err != nil {
		return usageError{fmt.Errorf("--brokers: %w", err)}
	}
	if f.moment, err = momentFlag("--at", f.at, time.Now()); err != nil {
		return err
	}
	if f.moment.After(time.Now()) {
		return usageError{fmt.Errorf("--at %s: it is in the future", f.at)}
	}
	if len(f.target.files) == 0 {
		return usageError{errors.New("no manifests: name them with -f FILE|DIR")}
	}
	return checkDataDir(f.dataDir)
}

func (f *recoverFlags) run(c *cobra.Command) error {
	if err := f.check(); err != nil {
		return err
	}
	q, done, err := f.request(c)
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := signals(c.Context())
	defer cancel()
	report, err := recovery.Run(ctx, q)
	if err != nil && (report == nil || report.Writing.IsZero()) {
		return err // nothing was begun
	}
	return errors.Join(err, f.print(c.OutOrStdout(), report))
}

// request is what the manifests and flags ask for, with the log opened; done closes it.
func (f *recoverFlags) request(c *cobra.Command) (q recovery.Request, done func(), err error) {
	target, reach, asked, err := f.target.load()
	if err != nil {
		return q, nil, err
	}
	if asked != nil { // a Recovery among the manifests
		spec := &asked.Spec
		f.dryRun, f.force = f.dryRun || spec.DryRun, f.force || spec.Force
		if f.from == v1alpha1.RecoverFromAuto && spec.From != "" {
			f.from = spec.From
		}
		if f.moment.IsZero() {
			if f.moment, err = spec.At(); err != nil {
				return q, nil, err
			}
		}
	}
	errOut := c.ErrOrStderr()
	q = recovery.Request{
		Target: target, Destination: reach.destination, Bucket: reach.bucket, From: f.from, DataDir: absolute(f.dataDir), At: f.moment,
		DryRun: f.dryRun, Force: f.force, Progress: showProgress(errOut, isTerminal(errOut)),
	}
	done = func() {}
	if f.from != v1alpha1.RecoverFromBucket {
		if q.Log, q.NoLog = pipeline.OpenLog(pipeline.LogOptions{DataDir: f.dataDir, Brokers: f.brokers}); q.NoLog == nil {
			done = q.Log.Close
		}
	}
	return q, done, nil
}

func (f *recoverFlags) print(w io.Writer, report *restorer.Report) error {
	var err error
	if f.format == "json" {
		err = report.JSON(w)
	} else {
		err = report.Table(w)
	}
	if err == nil && !report.Complete() {
		return errSilent // the report has said why
	}
	return err
}

// load reads the manifests and finds what they, or the flag, ask to recover; a
// Recovery among them is returned too.
func (f *targetFlags) load() (t manifest.Target, r reach, asked *v1alpha1.Recovery, err error) {
	var options []manifest.Option
	if f.allowExec {
		options = append(options, manifest.AllowKubeconfigExec())
	}
	set, err := manifest.Load(f.files, options...)
	if err != nil {
		return t, r, nil, err
	}
	if t, asked, err = f.choose(set); err != nil {
		return t, r, nil, err
	}
	r.bucket = set.BucketOptions(t.Bucket)
	r.destination, err = set.RESTConfig(t.Destination)
	return t, r, asked, err
}

// reach is how to reach what a recovery works on.
type reach struct {
	destination *rest.Config
	bucket      *bucket.Options
}

func (f *targetFlags) choose(set *manifest.Set) (manifest.Target, *v1alpha1.Recovery, error) {
	if len(set.Recoveries) == 1 && f.liveSync == "" {
		return set.ConfigOf(set.Recoveries[0]), set.Recoveries[0], nil
	}
	var known, nodes []string
	var found []manifest.Target
	for _, ls := range set.LiveSynchronizations {
		id := ls.Namespace + "/" + ls.Name
		asked := f.liveSync == "" || f.liveSync == ls.Name || f.liveSync == id
		if ls.Spec.PluginName() == v1alpha1.PluginZooKeeper {
			if asked {
				nodes = append(nodes, id)
			}
			continue
		}
		known = append(known, id)
		if asked {
			found = append(found, set.TargetOf(ls))
		}
	}
	slices.Sort(known)
	switch {
	case len(found) == 1:
		return found[0], nil, nil
	case len(found) == 0 && len(nodes) > 0:
		return manifest.Target{}, nil, usageError{fmt.Errorf("LiveSynchronization %s copies nodes of ZooKeeper: its destination is as it must be at any moment, and has no fence; to bring there what the log holds, without the source, use \"afterimage sync --from log\"", nodes[0])}
	case len(known) == 0:
		return manifest.Target{}, nil, usageError{errors.New("the manifests hold no LiveSynchronization of Kubernetes objects")}
	case f.liveSync == "":
		return manifest.Target{}, nil, usageError{fmt.Errorf("which LiveSynchronization? Name it with --livesync: the manifests hold %s", strings.Join(known, ", "))}
	case len(found) > 1:
		return manifest.Target{}, nil, usageError{fmt.Errorf("--livesync %s: several are called so, want NAMESPACE/NAME: %s", f.liveSync, strings.Join(known, ", "))}
	}
	return manifest.Target{}, nil, usageError{fmt.Errorf("--livesync %s: the manifests hold %s", f.liveSync, strings.Join(known, ", "))}
}

// showProgress tells on a terminal in a line that rewrites itself, elsewhere a
// line a phase.
func showProgress(w io.Writer, terminal bool) func(restorer.Progress) {
	last := ""
	return func(p restorer.Progress) {
		line := p.Phase
		if p.Total > 0 && p.Done > 0 {
			line = fmt.Sprintf("%s: %d of %d objects, %d failed", p.Phase, p.Done, p.Total, p.Failed)
		}
		switch {
		case terminal:
			_, _ = fmt.Fprintf(w, "\r\x1b[K%s", line)
		case p.Phase != last:
			_, _ = fmt.Fprintln(w, p.Phase)
		}
		last = p.Phase
		if terminal && p.Phase == restorer.PhaseDone {
			_, _ = fmt.Fprint(w, "\r\x1b[K")
		}
	}
}

func rehearseCommand() *cobra.Command {
	var f recoverFlags
	var into string
	var stage recovery.Stage
	c := &cobra.Command{
		Use:   "rehearse -f FILE|DIR [-f ...]",
		Short: "Try a recovery without stopping anything",
		Long: `Rehearse does what "afterimage recover" would do, while replication goes on: the
destination checks every write in full, admission included, and keeps none. It says
what would fail and why, how long it took, and what a recovery would take. That
forecast is corrected by the recoveries and rehearsals of before, which are kept in the
data directory.

With --into-kubeconfig everything is written for real, into another cluster, which
then holds the recovered applications. With --namespace-prefix everything that is in a
namespace is written into namespaces of other names, under an owner of its own, and
deleted at the end unless --keep is given; what has no namespace is left out, and what
objects say of namespaces stays as it is.`,
		Example: `  afterimage rehearse -f manifests/
  afterimage rehearse -f manifests/ --namespace-prefix drill-
  afterimage rehearse -f manifests/ --into-kubeconfig throwaway.kubeconfig`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.rehearse(c, into, stage) },
	}
	f.target.add(c)
	c.Flags().StringSliceVar(&f.brokers, "brokers", nil, "host:port of Kafka or Redpanda brokers, comma-separated (default: the log in the data directory)")
	c.Flags().StringVar(&f.from, "from", v1alpha1.RecoverFromAuto, "bucket, log, or auto: see recover")
	c.Flags().StringVar(&into, "into-kubeconfig", "", "kubeconfig of another cluster to recover into")
	c.Flags().StringVar(&stage.NamespacePrefix, "namespace-prefix", "", "recover into namespaces whose names begin with this")
	c.Flags().BoolVar(&stage.Keep, "keep", false, "keep what was written under the prefix")
	c.Flags().StringVarP(&f.format, "output", "o", "table", "table or json")
	dataDirFlag(c, &f.dataDir)
	return c
}

func (f *recoverFlags) rehearse(c *cobra.Command, into string, stage recovery.Stage) error {
	if err := f.check(); err != nil {
		return err
	}
	if p := stage.NamespacePrefix; p != "" && len(validation.IsDNS1123Label(p+"x")) > 0 {
		return usageError{fmt.Errorf("--namespace-prefix %q: want what the name of a namespace may begin with, such as drill-", p)}
	}
	if stage.Keep && stage.NamespacePrefix == "" {
		return usageError{errors.New("--keep is for --namespace-prefix")}
	}
	q, done, err := f.request(c)
	if err != nil {
		return err
	}
	defer done()
	if into != "" {
		if stage.Cluster, err = clientcmd.BuildConfigFromFlags("", into); err != nil {
			return usageError{fmt.Errorf("--into-kubeconfig: %w", err)}
		}
		stage.Cluster.QPS = -1
	}
	ctx, cancel := signals(c.Context())
	defer cancel()
	r, err := recovery.Rehearse(ctx, q, stage)
	if err != nil {
		return err
	}
	if f.format == "table" {
		learned := "no recovery has taught otherwise yet"
		if r.Learned > 0 {
			learned = fmt.Sprintf("recoveries took %.2f times as long as rehearsals, the median of %d", r.Factor, r.Learned)
		}
		defer func() {
			_, _ = fmt.Fprintf(c.OutOrStdout(), "forecast of a recovery: %s (%s)\n", r.Forecast.Round(100*time.Millisecond), learned)
		}()
	}
	return f.print(c.OutOrStdout(), r.Report)
}

func resumeCommand() *cobra.Command {
	var f targetFlags
	c := &cobra.Command{
		Use:   "resume -f FILE|DIR [-f ...]",
		Short: "Let replication go on after a recovery",
		Long: `Resume lifts the fence that a recovery has raised in the destination. Whatever
replicates to it goes on, and makes the destination a standby again: what the recovery
changed becomes as the source, or the log, has it.`,
		Example: `  afterimage resume -f manifests/`,
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if len(f.files) == 0 {
				return usageError{errors.New("no manifests: name them with -f FILE|DIR")}
			}
			target, reach, _, err := f.load()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
			defer cancel()
			term, err := recovery.Resume(ctx, target, reach.destination)
			if err != nil {
				return err
			}
			message := fmt.Sprintf("%s: no recovery holds the destination\n", target.LiveSynchronization)
			if term != 0 {
				message = fmt.Sprintf("%s: the fence of term %d is lifted, replication goes on\n", target.LiveSynchronization, term)
			}
			_, err = fmt.Fprint(c.OutOrStdout(), message)
			return err
		},
	}
	f.add(c)
	return c
}
