// Package bucket keeps the originals of a LiveSynchronization in a bucket of an
// S3-compatible object store: one object a key, as the source had it, with what
// a recovery needs to find out whether and how to restore it. The form is in
// docs/log-format.md.
//
// It guarantees that what is stored is a pure function of the record; that what
// is read is what was stored ([ErrDamaged]); that an older version never replaces
// or removes a newer one where the server has conditional writes, and elsewhere
// as long as nobody else writes at the very moment; and that no error holds a
// secret.
//
// It does not remember what was deleted: an older original put after a newer
// delete is stored, until the comparison with the log removes it. It creates no
// buckets.
package bucket

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
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

// Entry of a listing.
type Entry struct {
	// Path without the prefix.
	Path string
	// ETag without quotes; compare it with [ETagOf] the content.
	ETag     string
	Size     int64
	Modified time.Time
}

// Bucket is one bucket. Safe for concurrent use.
type Bucket struct {
	options Options
	prefix  string // empty, or ends with a slash
	client  *s3.Client
	limiter *limiter
	timing  timing

	// unconditional: the server refuses conditional writes. Learned once.
	unconditional atomic.Bool
	// opaqueETags: the server's ETags are not the MD5 of the content, so they
	// say nothing. Learned from the answers to writes.
	opaqueETags atomic.Bool
}

// New makes a client; it does not connect yet. An error is one of the options.
func New(o Options) (*Bucket, error) {
	for name, value := range map[string]string{
		"endpoint": o.Endpoint, "bucket name": o.Name,
		"accessKeyID": o.AccessKeyID, "secretAccessKey": o.SecretAccessKey,
	} {
		if strings.TrimSpace(value) == "" {
			return nil, fmt.Errorf("bucket %q at %q: the %s is empty", o.Name, o.Endpoint, name)
		}
	}
	if o.Region == "" {
		o.Region = regionOf(o.Endpoint)
	}
	client, err := newClient(o)
	if err != nil {
		return nil, fmt.Errorf("bucket %q at %q: %w", o.Name, o.Endpoint, err)
	}
	b := &Bucket{options: o, client: client, limiter: newLimiter(maxConcurrency), timing: realTiming}
	if prefix := strings.Trim(o.Prefix, "/"); prefix != "" {
		b.prefix = prefix + "/"
	}
	// Google documents no conditional writes for signatures of this kind.
	b.unconditional.Store(isGoogle(o.Endpoint))
	return b, nil
}

// key of a path in the bucket.
func (b *Bucket) key(path string) *string {
	key := b.prefix + path
	return &key
}
