package testcluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// ErrNoJava: a server that runs on Java cannot be had because mvn or java is
// missing.
var ErrNoJava = errors.New("mvn or java is missing")

// java is what starts the main classes of one product.
type java struct {
	binary string
	jars   string
}

// findJava runs a product's script, which finds or fetches its jars and has the
// exit status 3 when mvn or java is missing. A folder of jars given is taken as
// it is.
func findJava(ctx context.Context, script, jars string, progress io.Writer) (java, error) {
	binary, err := exec.LookPath("java")
	if err != nil {
		return java{}, fmt.Errorf("%w: %w", ErrNoJava, err)
	}
	if jars != "" {
		return java{binary: binary, jars: jars}, nil
	}
	root, err := repositoryRoot()
	if err != nil {
		return java{}, fmt.Errorf("looking for %s: %w", script, err)
	}
	if progress == nil {
		progress = os.Stderr
	}
	var stdout bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(root, script))
	cmd.Stdout, cmd.Stderr = &stdout, progress
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == 3 {
			return java{}, ErrNoJava
		}
		return java{}, fmt.Errorf("running %s: %w", script, err)
	}
	return java{binary: binary, jars: lastLine(stdout.String())}, nil
}

// arguments are those of java for a main class: one core's worth of collector and
// a quick compiler, since such a server lives for seconds and shares two cores
// with everything else. Of options that contradict each other Java takes the
// last.
func (j java) arguments(options []string, main string, args ...string) []string {
	all := []string{"-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Djava.awt.headless=true"}
	all = append(all, options...)
	all = append(all, "-cp", filepath.Join(j.jars, "*"), main)
	return append(all, args...)
}
