package topology

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Kind tells what a record is about.
type Kind string

// The kinds of records. All but Object are control records: one key a
// partition (and subject), written to every partition.
const (
	// Object is a state of one Kubernetes object, or of one znode.
	Object Kind = "object"
	// Configured carries the effective [Config] (changes, desired).
	Configured Kind = "configured"
	// Heartbeat travels changes → desired → outcomes; VerifiedAt is the moment
	// at which everything before it in the partition was known to be all there is.
	Heartbeat Kind = "heartbeat"
	// Listed says that every object of the resource named by the subject which
	// existed at the record's version has been appended before it.
	Listed Kind = "listed"
	// EpochOpened says that versions from here on carry a new epoch.
	EpochOpened Kind = "epoch"
	// Gap marks an interval in which the eventslistener was down, so that states
	// may have existed which the log never saw.
	Gap Kind = "gap"
	// Blocked says that the breaker holds deletes of a tree of znodes back at the side
	// named by the subject; without a body: not any more.
	Blocked Kind = "blocked"
)

// Op is what happened to the object, or what is to be done with it.
type Op string

// The operations.
const (
	Create Op = "create"
	Update Op = "update"
	Delete Op = "delete"
	// Hold (desired log only) leaves the destination object as it is: what it
	// should be could not be computed, and Reason says why.
	Hold Op = "hold"
)

// ReasonUncovered is the reason of a tombstone in the desired log whose object
// may well exist in the source: the configuration names its resource no more, or
// names it in another API version.
const ReasonUncovered = "no entry names the resource"

// SchemaVersion of the envelope, in header "schema". A reader refuses a record
// of a newer schema: it cannot know what it would miss.
const SchemaVersion = 1

// Manager summarises one entry of metadata.managedFields, for audit.
type Manager struct {
	Name      string `json:"name"`
	Operation string `json:"operation,omitempty"`
	Time      string `json:"time,omitempty"`
}

// Record is one entry of a topic. All but the body lives in Kafka headers, so
// that guards, routing and tombstones need no decoding of it.
type Record struct {
	Key  string
	Kind Kind
	Op   Op

	Version Version
	// UID of the object in the source: tells a recreation, nothing more.
	UID string
	// NamespaceLabels of the object's namespace when the record was written:
	// they make filters a pure function of the record.
	NamespaceLabels map[string]string
	// NamespaceAnnotations, only where forceNamespaceCreation needs them.
	NamespaceAnnotations map[string]string
	// ObservedAt is when the eventslistener learned of the change.
	ObservedAt time.Time
	// VerifiedAt, of a heartbeat: the moment the source is known up to.
	VerifiedAt time.Time
	// Hash of the content, whatever its version: equal hashes need no write.
	Hash string
	// Managers who changed the object in the source, and when.
	Managers []Manager
	// Inferred: a delete concluded from absence, not observed.
	Inferred bool
	// Requested: appended because somebody downstream asked; forward it even
	// where nothing seems to change.
	Requested bool
	// Repair: appended again by the partition's one writer because a record of
	// a zombie landed behind its own.
	Repair bool
	// Writer is the incarnation that appended the record.
	Writer string
	// Reason in words: of a hold, a request, an inferred delete.
	Reason string
	// Entry is the index of the resource entry of the configuration that took
	// the object (desired log only), -1 where none did.
	Entry int

	// Node, of a znode: what of it is not data.
	Node *NodeMeta

	// Body is the object's JSON, a znode's data, or the JSON of the control record;
	// nil deletes.
	Body []byte

	// Where the record stands; set by Decode, ignored by Encode.
	Topic       string
	Partition   int32
	Offset      int64
	LeaderEpoch int32
	// AppendedAt is the broker's timestamp.
	AppendedAt time.Time
}

// header names; documented in docs/log-format.md.
const (
	hSchema      = "schema"
	hKind        = "kind"
	hOp          = "op"
	hVersion     = "version"
	hUID         = "uid"
	hNSLabels    = "namespace-labels"
	hNSAnnots    = "namespace-annotations"
	hObserved    = "observed-at"
	hVerified    = "verified-at"
	hHash        = "content-hash"
	hManagers    = "managers"
	hInferred    = "inferred"
	hRequested   = "requested"
	hRepair      = "repair"
	hWriter      = "writer"
	hReason      = "reason"
	hEntry       = "entry"
	hNode        = "node"
	headerTrue   = "1"
	headersTypic = 12
)

