package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const zkShellScript = "bench/tools/zkshell/zkshell-assets.sh"

// zkShell is the folder of another copier.
type zkShell string

// findZKShell finds or installs it. The benchmark runs in the repository's root, as
// `make bench` starts it.
func findZKShell(ctx context.Context) (zkShell, error) {
	c := exec.CommandContext(ctx, zkShellScript)
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", zkShellScript, err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return zkShell(lines[len(lines)-1]), nil
}

// copy copies the tree, in zk-shell's faster way: the one that looks for the nodes
// with many requests in flight and then copies each by itself.
func (s zkShell) copy(ctx context.Context, from, to string) error {
	c := exec.CommandContext(ctx, "python3", filepath.Join(string(s), "bin", "zk-shell"), "--run-once",
		fmt.Sprintf("cp zk://%s%s zk://%s%s recursive=true overwrite=true asynchronous=true", from, zkRoot, to, zkRoot))
	c.Env = append(os.Environ(), "PYTHONPATH="+string(s))
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	// It exits with 0 whatever happened; what it copied is compared afterwards.
	if err := c.Run(); err != nil {
		return fmt.Errorf("zk-shell: %w: %s", err, out.String())
	}
	return nil
}
