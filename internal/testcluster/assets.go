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
	"strings"
	"sync"
)

// AssetsVariable names a folder with kube-apiserver, kube-controller-manager and
// etcd. Unset, the servers are looked for in the cache and built when missing.
const AssetsVariable = "KUBEBUILDER_ASSETS"

// script finds or builds the servers; the path is below the repository's root.
const script = "bench/tools/kube/kube-assets.sh"

var assets struct {
	sync.Mutex
	folder string
}

// Assets is the folder with the servers' binaries. Where there is none yet they
// are built, which takes minutes; what is being built is said on progress (nil:
// on standard error). Built or found once per process.
//
// Outside the repository, KUBEBUILDER_ASSETS must name the folder.
func Assets(ctx context.Context, progress io.Writer) (string, error) {
	assets.Lock()
	defer assets.Unlock()
	if assets.folder != "" {
		return assets.folder, nil
	}
	folder, err := findAssets(ctx, progress)
	if err != nil {
		return "", err
	}
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager"} {
		if _, err := os.Stat(filepath.Join(folder, name)); err != nil {
			return "", fmt.Errorf("the servers' folder is not complete: %w", err)
		}
	}
	assets.folder = folder
	return folder, nil
}

func findAssets(ctx context.Context, progress io.Writer) (string, error) {
	root, err := repositoryRoot()
	if err != nil {
		if folder := os.Getenv(AssetsVariable); folder != "" {
			return folder, nil
		}
		return "", fmt.Errorf("looking for kube-apiserver and etcd: %w; set %s to their folder (`make -s kube-assets` prints one)", err, AssetsVariable)
	}
	if progress == nil {
		progress = os.Stderr
	}
	var stdout bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(root, script))
	cmd.Stdout, cmd.Stderr = &stdout, progress
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("running %s: %w", script, err)
	}
	folder := lastLine(stdout.String())
	if folder == "" {
		return "", fmt.Errorf("%s printed no folder", script)
	}
	return folder, nil
}

// repositoryRoot is the nearest folder above the working directory that has the
// script. Tests run in their package's folder, so it is found from there.
func repositoryRoot() (string, error) {
	folder, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("reading the working directory: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(folder, script)); err == nil {
			return folder, nil
		}
		parent := filepath.Dir(folder)
		if parent == folder {
			return "", errors.New("not inside the repository")
		}
		folder = parent
	}
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}
