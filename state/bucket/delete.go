package bucket

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/afterimage-dr/afterimage/topology"
)

// Delete removes what is at a path, of a version not newer than the given one;
// nothing there is no error. Two requests, one where it is newer.
func (b *Bucket) Delete(ctx context.Context, path string, v topology.Version) error {
	for range rounds {
		at, err := b.head(ctx, path)
		if err != nil {
			return err
		}
		if !at.found {
			if sure, err := b.absent(ctx, path); sure || err != nil {
				return err
			}
			continue
		}
		if at.ours && v.Older(at.version) {
			return nil
		}
		if err := b.remove(ctx, path, at.etag); !errors.Is(err, errConflict) {
			return err
		}
	}
	return b.fail("removing "+path, errConflict)
}

// DeleteKnown removes an object with one request, for a caller that knows from a
// listing that it must go: only if it still has the ETag listed, where the server
// has conditional deletes, else whatever it is; with etag "" in any case. removed
// is false if it is another object by now; nothing there is no error.
func (b *Bucket) DeleteKnown(ctx context.Context, path, etag string) (removed bool, err error) {
	err = b.remove(ctx, path, etag)
	if errors.Is(err, errConflict) {
		return false, nil
	}
	return err == nil, err
}

func (b *Bucket) remove(ctx context.Context, path, etag string) error {
	if b.unconditional.Load() {
		etag = ""
	}
	err := b.removeIf(ctx, path, etag)
	if err == nil || etag == "" || !refused(err) {
		return err
	}
	if err := b.removeIf(ctx, path, ""); err != nil {
		return err
	}
	b.unconditional.Store(true)
	return nil
}

func (b *Bucket) removeIf(ctx context.Context, path, etag string) error {
	conflict := false
	err := b.call(ctx, "removing "+path, func(ctx context.Context) error {
		in := &s3.DeleteObjectInput{Bucket: &b.options.Name, Key: b.key(path)}
		if etag != "" {
			in.IfMatch = aws.String(`"` + etag + `"`)
		}
		_, err := b.client.DeleteObject(ctx, in)
		switch {
		case err == nil || missing(err):
			return nil
		case etag != "" && conflicting(err):
			conflict = true
			return nil
		default:
			return err
		}
	})
	if conflict {
		return errConflict
	}
	return err
}
