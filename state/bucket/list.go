package bucket

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// List calls fn for every object in a folder and below it, in the order of the
// bytes of the paths. The folder is a path such as [Folder] gives; one without a
// slash at its end is completed, so that a/b does not list a/bc; "" is all of the
// bucket under its prefix. An error of fn ends the listing and is returned as it is.
//
// Objects written or removed meanwhile may be seen or not. A server that does not
// list in order is refused: what is compared with its listing would be missed.
func (b *Bucket) List(ctx context.Context, folder string, fn func(Entry) error) error {
	if folder != "" && !strings.HasSuffix(folder, "/") {
		folder += "/"
	}
	in := &s3.ListObjectsV2Input{Bucket: &b.options.Name, Prefix: b.key(folder), EncodingType: types.EncodingTypeUrl}
	last := ""
	for {
		out, err := b.page(ctx, "listing "+folder, in)
		if err != nil {
			return err
		}
		for i := range out.Contents {
			e, err := b.entry(out, &out.Contents[i])
			if err != nil {
				return err
			}
			if e.Path <= last && last != "" {
				return fmt.Errorf("%s: listing %s: the server does not list in order: %q after %q", b, folder, e.Path, last)
			}
			last = e.Path
			if strings.HasSuffix(e.Path, "/") || e.Path == "" {
				continue // the mark of a folder, which some tools leave
			}
			if err := fn(e); err != nil {
				return err
			}
		}
		if out.IsTruncated == nil || !*out.IsTruncated {
			return nil
		}
		if out.NextContinuationToken == nil || *out.NextContinuationToken == "" {
			return fmt.Errorf("%s: listing %s: the server says there is more, and not how to get it", b, folder)
		}
		in.ContinuationToken = out.NextContinuationToken
	}
}

func (b *Bucket) page(ctx context.Context, op string, in *s3.ListObjectsV2Input) (*s3.ListObjectsV2Output, error) {
	var out *s3.ListObjectsV2Output
	err := b.call(ctx, op, func(ctx context.Context) (err error) {
		out, err = b.client.ListObjectsV2(ctx, in)
		return err
	})
	return out, err
}

func (b *Bucket) entry(out *s3.ListObjectsV2Output, object *types.Object) (Entry, error) {
	key := aws.ToString(object.Key)
	// A name may hold what XML cannot; a server that does not encode says so.
	if out.EncodingType == types.EncodingTypeUrl {
		plain, err := url.QueryUnescape(key)
		if err != nil {
			return Entry{}, fmt.Errorf("%s: listing: key %q: %w", b, key, err)
		}
		key = plain
	}
	path, ok := strings.CutPrefix(key, b.prefix)
	if !ok {
		return Entry{}, fmt.Errorf("%s: listing: the server lists %q, which is not under %q", b, key, b.prefix)
	}
	e := Entry{Path: path, ETag: unquote(object.ETag), Size: aws.ToInt64(object.Size)}
	if object.LastModified != nil {
		e.Modified = *object.LastModified
	}
	return e, nil
}
