package manifest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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
	set, _, err := take(paths, o).load(o)
	return set, err
}

// snapshot is what the files held at one moment, so that they are checked and
// used as they were read.
type snapshot struct {
	paths []string
	files []file
	errs  Errors
}

type file struct {
	name string // as shown in errors
	data []byte
	err  error
}

// take reads all files.
func take(paths []string, o options) snapshot {
	s := snapshot{paths: paths}
	if len(paths) == 0 {
		s.errs = Errors{{File: "-f", Detail: "expected at least one file or directory with manifests"}}
		return s
	}
	found, errs := list(paths)
	s.errs = errs
	for _, path := range found {
		data, err := o.read(path)
		s.files = append(s.files, file{name: display(path), data: data, err: err})
	}
	return s
}

// hash changes when anything that was read changes, or a kubeconfig file does.
func (s snapshot) hash(kubeconfigs []string) string {
	h := sha256.New()
	put := func(name string, data []byte, err error) {
		fmt.Fprintf(h, "%q %d %v\n", name, len(data), err)
		h.Write(data)
	}
	for _, f := range s.files {
		put(f.name, f.data, f.err)
	}
	for _, path := range kubeconfigs {
		data, err := os.ReadFile(path)
		put(path, data, err)
	}
	for _, err := range s.errs {
		put(err.Error(), nil, nil)
	}
	return string(h.Sum(nil))
}

// load checks a snapshot. It returns the kubeconfig files also where there are
// errors: what is wrong may be one of them.
func (s snapshot) load(o options) (*Set, []string, error) {
	errs := s.errs
	order := make(map[string]int, len(s.files))
	c := newChecker(o.allowExec)
	for i, f := range s.files {
		order[f.name] = i
		if f.err != nil {
			errs = append(errs, &Error{File: f.name, Detail: "expected a file that can be read: " + f.err.Error()})
			continue
		}
		docs, found := parse(f.name, f.data)
		errs = append(errs, found...)
		if len(docs) == 0 && len(found) == 0 {
			// Empty is what a file being written looks like.
			errs = append(errs, &Error{File: f.name, Detail: "expected at least one manifest; the file is empty"})
		}
		for _, d := range docs {
			c.add(d)
		}
	}
	// With a file missing, what refers to its objects is not wrong.
	incomplete := len(errs) > 0
	set := c.finish(incomplete)
	errs = append(errs, c.errs...)
	if len(errs) == 0 && len(set.LiveSynchronizations)+len(set.Synchronizations)+len(set.SynchronizationPlans)+len(set.Recoveries) == 0 {
		errs = append(errs, &Error{File: strings.Join(s.paths, ", "), Detail: "expected at least one LiveSynchronization, Synchronization, SynchronizationPlan or Recovery; there is none"})
	}
	if err := errs.sorted(order); err != nil {
		return nil, c.kubeconfigFiles, err
	}
	return set, c.kubeconfigFiles, nil
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
	defer func() { _ = f.Close() }() // only read
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
