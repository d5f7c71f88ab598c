package topology

import (
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Glance is what has to be known of a record to choose it among many. Taking it
// allocates nothing; its slices are those of the Kafka record.
type Glance struct {
	Kind Kind
	// Deleted: the record says that the object is gone.
	Deleted bool
	// Version in its text form (see [ParseVersion]).
	Version []byte
	// Moment in Unix nanoseconds: see [Record.Moment].
	Moment int64
	// NamespaceLabels and NamespaceAnnotations are JSON; nil where there are none.
	NamespaceLabels, NamespaceAnnotations []byte
}

// GlanceAt looks at a Kafka record. It refuses what [Decode] refuses for its
// schema, and does not look into what it need not.
func GlanceAt(k *kgo.Record) (Glance, error) {
	g := Glance{Kind: Object, Deleted: k.Value == nil}
	schema, observed := 0, int64(0)
	for i := range k.Headers {
		v := k.Headers[i].Value
		var err error
		switch k.Headers[i].Key {
		case hSchema:
			schema, err = strconv.Atoi(string(v))
		case hKind:
			if string(v) != string(Object) {
				g.Kind = Kind(v)
			}
		case hOp:
			g.Deleted = g.Deleted || string(v) == string(Delete)
		case hVersion:
			g.Version = v
		case hObserved:
			observed, err = strconv.ParseInt(string(v), 10, 64)
		case hNSLabels:
			g.NamespaceLabels = v
		case hNSAnnots:
			g.NamespaceAnnotations = v
		}
		if err != nil {
			return Glance{}, fmt.Errorf("%s/%d@%d: header %s: %w", k.Topic, k.Partition, k.Offset, k.Headers[i].Key, err)
		}
	}
	if err := checkSchema(k, schema); err != nil {
		return Glance{}, err
	}
	g.Moment = k.Timestamp.UnixNano()
	if observed != 0 && observed/nanosPerMilli <= g.Moment/nanosPerMilli {
		g.Moment = observed
	}
	return g, nil
}

// Brokers keep time in whole milliseconds, rounded down.
const nanosPerMilli = int64(time.Millisecond)

// Moment is when the record's state is known to have been the source's: when the
// eventslistener learned of it, or, where that is unknown or later than the
// broker's time (two clocks), when it was appended. A change that had to wait for
// an unreachable broker belongs to the time at which it was seen.
func (r *Record) Moment() time.Time {
	if r.ObservedAt.IsZero() || r.ObservedAt.UnixMilli() > r.AppendedAt.UnixMilli() {
		return r.AppendedAt
	}
	return r.ObservedAt
}
