package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// The exit statuses.
const (
	exitOK = 0
	// exitFailed: it was understood and could not be done, or the answer is no.
	exitFailed = 1
	// exitUsage: the command line was not understood.
	exitUsage = 2
)

// usageError is a command line that was not understood.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Main runs the command line and returns the exit status. What a command
// answers goes to out, logs and complaints to errOut.
func Main(ctx context.Context, args []string, out, errOut io.Writer) int {
	root := command()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errOut)
	ran, err := root.ExecuteContextC(ctx)
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errSilent):
		return exitFailed
	case errors.As(err, &usage):
		_, _ = fmt.Fprintf(errOut, "afterimage: %v\nSee \"%s --help\".\n", err, ran.CommandPath())
		return exitUsage
	}
	_, _ = fmt.Fprintf(errOut, "afterimage: %v\n", err)
	return exitFailed
}

// errSilent: the command failed and has said why.
var errSilent = errors.New("failed")

func command() *cobra.Command {
	root := &cobra.Command{
		Use:   "afterimage",
		Short: "Keep a live standby of a Kubernetes cluster",
		Long: `Afterimage keeps a standby Kubernetes cluster as the image of an active one.

Every change of the objects you choose is read from the source cluster, written to
a log, filtered and transformed, and applied to the destination cluster, within
moments and in order. After a restart, a kill or an outage it goes on where it was
and proves that both sides are equal again.

Volume data is not replicated: objects are, what is on disks is not.

  afterimage run -f manifests/     replicate what the manifests say
  afterimage status                how far the standby is, and what fails
  afterimage recover -f manifests/ bring the applications up at the destination
  afterimage audit                 who changed what, and what became of it
  afterimage demo                  see it work between two throwaway clusters`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       Version(),
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			hint := ""
			if like := c.SuggestionsFor(args[0]); len(like) > 0 {
				hint = "; did you mean " + strings.Join(like, ", ") + "?"
			}
			return usageError{fmt.Errorf("unknown command %q%s", args[0], hint)}
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(runCommand(), recoverCommand(), resumeCommand(), rehearseCommand(), replayCommand(), statusCommand(), auditCommand(), syncCommand(), versionCommand(), demoCommand())
	root.SuggestionsMinimumDistance = 2
	root.SetVersionTemplate(versionLine())
	root.CompletionOptions.HiddenDefaultCmd = true
	return root
}

// noArgs refuses arguments: everything is said by flags.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	if c.Flags().Lookup("filename") != nil {
		hint = "; manifests are named with -f FILE|DIR"
	}
	return usageError{fmt.Errorf("%s takes no arguments, got %q%s", c.CommandPath(), args, hint)}
}

// defaultDataDir is where run keeps its memory and status finds it.
func defaultDataDir() string {
	if state := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, "afterimage")
	}
	return "afterimage-data"
}

// checkDataDir refuses the empty name a variable that is not set leaves: it would
// be the working directory.
func checkDataDir(dir string) error {
	if dir == "" {
		return usageError{errors.New("--data-dir: it is empty: want a directory")}
	}
	return nil
}

func dataDirFlag(c *cobra.Command, dir *string) {
	c.Flags().StringVar(dir, "data-dir", defaultDataDir(), "directory of the memory, the embedded log and the status socket ($XDG_STATE_HOME/afterimage where that is set)")
}
