package bucket

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Probe tells whether the bucket is there and can be listed; [Reason] names the
// trouble. It answers within about 20 s, writes nothing and creates nothing, so
// that a permission to write that is missing shows only with the first write.
func (b *Bucket) Probe(ctx context.Context) error {
	in := &s3.ListObjectsV2Input{Bucket: &b.options.Name, Prefix: b.key(""), MaxKeys: aws.Int32(1)}
	return b.try(ctx, "looking for the bucket", b.timing.probeAttempts, b.timing.probeTimeout, func(ctx context.Context) error {
		// Not a HEAD: its answer has no body that would say what is wrong.
		_, err := b.client.ListObjectsV2(ctx, in)
		return err
	})
}
