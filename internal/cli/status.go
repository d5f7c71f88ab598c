package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/afterimage-dr/afterimage/internal/status"
)

// askTimeout of one question to a running process.
const askTimeout = 10 * time.Second

func statusCommand() *cobra.Command {
	var (
		dir, format string
		wait        time.Duration
	)
	c := &cobra.Command{
		Use:   "status",
		Short: "Say how a running afterimage is doing",
		Long: `Status asks the afterimage that runs with the same data directory how it is: per
LiveSynchronization its state, how many objects are in sync, how old the oldest
change is that was not applied yet (lag), how long ago the destination was proved
to hold everything (verified), and why anything fails; per SynchronizationPlan when it
ran and when it runs next; and what became of the runs.

What is not known is said to be unknown, and is never Ready.

The exit status is 0 when there was an answer, whatever it says, and 1 when nothing
runs there. With --wait it is 0 only once every LiveSynchronization is Ready, every
SynchronizationPlan is scheduled or suspended, and every Synchronization is Complete.`,
		Example: `  afterimage status
  afterimage status -o json --data-dir /var/lib/afterimage
  afterimage status --wait 5m`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if format != "table" && format != "json" {
				return usageError{fmt.Errorf("--output %q: want table or json", format)}
			}
			if err := checkDataDir(dir); err != nil {
				return err
			}
			p, err := ask(c.Context(), dir, wait)
			if err != nil && p.PID == 0 {
				return err
			}
			if format == "json" {
				e := json.NewEncoder(c.OutOrStdout())
				e.SetIndent("", "  ")
				return errors.Join(e.Encode(p), err)
			}
			return errors.Join(status.Table(c.OutOrStdout(), p), err)
		},
	}
	c.Flags().StringVarP(&format, "output", "o", "table", "table or json")
	c.Flags().DurationVar(&wait, "wait", 0, "wait this long for everything to be Ready")
	dataDirFlag(c, &dir)
	return c
}

// ask asks once, or until everything is Ready or wait is over; then the last
// answer comes with an error.
func ask(ctx context.Context, dir string, wait time.Duration) (status.Process, error) {
	deadline := time.Now().Add(wait)
	for {
		attempt, cancel := context.WithTimeout(ctx, askTimeout)
		p, err := status.Get(attempt, dir)
		cancel()
		if wait == 0 || (err == nil && p.Ready()) {
			return p, err
		}
		if time.Now().After(deadline) {
			return p, errors.Join(err, fmt.Errorf("not Ready within %s", wait))
		}
		select {
		case <-ctx.Done():
			return p, ctx.Err()
		case <-time.After(250 * time.Millisecond):
		}
	}
}
