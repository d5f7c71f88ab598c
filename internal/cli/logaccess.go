package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/afterimage-dr/afterimage/internal/history"
	"github.com/afterimage-dr/afterimage/internal/pipeline"
	"github.com/afterimage-dr/afterimage/topology"
)

// logFlags name the log a command reads, and the LiveSynchronization in it.
type logFlags struct {
	dataDir  string
	brokers  []string
	liveSync string
}

func (f *logFlags) add(c *cobra.Command) {
	dataDirFlag(c, &f.dataDir)
	c.Flags().StringSliceVar(&f.brokers, "brokers", nil, "host:port of the Kafka or Redpanda brokers that hold the log, comma-separated (default: the embedded log in the data directory)")
	c.Flags().StringVar(&f.liveSync, "livesync", "", "NAMESPACE/NAME of the LiveSynchronization; needed only where the log holds several")
}

func (f *logFlags) check() error {
	if err := checkBrokers(f.brokers); err != nil {
		return usageError{fmt.Errorf("--brokers: %w", err)}
	}
	if ns, name, ok := strings.Cut(f.liveSync, "/"); f.liveSync != "" && (!ok || ns == "" || name == "" || strings.Contains(name, "/")) {
		return usageError{fmt.Errorf("--livesync %q: want NAMESPACE/NAME", f.liveSync)}
	}
	return checkDataDir(f.dataDir)
}

// open opens the log and finds the LiveSynchronization in it. The caller closes it.
func (f *logFlags) open(ctx context.Context) (*pipeline.LogAccess, history.Log, error) {
	access, err := pipeline.OpenLog(pipeline.LogOptions{DataDir: f.dataDir, Brokers: f.brokers})
	if err != nil {
		return nil, history.Log{}, err
	}
	topics, err := f.topics(ctx, access)
	if err != nil {
		access.Close()
		return nil, history.Log{}, err
	}
	return access, history.Log{Client: access.Client, Topics: topics, Embedded: access.Embedded, Floor: access.Floor}, nil
}

func (f *logFlags) topics(ctx context.Context, access *pipeline.LogAccess) (topology.Topics, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	names, err := access.Client.Topics(ctx, "afterimage.", ".changes")
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("the log did not answer within %s: %w", askTimeout, err)
	}
	if err != nil {
		return topology.Topics{}, err
	}
	var wanted topology.Topics
	if ns, name, ok := strings.Cut(f.liveSync, "/"); ok {
		wanted = topology.TopicsFor(ns, name)
	}
	var known []string
	var last topology.Topics
	for _, changes := range names {
		t, ns, name, ok := topology.TopicsOf(changes)
		if !ok {
			continue
		}
		if t.Changes == wanted.Changes {
			return t, nil
		}
		known, last = append(known, ns+"/"+name), t
	}
	switch {
	case len(known) == 0:
		return topology.Topics{}, errors.New("the log holds no LiveSynchronization: nothing was ever replicated with it")
	case f.liveSync != "":
		return topology.Topics{}, fmt.Errorf("--livesync %s: the log holds only %s", f.liveSync, strings.Join(known, ", "))
	case len(known) > 1:
		return topology.Topics{}, usageError{fmt.Errorf("which LiveSynchronization? Name it with --livesync: the log holds %s", strings.Join(known, ", "))}
	}
	return last, nil
}
