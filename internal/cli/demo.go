package cli

import (
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/afterimage-dr/afterimage/internal/demo"
)

func demoCommand() *cobra.Command {
	var o demo.Options
	c := &cobra.Command{
		Use:   "demo",
		Short: "See it work between two throwaway clusters",
		Long: `Demo starts two real Kubernetes control planes on this machine, runs "afterimage run"
between them over a few hundred objects, edits and deletes in the source, kills
Afterimage with SIGKILL and starts it again in the middle, and then compares both
clusters object by object.

The exit status is 0 only if they are equal. On a terminal everything stays up
afterwards, with commands to try, until Ctrl-C.

It needs kube-apiserver, kube-controller-manager and etcd: "make demo" finds or
builds them; elsewhere set KUBEBUILDER_ASSETS to their folder.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := signals(c.Context())
			defer cancel()
			o.Out, o.Progress = c.OutOrStdout(), c.ErrOrStderr()
			if !c.Flags().Changed("stay") {
				o.Stay = isTerminal(o.Out) && term.IsTerminal(int(os.Stdin.Fd()))
			}
			equal, err := demo.Run(ctx, o)
			if err != nil {
				return err
			}
			if !equal {
				return errSilent // the report has said it
			}
			return nil
		},
	}
	c.AddCommand(demoZooKeeperCommand())
	c.Flags().BoolVar(&o.Stay, "stay", false, "stay up afterwards, until Ctrl-C (default: on a terminal)")
	c.Flags().IntVar(&o.Objects, "objects", demo.DefaultObjects, "how many objects to begin with, about")
	return c
}

func demoZooKeeperCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "zookeeper",
		Short: "See it work between two throwaway ZooKeeper servers",
		Long: `Demo zookeeper starts two real ZooKeeper servers on this machine and fills one with some
two thousand nodes. It copies them to the other once ("afterimage sync"), then by a plan
that runs every minute and then live ("afterimage run"), with a SIGKILL in the middle of
changes. In the end the source is lost, and its last state is brought from the log to a
third server.

After each step both sides are read and compared node by node; the exit status is 0 only
if they were equal each time. It takes two to three minutes, one of which is the wait for
the plan.

It needs Java 17 and Apache ZooKeeper, which is fetched with Maven the first time; so it is
run in the repository, as by "make demo-zookeeper".`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := signals(c.Context())
			defer cancel()
			equal, err := demo.RunZooKeeper(ctx, demo.Options{Out: c.OutOrStdout(), Progress: c.ErrOrStderr()})
			if err == nil && !equal {
				err = errSilent // the report has said it
			}
			return err
		},
	}
}
