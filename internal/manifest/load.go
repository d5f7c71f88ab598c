package manifest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// Stdin as a path means standard input.
const Stdin = "-"

// stdinName is how standard input is called in errors.
const stdinName = "<stdin>"

// maxFileSize keeps a path given by mistake (a device, a disk image) from being
// read whole. etcd takes objects of 1.5 MB; this is room for many.
const maxFileSize = 64 << 20

// standardInput is read once: a reload can only see the same again.
var standardInput = sync.OnceValues(func() ([]byte, error) { return io.ReadAll(io.LimitReader(os.Stdin, maxFileSize)) })

type options struct {
	allowExec bool
	stdin     func() ([]byte, error)
}

// Option changes how manifests are read.
type Option func(*options)

// AllowKubeconfigExec accepts kubeconfigs that run a program to sign in.
func AllowKubeconfigExec() Option { return func(o *options) { o.allowExec = true } }

// WithStdin is what is read where a path is "-"; default: the process's
// standard input.
func WithStdin(data []byte) Option {
	return func(o *options) { o.stdin = func() ([]byte, error) { return data, nil } }
}

// Load reads and checks manifests: files, directories (their *.yaml, *.yml and
// *.json files, sorted, not those of folders within) and "-" for standard input.
// A file may hold several documents. The error is of type [Errors] and holds all
// that is wrong; the set is nil then.
func Load(paths []string, opts ...Option) (*Set, error) {
	o := newOptions(opts)
	if len(paths) == 0 {
		return nil, Errors{{File: "-f", Detail: "expected at least one file or directory with manifests"}}
	}
	files, errs := list(paths)
	order := make(map[string]int, len(files))
	c := newChecker(o.allowExec)
	for i, file := range files {
		order[display(file)] = i
		data, err := o.read(file)
		if err != nil {
			errs = append(errs, &Error{File: display(file), Detail: "expected a file that can be read: " + err.Error()})
			continue
		}
		docs, found := parse(display(file), data)
		errs = append(errs, found...)
		if len(docs) == 0 && len(found) == 0 {
			// Empty is what a file being written looks like.
			errs = append(errs, &Error{File: display(file), Detail: "expected at least one manifest; the file is empty"})
		}
		for _, d := range docs {
			c.add(d)
		}
	}
	incomplete := len(errs) > 0
	set := c.finish()
	errs = append(errs, c.errs...)
	if !incomplete && len(errs) == 0 && len(set.LiveSynchronizations) == 0 {
		errs = append(errs, &Error{File: strings.Join(paths, ", "), Detail: "expected at least one LiveSynchronization; there is none"})
	}
	if err := errs.sorted(order); err != nil {
		return nil, err
	}
	return set, nil
}

func newOptions(opts []Option) options {
	o := options{stdin: standardInput}
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// read returns the bytes of a file.
func (o *options) read(file string) ([]byte, error) {
	if file == Stdin {
		return o.stdin()
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, plain(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	switch {
	case err != nil:
		return nil, plain(err)
	case len(data) > maxFileSize:
		return nil, fmt.Errorf("it is larger than %d MiB", maxFileSize>>20)
	}
	return data, nil
}

// plain drops the operation and the path from a file error: they are said already.
func plain(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// list expands directories. A file given twice is read once.
func list(paths []string) ([]string, Errors) {
	var (
		files []string
		errs  Errors
	)
	add := func(file string) {
		if !slices.Contains(files, file) {
			files = append(files, file)
		}
	}
	for _, path := range paths {
		if path == Stdin {
			add(path)
			continue
		}
		path = filepath.Clean(path)
		info, err := os.Stat(path)
		switch {
		case err != nil:
			errs = append(errs, &Error{File: path, Detail: "expected a file or directory: " + plain(err).Error()})
		case info.IsDir():
			found, err := manifestsIn(path)
			if err != nil {
				errs = append(errs, &Error{File: path, Detail: "expected a directory that can be read: " + plain(err).Error()})
			} else if len(found) == 0 {
				errs = append(errs, &Error{File: path, Detail: "expected at least one *.yaml, *.yml or *.json file; the directory has none"})
			}
			for _, file := range found {
				add(file)
			}
		default:
			add(path)
		}
	}
	return files, errs
}

// manifestsIn lists the manifest files of a directory, sorted. Hidden files are
// left out: editors and ConfigMap volumes keep their own things there.
func manifestsIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		switch filepath.Ext(e.Name()) {
		case ".yaml", ".yml", ".json":
		default:
			continue
		}
		file := filepath.Join(dir, e.Name())
		if info, err := os.Stat(file); err == nil && info.IsDir() {
			continue
		}
		out = append(out, file) // one that vanished since is reported by its reader
	}
	return out, nil
}

func display(file string) string {
	if file == Stdin {
		return stdinName
	}
	return file
}

// mapsOf sorts items into the maps of a set.
func mapsOf(items []*item) (map[types.NamespacedName]*corev1.Secret, map[types.NamespacedName]*v1alpha1.KubernetesCluster, map[types.NamespacedName]*v1alpha1.Bucket) {
	secrets := map[types.NamespacedName]*corev1.Secret{}
	clusters := map[types.NamespacedName]*v1alpha1.KubernetesCluster{}
	buckets := map[types.NamespacedName]*v1alpha1.Bucket{}
	for _, it := range items {
		switch {
		case it.secret != nil:
			secrets[it.key] = it.secret
		case it.cluster != nil:
			clusters[it.key] = it.cluster
		case it.bucket != nil:
			buckets[it.key] = it.bucket
		}
	}
	return secrets, clusters, buckets
}