// Encode returns the Kafka record for a topic and partition.
func (r *Record) Encode(topic string, partition int32) *kgo.Record {
	h := make([]kgo.RecordHeader, 0, headersTypic)
	put := func(k, v string) {
		if v != "" {
			h = append(h, kgo.RecordHeader{Key: k, Value: []byte(v)})
		}
	}
	flag := func(k string, on bool) {
		if on {
			put(k, headerTrue)
		}
	}
	stamp := func(k string, m map[string]string) {
		if m != nil {
			b, _ := json.Marshal(m) // a map of strings always marshals
			put(k, string(b))
		}
	}
	moment := func(k string, t time.Time) {
		if !t.IsZero() {
			put(k, strconv.FormatInt(t.UnixNano(), 10))
		}
	}
	put(hSchema, strconv.Itoa(SchemaVersion))
	put(hKind, string(r.Kind))
	put(hOp, string(r.Op))
	if !r.Version.IsZero() {
		put(hVersion, r.Version.String())
	}
	put(hUID, r.UID)
	stamp(hNSLabels, r.NamespaceLabels)
	stamp(hNSAnnots, r.NamespaceAnnotations)
	moment(hObserved, r.ObservedAt)
	moment(hVerified, r.VerifiedAt)
	put(hHash, r.Hash)
	if len(r.Managers) > 0 {
		b, _ := json.Marshal(r.Managers)
		put(hManagers, string(b))
	}
	flag(hInferred, r.Inferred)
	flag(hRequested, r.Requested)
	flag(hRepair, r.Repair)
	put(hWriter, r.Writer)
	put(hReason, r.Reason)
	if r.Entry != 0 {
		put(hEntry, strconv.Itoa(r.Entry))
	}
	if r.Node != nil {
		b, _ := json.Marshal(r.Node) // plain data always marshals
		put(hNode, string(b))
	}
	return &kgo.Record{Topic: topic, Partition: partition, Key: []byte(r.Key), Value: r.Body, Headers: h}
}

// Decode reads a Kafka record. An error means that the record is not ours or
// was written by a newer Afterimage; the reader counts it, names it and goes on.
func Decode(k *kgo.Record) (Record, error) {
	r := Record{
		Key: string(k.Key), Kind: Object, Body: k.Value,
		Topic: k.Topic, Partition: k.Partition, Offset: k.Offset, LeaderEpoch: k.LeaderEpoch, AppendedAt: k.Timestamp,
	}
	schema := 0
	for i := range k.Headers {
		v := string(k.Headers[i].Value)
		var err error
		switch k.Headers[i].Key {
		case hSchema:
			schema, err = strconv.Atoi(v)
		case hKind:
			r.Kind = Kind(v)
		case hOp:
			r.Op = Op(v)
		case hVersion:
			r.Version, err = ParseVersion(v)
		case hUID:
			r.UID = v
		case hNSLabels:
			err = json.Unmarshal(k.Headers[i].Value, &r.NamespaceLabels)
		case hNSAnnots:
			err = json.Unmarshal(k.Headers[i].Value, &r.NamespaceAnnotations)
		case hObserved:
			r.ObservedAt, err = parseMoment(v)
		case hVerified:
			r.VerifiedAt, err = parseMoment(v)
		case hHash:
			r.Hash = v
		case hManagers:
			err = json.Unmarshal(k.Headers[i].Value, &r.Managers)
		case hInferred:
			r.Inferred = v == headerTrue
		case hRequested:
			r.Requested = v == headerTrue
		case hRepair:
			r.Repair = v == headerTrue
		case hWriter:
			r.Writer = v
		case hReason:
			r.Reason = v
		case hEntry:
			r.Entry, err = strconv.Atoi(v)
		case hNode:
			err = json.Unmarshal(k.Headers[i].Value, &r.Node)
		}
		if err != nil {
			return Record{}, fmt.Errorf("%s/%d@%d: header %s: %w", k.Topic, k.Partition, k.Offset, k.Headers[i].Key, err)
		}
	}
	if err := checkSchema(k, schema); err != nil {
		return Record{}, err
	}
	if (r.Kind != Object) != IsControl(r.Key) {
		return Record{}, fmt.Errorf("%s/%d@%d: key %q does not fit kind %q", k.Topic, k.Partition, k.Offset, r.Key, r.Kind)
	}
	if r.Kind == Object {
		if _, err := ParseKey(r.Key); err != nil {
			return Record{}, fmt.Errorf("%s/%d@%d: %w", k.Topic, k.Partition, k.Offset, err)
		}
	}
	return r, nil
}

// checkSchema tells whether this Afterimage can read the record.
func checkSchema(k *kgo.Record, schema int) error {
	switch {
	case schema == 0:
		return fmt.Errorf("%s/%d@%d: no %q header: not a record of Afterimage", k.Topic, k.Partition, k.Offset, hSchema)
	case schema > SchemaVersion:
		return &NewerSchemaError{Topic: k.Topic, Partition: k.Partition, Offset: k.Offset, Schema: schema}
	}
	return nil
}

// NewerSchemaError: a record was written by a newer Afterimage.
type NewerSchemaError struct {
	Topic     string
	Partition int32
	Offset    int64
	Schema    int
}

func (e *NewerSchemaError) Error() string {
	return fmt.Sprintf("%s/%d@%d: schema %d is newer than %d: upgrade Afterimage before it reads this topic", e.Topic, e.Partition, e.Offset, e.Schema, SchemaVersion)
}

func parseMoment(s string) (time.Time, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	return time.Unix(0, n).UTC(), nil
}
