package stream

import (
	"context"
	"crypto/sha256"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Fold knows, for a stretch of a partition, which record is the last of its key.
// Safe for concurrent use.
type Fold struct {
	from, end int64
	last      map[[16]byte]int64
}

// Fold reads a stretch and notes the last offset of each key (128-bit hashes of
// keys, no bodies: some 50 bytes a key). inspect, if not nil, sees every record
// on the way.
func (c *Client) Fold(ctx context.Context, topic string, partition int32, from, to int64, inspect func(*kgo.Record)) (*Fold, error) {
	f := &Fold{from: from, end: to, last: map[[16]byte]int64{}}
	err := c.Read(ctx, topic, partition, from, to, func(r *kgo.Record) error {
		f.last[keyHash(r.Key)] = r.Offset
		if inspect != nil {
			inspect(r)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

func keyHash(key []byte) [16]byte {
	sum := sha256.Sum256(key)
	return [16]byte(sum[:16])
}

// Last tells whether the record at offset is the last of its key in the stretch;
// true for everything outside of it. A nil Fold says true.
func (f *Fold) Last(key []byte, offset int64) bool {
	if f == nil || offset < f.from || offset >= f.end {
		return true
	}
	last, ok := f.last[keyHash(key)]
	return !ok || last == offset
}

// End of the stretch. 0 for a nil Fold.
func (f *Fold) End() int64 {
	if f == nil {
		return 0
	}
	return f.end
}

// Keys is how many different keys the stretch holds.
func (f *Fold) Keys() int {
	if f == nil {
		return 0
	}
	return len(f.last)
}
