package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/afterimage-dr/afterimage/internal/history"
	"github.com/afterimage-dr/afterimage/internal/pipeline"
	"github.com/afterimage-dr/afterimage/internal/recovery"
	"github.com/afterimage-dr/afterimage/topology"
)

// replayFlags are what replay is told.
type replayFlags struct {
	target   targetFlags
	brokers  []string
	dataDir  string
	objects  []string
	since    string
	preview  bool
	dryRun   bool
	force    bool
	format   string
	sinceAgo time.Time
}

func replayCommand() *cobra.Command {
	var f replayFlags
	c := &cobra.Command{
		Use:   "replay -f FILE|DIR [-f ...] (--object OBJECT | --since TIME | --preview)",
		Short: "Apply what is logged to the destination again",
		Long: `Replay takes states from the log, through the filters and patches of the manifests,
and applies them to the destination again: after a patch was mended, or to bring back
an object that was deleted. The source is not read, and replication may run meanwhile.

--object takes the last state that the log has of an object. One that was deleted in
the source comes back as an adopted object: it is kept up to date should it appear in
the source again, and Afterimage never deletes it. --since takes everything that was
changed since, in the state it is in now.

--preview writes nothing and needs no cluster: it goes over every object in the log
and says of which the manifests would make something else than what is in force now,
and on which a patch would fail. The exit status is 1 if one would.`,
		Example: `  afterimage replay -f manifests/ --preview
  afterimage replay -f manifests/ --object deployments.apps/shop/web
  afterimage replay -f manifests/ --since 2h --dry-run`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	f.target.add(c)
	c.Flags().StringSliceVar(&f.brokers, "brokers", nil, "host:port of Kafka or Redpanda brokers, comma-separated (default: the log in the data directory)")
	c.Flags().StringArrayVar(&f.objects, "object", nil, "an object: RESOURCE[.GROUP]/NAMESPACE/NAME, RESOURCE[.GROUP]/NAME where it has no namespace, or GROUP/VERSION/RESOURCE/NAMESPACE/NAME with group \"core\" (repeatable)")
	c.Flags().StringVar(&f.since, "since", "", "everything changed from this moment on: RFC 3339, or a duration ago (2h)")
	c.Flags().BoolVar(&f.preview, "preview", false, "say what the manifests would change, and where a patch would fail")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would be written, and what the destination would refuse")
	c.Flags().BoolVar(&f.force, "force", false, "replace what is newer at the destination")
	c.Flags().StringVarP(&f.format, "output", "o", "table", "table or json")
	dataDirFlag(c, &f.dataDir)
	return c
}

func (f *replayFlags) check() (err error) {
	asked := 0
	for _, on := range [...]bool{len(f.objects) > 0, f.since != "", f.preview} {
		if on {
			asked++
		}
	}
	switch {
	case len(f.target.files) == 0:
		return usageError{errors.New("no manifests: name them with -f FILE|DIR")}
	case asked != 1:
		return usageError{errors.New("want one of --object, --since and --preview")}
	case f.format != "table" && f.format != "json":
		return usageError{fmt.Errorf("--output %q: want table or json", f.format)}
	}
	if err := checkBrokers(f.brokers); err != nil {
		return usageError{fmt.Errorf("--brokers: %w", err)}
	}
	if f.sinceAgo, err = momentFlag("--since", f.since, time.Now()); err != nil {
		return err
	}
	for _, o := range f.objects {
		if _, _, err := objectFlag(o); err != nil {
			return err
		}
	}
	return checkDataDir(f.dataDir)
}

func (f *replayFlags) run(c *cobra.Command) error {
	if err := f.check(); err != nil {
		return err
	}
	target, reach, _, err := f.target.load()
	if err != nil {
		return err
	}
	ctx, cancel := signals(c.Context())
	defer cancel()
	access, err := pipeline.OpenLog(pipeline.LogOptions{DataDir: f.dataDir, Brokers: f.brokers})
	if err != nil {
		return err
	}
	defer access.Close()
	errOut := c.ErrOrStderr()
	q := recovery.Request{
		Target: target, Destination: reach.destination, Log: access, DataDir: absolute(f.dataDir),
		DryRun: f.dryRun, Force: f.force, Progress: showProgress(errOut, isTerminal(errOut)),
	}
	if f.preview {
		all, objects, err := recovery.Preview(ctx, q)
		if err != nil {
			return err
		}
		return f.printPreview(c.OutOrStdout(), all, objects)
	}
	what := recovery.Replayed{Since: f.sinceAgo}
	id := target.LiveSynchronization
	log := history.Log{Client: access.Client, Topics: topology.TopicsFor(id.Namespace, id.Name)}
	for _, o := range f.objects {
		key, err := find(ctx, log, o)
		if err != nil {
			return err
		}
		what.Objects = append(what.Objects, key)
	}
	report, err := recovery.Replay(ctx, q, what)
	if report == nil {
		return err
	}
	p := recoverFlags{format: f.format}
	return errors.Join(err, p.print(c.OutOrStdout(), report))
}

func (f *replayFlags) printPreview(w io.Writer, all []recovery.Foreseen, objects int) error {
	slices.SortFunc(all, func(a, b recovery.Foreseen) int { return cmp.Compare(a.Key, b.Key) })
	fails := 0
	for _, a := range all {
		if a.What == recovery.Fails || a.What == recovery.RecoveryFails {
			fails++
		}
	}
	var err error
	if f.format == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		err = e.Encode(map[string]any{"objects": objects, "differ": all, "failing": fails})
	} else {
		t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
		_, _ = fmt.Fprintln(t, "OBJECT\tWHAT\tWHY")
		for _, a := range all {
			_, _ = fmt.Fprintf(t, "%s\t%s\t%s\n", a.Key, a.What, a.Message)
		}
		_, _ = fmt.Fprintf(t, "\n%d objects in the log, %d differ, %d fail\n", objects, len(all), fails)
		err = t.Flush()
	}
	if err == nil && fails > 0 {
		return errSilent
	}
	return err
}
