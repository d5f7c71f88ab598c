package restorer

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/afterimage-dr/afterimage/state/bucket"
	"github.com/afterimage-dr/afterimage/topology"
)

// fromBucket reads everything from the bucket. It keeps the paths, listed once, and
// no bodies.
type fromBucket struct {
	bucket Bucket
	owner  string // <namespace>/<name>
	folder string
	tasks  int

	mu     sync.Mutex
	listed bool
	paths  []string
	keys   map[string]string // by path, of what was read
}

func newFromBucket(b Bucket, namespace, name string, tasks int) *fromBucket {
	return &fromBucket{
		bucket: b, owner: namespace + "/" + name, folder: bucket.Folder(namespace, name), tasks: tasks, keys: map[string]string{},
	}
}

func (f *fromBucket) String() string { return "the bucket" }

func (f *fromBucket) each(ctx context.Context, want func(string) bool, fn func(*original) error) error {
	if err := f.list(ctx); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(f.tasks)
	for _, path := range f.paths {
		if want != nil && !f.asked(path, want) {
			continue
		}
		g.Go(func() error {
			o, err := f.get(ctx, path)
			if err != nil || want != nil && !want(o.keyText) {
				return err
			}
			return fn(o)
		})
	}
	return g.Wait()
}

// list lists the originals, once.
func (f *fromBucket) list(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.listed {
		return nil
	}
	f.paths = nil
	err := f.bucket.List(ctx, f.folder, func(e bucket.Entry) error {
		f.paths = append(f.paths, e.Path)
		return nil
	})
	switch {
	case err != nil:
		return fmt.Errorf("listing the originals in the bucket: %w", err)
	case len(f.paths) == 0:
		return noOriginals(f.owner, f.folder)
	}
	f.listed = true
	return nil
}

// asked tells whether what is at a path may be asked for. Before it was read it is
// not known whether the object has a namespace, so it may be either.
func (f *fromBucket) asked(path string, want func(string) bool) bool {
	f.mu.Lock()
	key, known := f.keys[path]
	f.mu.Unlock()
	if known {
		return want(key)
	}
	l, err := bucket.ParsePath(path)
	if err != nil {
		return want(path)
	}
	for _, namespaced := range [...]bool{true, false} {
		if key, ok := l.Key(namespaced); ok && want(key.String()) {
			return true
		}
	}
	return false
}

// get reads one original. What is damaged is one of its own, called by its path.
func (f *fromBucket) get(ctx context.Context, path string) (*original, error) {
	stored, err := f.bucket.Get(ctx, path)
	o := &original{key: stored.Key, keyText: stored.Key.String()}
	switch {
	case errors.Is(err, bucket.ErrNotFound), errors.Is(err, bucket.ErrDamaged), errors.Is(err, bucket.ErrForeign):
		o.damaged, o.keyText = err, path
	case err != nil:
		return nil, fmt.Errorf("reading %s from the bucket: %w", path, err)
	case stored.LiveSynchronization != f.owner:
		o.damaged, o.keyText = fmt.Errorf("%w: it is one of LiveSynchronization %s", bucket.ErrForeign, stored.LiveSynchronization), path
	default:
		o.rec = recordOf(&stored)
	}
	f.mu.Lock()
	f.keys[path] = o.keyText
	f.mu.Unlock()
	return o, nil
}

// SourceOf returns the UID of the source cluster that the originals of a
// LiveSynchronization in a bucket come from: what a recovery without a log knows
// its owner marks from.
func SourceOf(ctx context.Context, b Bucket, namespace, name string) (uid string, err error) {
	owner, looked := namespace+"/"+name, 0
	var last error
	err = b.List(ctx, bucket.Folder(namespace, name), func(e bucket.Entry) error {
		looked++
		stored, err := b.Get(ctx, e.Path)
		switch {
		case err != nil:
			last = err
		case stored.LiveSynchronization == owner && stored.SourceCluster != "":
			uid = stored.SourceCluster
			return errFound
		}
		return ctx.Err()
	})
	switch {
	case errors.Is(err, errFound):
		return uid, nil
	case err != nil:
		return "", fmt.Errorf("listing the originals in the bucket: %w", err)
	case looked == 0:
		return "", noOriginals(owner, bucket.Folder(namespace, name))
	}
	return "", fmt.Errorf("none of the %d originals of LiveSynchronization %s in the bucket tells its source (last: %w)", looked, owner, last)
}

// errFound ends a listing.
var errFound = errors.New("found")

func noOriginals(owner, folder string) error {
	return fmt.Errorf("the bucket holds no originals of LiveSynchronization %s: there is nothing under %s", owner, folder)
}

// recordOf is the record of changes that an original was stored from.
func recordOf(o *bucket.Original) *topology.Record {
	return &topology.Record{
		Key: o.Key.String(), Kind: topology.Object, Op: topology.Update, Version: o.Version, UID: o.UID,
		NamespaceLabels: o.NamespaceLabels, NamespaceAnnotations: o.NamespaceAnnotations, AppendedAt: o.SyncedAt, Body: o.Body,
	}
}
