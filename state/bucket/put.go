package bucket

import (
	"bytes"
	"context"
	"errors"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// rounds of looking and writing before a path that others keep changing is given
// up for now.
const rounds = 20

// errConflict: what is stored is not what the condition of the request says.
var errConflict = errors.New("somebody else writes to the same path")

// Put stores an original unless what is stored is newer or the same; stored is
// false then. Two requests, one where nothing needs to be written.
//
// What others stored at the path is replaced: the path is Afterimage's.
func (b *Bucket) Put(ctx context.Context, o Original) (stored bool, err error) {
	content, err := o.Content()
	if err != nil {
		return false, err
	}
	return b.put(ctx, &o, content)
}

// PutKnown is Put for a caller that knows from a listing what is stored: the
// ETag, or nothing ("") where there is no object. It costs no request if the
// content is listed already, one if there is nothing, and else those of Put. A
// listing that is out of date does no harm where the server has conditional
// writes; where it has none, an object listed as missing is written unseen.
func (b *Bucket) PutKnown(ctx context.Context, o Original, etag string) (stored bool, err error) {
	content, err := o.Content()
	if err != nil {
		return false, err
	}
	if etag != "" {
		if etag == ETagOf(content) {
			return false, nil
		}
		return b.put(ctx, &o, content)
	}
	switch err := b.write(ctx, &o, content, condition{absent: true}); {
	case errors.Is(err, errConflict):
		return b.put(ctx, &o, content)
	case err != nil:
		return false, err
	}
	return true, nil
}

func (b *Bucket) put(ctx context.Context, o *Original, content []byte) (bool, error) {
	for range rounds {
		at, err := b.head(ctx, o.Path)
		if err != nil {
			return false, err
		}
		if at.ours && o.Version.Older(at.version) || b.holds(at, content) {
			return false, nil
		}
		err = b.write(ctx, o, content, condition{absent: !at.found, etag: at.etag})
		if errors.Is(err, errConflict) {
			continue
		}
		return err == nil, err
	}
	return false, b.fail("storing "+o.Path, errConflict)
}

// condition of a write: the object is absent, or has the ETag; the zero value is
// none.
type condition struct {
	absent bool
	etag   string
}

func (c condition) isNone() bool { return c == condition{} }

// write uploads the content if the condition holds, else errConflict. Where the
// server has no conditional writes it just uploads.
func (b *Bucket) write(ctx context.Context, o *Original, content []byte, c condition) error {
	if b.unconditional.Load() {
		c = condition{}
	}
	err := b.upload(ctx, o, content, c)
	if err == nil || c.isNone() || !refused(err) {
		return err
	}
	// Perhaps it is the condition that the server does not know.
	if err := b.upload(ctx, o, content, condition{}); err != nil {
		return err
	}
	b.unconditional.Store(true)
	return nil
}

// refused: the answer of servers to a header that they do not implement.
func refused(err error) bool {
	a := answerIn(err)
	return a.is(http.StatusNotImplemented, "NotImplemented") || a.code == "InvalidArgument"
}

func (b *Bucket) upload(ctx context.Context, o *Original, content []byte, c condition) error {
	metadata := o.metadata(content)
	conflict := false
	err := b.call(ctx, "storing "+o.Path, func(ctx context.Context) error {
		in := &s3.PutObjectInput{
			Bucket: &b.options.Name, Key: b.key(o.Path),
			Body: bytes.NewReader(content), ContentLength: aws.Int64(int64(len(content))),
			ContentType: aws.String("application/json"), Metadata: metadata,
		}
		switch {
		case c.absent:
			in.IfNoneMatch = aws.String("*")
		case c.etag != "":
			in.IfMatch = aws.String(`"` + c.etag + `"`)
		}
		out, err := b.client.PutObject(ctx, in)
		if err != nil {
			if !c.isNone() && conflicting(err) {
				conflict = true
				return nil
			}
			return err
		}
		if etag := unquote(out.ETag); etag != "" && etag != ETagOf(content) {
			b.opaqueETags.Store(true)
		}
		return nil
	})
	if conflict {
		return errConflict
	}
	return err
}

// conflicting: a condition does not hold. 404 is the answer to an ETag where
// there is no object any more, 409 that of a write at the same moment.
func conflicting(err error) bool {
	a := answerIn(err)
	return a.is(http.StatusPreconditionFailed, "PreconditionFailed") ||
		a.is(http.StatusConflict, "ConditionalRequestConflict", "OperationAborted") || missing(err)
}
