package restorer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/afterimage-dr/afterimage/state/bucket"
	"github.com/afterimage-dr/afterimage/topology"
)

// original is an object as the source had it.
type original struct {
	key     topology.Key
	keyText string
	rec     *topology.Record
	// damaged is why there is no record: the bucket holds something else at its path.
	damaged error
	note    string
}

// source is where what is to be there comes from.
type source interface {
	// each calls fn, from several goroutines, for every original that want asks for.
	each(ctx context.Context, want func(key string) bool, fn func(*original) error) error
	String() string
}

// errNoOriginals: neither log nor bucket.
var errNoOriginals = errors.New("there is nothing to recover from: the log is lost, and no bucket is named")

// sourceOf chooses where what is to be there comes from.
func (r *Restorer) sourceOf() (source, error) {
	switch {
	case r.From != FromBucket && r.Log != nil:
		return &fromLog{r.Log}, nil
	case r.From == FromLog:
		return nil, errors.New("there is no log to recover from; --from bucket, or auto, uses the bucket")
	case r.PointInTime:
		return nil, errors.New("there is no log, and the bucket holds the newest state alone: an earlier moment cannot be rebuilt")
	case r.Bucket == nil:
		return nil, errNoOriginals
	}
	return &fromBucket{bucket: r.Bucket, prefix: r.Config.Namespace + "/" + r.Config.Name + "/", tasks: r.Tasks, paths: map[string]string{}}, nil
}

// fromLog reads the change log.
type fromLog struct{ log Log }

func (f *fromLog) String() string { return "the change log" }

func (f *fromLog) each(ctx context.Context, want func(string) bool, fn func(*original) error) error {
	err := f.log.Each(ctx, want, func(rec *topology.Record) error {
		key, err := topology.ParseKey(rec.Key)
		if err != nil {
			return nil // no object's
		}
		return fn(&original{key: key, keyText: rec.Key, rec: rec})
	})
	var damaged *DamagedLog
	if !errors.As(err, &damaged) {
		return err
	}
	for _, key := range damaged.Keys {
		if want != nil && !want(key) {
			continue
		}
		if err := fn(&original{keyText: key, damaged: damaged.Err}); err != nil {
			return err
		}
	}
	return nil
}

// DamagedLog: the records of some keys cannot be read; all others were.
type DamagedLog struct {
	Keys []string
	Err  error
}

func (e *DamagedLog) Error() string { return e.Err.Error() }

// fromBucket reads everything from the bucket.
type fromBucket struct {
	bucket Bucket
	prefix string
	tasks  int

	mu    sync.Mutex
	paths map[string]string // by key, once known
}

func (f *fromBucket) String() string { return "the bucket" }

func (f *fromBucket) each(ctx context.Context, want func(string) bool, fn func(*original) error) error {
	g, ctx := errgroup.WithContext(ctx)
	paths := make(chan string, f.tasks)
	g.Go(func() error {
		defer close(paths)
		return f.list(ctx, want, paths)
	})
	for range f.tasks {
		g.Go(func() error {
			for path := range paths {
				o, err := f.get(ctx, path)
				if err != nil {
					return err
				}
				if want != nil && !want(o.keyText) {
					continue
				}
				if err := fn(o); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// list sends the paths to read: all of them the first time, later those of the
// keys that are asked for.
func (f *fromBucket) list(ctx context.Context, want func(string) bool, paths chan<- string) error {
	send := func(path string) error {
		select {
		case paths <- path:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	f.mu.Lock()
	var known []string
	for key, path := range f.paths {
		if want == nil || want(key) {
			known = append(known, path)
		}
	}
	listed := len(f.paths) > 0
	f.mu.Unlock()
	if !listed {
		err := f.bucket.List(ctx, f.prefix, func(e bucket.Entry) error { return send(e.Path) })
		if err != nil {
			return fmt.Errorf("listing the originals in the bucket: %w", err)
		}
		return nil
	}
	for _, path := range known {
		if err := send(path); err != nil {
			return err
		}
	}
	return nil
}

// get reads one original. What is damaged is one of its own, named by its path.
func (f *fromBucket) get(ctx context.Context, path string) (*original, error) {
	stored, err := f.bucket.Get(ctx, path)
	o := &original{key: stored.Key, keyText: stored.Key.String()}
	switch {
	case errors.Is(err, bucket.ErrNotFound), errors.Is(err, bucket.ErrDamaged), errors.Is(err, bucket.ErrForeign):
		o.damaged, o.keyText = err, path
	case err != nil:
		return nil, fmt.Errorf("reading %s from the bucket: %w", path, err)
	default:
		o.rec = recordOf(&stored)
	}
	f.mu.Lock()
	f.paths[o.keyText] = path
	f.mu.Unlock()
	return o, nil
}

// recordOf is the record of changes that an original was stored from.
func recordOf(o *bucket.Original) *topology.Record {
	return &topology.Record{
		Key: o.Key.String(), Kind: topology.Object, Op: topology.Update, Version: o.Version, UID: o.UID,
		NamespaceLabels: o.NamespaceLabels, NamespaceAnnotations: o.NamespaceAnnotations, AppendedAt: o.SyncedAt, Body: o.Body,
	}
}

// bucketBeside reads the original of one object from the bucket, beside a log that
// has it too: the newer one counts, and a bucket that is lost, or holds something
// damaged, leaves the log's, with a note.
type bucketBeside struct {
	bucket          Bucket
	namespace, name string
	lost            atomic.Pointer[string]
}

func (b *bucketBeside) of(ctx context.Context, o *original) (rec *topology.Record, note string) {
	if why := b.lost.Load(); why != nil {
		return o.rec, *why
	}
	stored, err := b.bucket.Get(ctx, bucket.Path(b.namespace, b.name, o.key))
	switch {
	case errors.Is(err, bucket.ErrNotFound):
		return o.rec, "the bucket does not hold the original; it was read from the change log"
	case errors.Is(err, bucket.ErrDamaged), errors.Is(err, bucket.ErrForeign):
		return o.rec, fmt.Sprintf("the original in the bucket cannot be used (%v); it was read from the change log", err)
	case err != nil:
		if ctx.Err() == nil {
			why := fmt.Sprintf("the bucket cannot be read (%v): originals were read from the change log", err)
			b.lost.CompareAndSwap(nil, &why)
		}
		return o.rec, *b.why()
	case stored.Version.Older(o.rec.Version):
		return o.rec, "the original in the bucket is older than the change log, which was used"
	}
	return recordOf(&stored), ""
}

func (b *bucketBeside) why() *string {
	if why := b.lost.Load(); why != nil {
		return why
	}
	return new(string)
}
