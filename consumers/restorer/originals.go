package restorer

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/afterimage-dr/afterimage/state/bucket"
	"github.com/afterimage-dr/afterimage/topology"
)

// original is an object as the source had it.
type original struct {
	key     topology.Key
	keyText string
	// name is the key in results; keyText is where it goes, which is another place in
	// a rehearsal under other names.
	name string
	rec  *topology.Record
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
	case r.From != FromBucket && (r.Log != nil || r.OpenLog != nil):
		return &fromLog{r.Log}, nil // one that is opened later is put in then
	case r.From == FromLog:
		return nil, errors.New("there is no log to recover from; --from bucket, or auto, uses the bucket")
	case r.PointInTime:
		return nil, errors.New("there is no log, and the bucket holds the newest state alone: an earlier moment cannot be rebuilt")
	case r.Bucket == nil:
		return nil, errNoOriginals
	}
	return newFromBucket(r.Bucket, r.Config.Namespace, r.Config.Name, r.Tasks), nil
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
	key, err := topology.ParseKey(o.rec.Key) // o.key may be another place
	if err != nil {
		return o.rec, ""
	}
	stored, err := b.bucket.Get(ctx, bucket.Path(b.namespace, b.name, key))
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
