package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/afterimage-dr/afterimage/internal/history"
	"github.com/afterimage-dr/afterimage/internal/manifest"
	"github.com/afterimage-dr/afterimage/internal/pipeline"
	"github.com/afterimage-dr/afterimage/topology"
)

// logFlags name the log a command reads, and which of what is in it.
type logFlags struct {
	dataDir  string
	brokers  []string
	files    []string
	liveSync string
}

func (f *logFlags) add(c *cobra.Command) {
	dataDirFlag(c, &f.dataDir)
	c.Flags().StringSliceVar(&f.brokers, "brokers", nil, "host:port of the Kafka or Redpanda brokers that hold the log, comma-separated (default: the embedded log in the data directory)")
	c.Flags().StringVar(&f.liveSync, "livesync", "", "NAMESPACE/NAME of the LiveSynchronization, Synchronization or SynchronizationPlan; needed only where the log holds several. With -f, NAME is enough. Without it, a ZooKeeper tree is named zookeeper.SOURCE.DESTINATION.HASH")
	c.Flags().StringArrayVarP(&f.files, "filename", "f", nil, "manifest file or directory, - for standard input (repeatable), in which --livesync is looked up")
}

func (f *logFlags) check() error {
	if err := checkBrokers(f.brokers); err != nil {
		return usageError{fmt.Errorf("--brokers: %w", err)}
	}
	if ns, name, ok := strings.Cut(f.liveSync, "/"); f.liveSync != "" && len(f.files) == 0 && (!ok || ns == "" || name == "" || strings.Contains(name, "/")) {
		return usageError{fmt.Errorf("--livesync %q: want NAMESPACE/NAME, or NAME with -f", f.liveSync)}
	}
	return checkDataDir(f.dataDir)
}

// open opens the log and finds in it what is asked for. The caller closes it.
func (f *logFlags) open(ctx context.Context) (*pipeline.LogAccess, history.Log, error) {
	var wanted []namedLog
	if len(f.files) > 0 {
		// No cluster is contacted, so no program is run to sign in.
		set, err := manifest.Load(f.files, manifest.AllowKubeconfigExec())
		if err != nil {
			return nil, history.Log{}, err
		}
		if wanted, err = f.choose(logsOf(set)); err != nil {
			return nil, history.Log{}, err
		}
	} else if ns, name, ok := strings.Cut(f.liveSync, "/"); ok {
		wanted = []namedLog{{f.liveSync, topology.TopicsFor(ns, name)}}
	}
	access, err := pipeline.OpenLog(pipeline.LogOptions{DataDir: f.dataDir, Brokers: f.brokers})
	if err != nil {
		return nil, history.Log{}, err
	}
	topics, err := f.topics(ctx, access, wanted)
	if err != nil {
		access.Close()
		return nil, history.Log{}, err
	}
	return access, history.Log{Client: access.Client, Topics: topics, Embedded: access.Embedded, Floor: access.Floor}, nil
}

// choose among what manifests hold; all of it where nothing is named.
func (f *logFlags) choose(all []namedLog) (found []namedLog, err error) {
	for _, l := range all {
		_, name, _ := strings.Cut(l.id, "/")
		if f.liveSync == "" || f.liveSync == l.id || f.liveSync == name {
			found = append(found, l)
		}
	}
	if len(found) == 0 {
		return nil, usageError{fmt.Errorf("--livesync %s: the manifests hold %s", f.liveSync, names(all))}
	}
	return found, nil
}

// topics of what is wanted, or of all that the log holds where nothing is: it has to
// be one.
func (f *logFlags) topics(ctx context.Context, access *pipeline.LogAccess, wanted []namedLog) (topology.Topics, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	topics, err := access.Client.Topics(ctx, "afterimage.", ".changes")
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("the log did not answer within %s: %w", askTimeout, err)
	}
	if err != nil {
		return topology.Topics{}, err
	}
	var known, found []namedLog
	for _, changes := range topics {
		t, ns, name, ok := topology.TopicsOf(changes)
		if !ok {
			continue
		}
		l := namedLog{ns + "/" + name, t}
		known = append(known, l)
		if i := slices.IndexFunc(wanted, func(w namedLog) bool { return w.topics == t }); i >= 0 {
			found = append(found, wanted[i])
		} else if wanted == nil {
			found = append(found, l)
		}
	}
	switch {
	case len(known) == 0:
		return topology.Topics{}, errors.New("the log holds nothing that was replicated with it")
	case len(found) == 1:
		return found[0].topics, nil
	case len(found) > 1:
		return topology.Topics{}, usageError{fmt.Errorf("which one? Name it with --livesync: the log holds %s", names(found))}
	case f.liveSync != "":
		return topology.Topics{}, fmt.Errorf("--livesync %s: the log holds only %s", f.liveSync, names(known))
	}
	return topology.Topics{}, fmt.Errorf("the log holds nothing of what the manifests name, only %s", names(known))
}
