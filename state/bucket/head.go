package bucket

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/afterimage-dr/afterimage/topology"
)

// stored is what is known of an object without reading it.
type stored struct {
	found bool
	etag  string
	size  int64
	// ours: it has our metadata, so the rest is known.
	ours    bool
	version topology.Version
	sum     string
	md5     string
	// opaque: its ETag is not the MD5 of its content.
	opaque bool
}

// head asks for what is at a path.
//
// A server that keeps metadata and content apart may answer, while the object is
// replaced, with the version of the one and the ETag of the other; a write on
// that condition would replace a newer version. The metadata say which ETag goes
// with them, so that such an answer is noticed, and asked for again. One that
// stays is that of a store whose ETags are its own.
func (b *Bucket) head(ctx context.Context, path string) (stored, error) {
	s, err := b.headOnce(ctx, path)
	for range rounds {
		if err != nil || !s.ours || s.etag == s.md5 || s.opaque || b.opaqueETags.Load() {
			break
		}
		before := s
		if s, err = b.headOnce(ctx, path); s == before {
			break
		}
	}
	return s, err
}

// headOnce is one HEAD. Its answer has no body, so that "not found" may also be
// said of the bucket or of the account: whoever does not go on to another request
// has to make sure, see [Bucket.absent].
func (b *Bucket) headOnce(ctx context.Context, path string) (stored, error) {
	var s stored
	err := b.call(ctx, "looking at "+path, func(ctx context.Context) error {
		out, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.options.Name, Key: b.key(path)})
		if err != nil {
			if answerIn(err).status == http.StatusNotFound {
				return nil
			}
			return err
		}
		s = stored{found: true, etag: unquote(out.ETag)}
		if out.ContentLength != nil {
			s.size = *out.ContentLength
		}
		switch out.ServerSideEncryption {
		case types.ServerSideEncryptionAwsKms, types.ServerSideEncryptionAwsKmsDsse:
			s.opaque = true
		}
		if checkSchema(out.Metadata) != nil {
			return nil
		}
		text, err := fromASCII(out.Metadata[metaVersion])
		if err != nil {
			return nil // not ours, then
		}
		if s.version, err = topology.ParseVersion(text); err == nil {
			s.ours, s.sum, s.md5 = true, out.Metadata[metaSum], out.Metadata[metaMD5]
		}
		return nil
	})
	if err == nil {
		return s, nil
	}
	// The answer to a HEAD has no body that would say what is wrong.
	switch answerIn(err).status {
	case http.StatusBadRequest, http.StatusForbidden:
		if why := b.Probe(ctx); why != nil {
			return stored{}, why
		}
	}
	return stored{}, err
}

// holds tells whether what is stored is content, as far as a HEAD shows it.
func (b *Bucket) holds(s stored, content []byte) bool {
	return s.ours && s.size == int64(len(content)) && s.sum == checksum(content) &&
		(s.opaque || b.opaqueETags.Load() || s.etag == ETagOf(content))
}

// absent makes sure that there is no object, after a HEAD said so.
func (b *Bucket) absent(ctx context.Context, path string) (bool, error) {
	_, _, err := b.read(ctx, path)
	if errors.Is(err, ErrNotFound) {
		return true, nil
	}
	return false, err
}

// missing: there is no object. A missing bucket is something else.
func missing(err error) bool { return answerIn(err).code == "NoSuchKey" }

func unquote(etag *string) string {
	if etag == nil {
		return ""
	}
	return strings.Trim(strings.TrimPrefix(*etag, "W/"), `"`)
}
