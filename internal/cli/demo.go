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
	c.Flags().BoolVar(&o.Stay, "stay", false, "stay up afterwards, until Ctrl-C (default: on a terminal)")
	c.Flags().IntVar(&o.Objects, "objects", demo.DefaultObjects, "how many objects to begin with, about")
	return c
}
