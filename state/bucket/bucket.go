// Package bucket keeps the originals of a LiveSynchronization in a bucket of an
// S3-compatible object store: one object a key, as the source had it, with what
// a recovery needs to find out whether and how to restore it.
package bucket

import (
	"context"
	"errors"
	"time"

	"github.com/afterimage-dr/afterimage/topology"
)

// Options say where a bucket is and how to sign in. See v1alpha1.GenericBucket
// for the meaning of each and its default.
type Options struct {
	Endpoint, Name               string
	UseSSL                       bool
	Region, Prefix               string
	PathStyle                    *bool
	CA                           []byte
	InsecureSkipVerify           bool
	AccessKeyID, SecretAccessKey string
}

// The errors of a bucket's content.
var (
	// ErrNotFound: there is no object at the path.
	ErrNotFound = errors.New("not in the bucket")
	// ErrDamaged: the content is not what was stored (truncated, changed).
	ErrDamaged = errors.New("damaged")
	// ErrForeign: the object is none that Afterimage stored.
	ErrForeign = errors.New("not an original stored by Afterimage")
)

// Original is an object as the source had it: the body of its record in changes,
// and the record's stamp, so that the bucket alone can recover.
type Original struct {
	// Path in the bucket, without the prefix; see [Path].
	Path string
	Key  topology.Key
	// LiveSynchronization is <namespace>/<name>.
	LiveSynchronization                   string
	Version                               topology.Version
	UID                                   string
	NamespaceLabels, NamespaceAnnotations map[string]string
	// SyncedAt is when the record was appended to the log, so that what is stored
	// is a pure function of the record.
	SyncedAt time.Time
	// Body without the control annotations.
	Body []byte
}

// Entry of a listing.
type Entry struct {
	// Path without the prefix.
	Path     string
	ETag     string
	Size     int64
	Modified time.Time
}

// Bucket is one bucket. Safe for concurrent use.
type Bucket struct{ options Options }

// New makes a client; it does not connect yet.
func New(o Options) (*Bucket, error) { return &Bucket{options: o}, nil }

// Probe tells whether the bucket can be used; [Reason] names the trouble.
func (b *Bucket) Probe(context.Context) error { panic("not built yet") }

// Reason names an error in one word: Unreachable, Unauthorized, Forbidden,
// NoSuchBucket, WrongRegion, SlowDown, or Failing.
func Reason(error) string { panic("not built yet") }

// Path of an original: <namespace>/<name>/<group>-<version>-<resource>/<object
// namespace>.<object name>, the first two those of the LiveSynchronization.
func Path(namespace, name string, key topology.Key) string { panic("not built yet") }

// FromRecord is the original that a record of changes holds.
func FromRecord(namespace, name string, r *topology.Record) (Original, error) {
	panic("not built yet")
}

// Put stores an original unless a newer version is stored already; stored is
// false then. An object that is there with the same content is not written again.
func (b *Bucket) Put(ctx context.Context, o Original) (stored bool, err error) {
	panic("not built yet")
}

// Get reads an original and verifies it: ErrNotFound, ErrDamaged, ErrForeign.
func (b *Bucket) Get(ctx context.Context, path string) (Original, error) { panic("not built yet") }

// Delete removes what is at a path, of a version not newer than the given one;
// nothing there is no error.
func (b *Bucket) Delete(ctx context.Context, path string, v topology.Version) error {
	panic("not built yet")
}

// List calls fn for every object under a path prefix, in the order of the paths.
func (b *Bucket) List(ctx context.Context, prefix string, fn func(Entry) error) error {
	panic("not built yet")
}
