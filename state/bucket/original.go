package bucket

import (
	"crypto/md5" // the ETag of S3 is defined so; integrity is checked with SHA-256
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/afterimage-dr/afterimage/topology"
)

// Original is an object as the source had it: the body of its record in changes,
// and the record's stamp, so that the bucket alone can recover.
type Original struct {
	// Path in the bucket, without the prefix; see [Path].
	Path string
	Key  topology.Key
	// LiveSynchronization is <namespace>/<name>; SourceCluster the UID of the source
	// cluster's kube-system. Both own what a recovery writes.
	LiveSynchronization, SourceCluster    string
	Version                               topology.Version
	UID                                   string
	NamespaceLabels, NamespaceAnnotations map[string]string
	// SyncedAt is when the record was appended to the log, so that what is stored
	// is a pure function of the record.
	SyncedAt time.Time
	// Body without the control annotations.
	Body []byte
}

// FromRecord is the original that a record of changes holds. An error means that
// the record holds none: it is a delete or a control record.
func FromRecord(owner topology.Owner, r *topology.Record) (Original, error) {
	namespace, name, _ := strings.Cut(owner.LiveSynchronization, "/")
	if r.Kind != topology.Object || len(r.Body) == 0 {
		return Original{}, fmt.Errorf("record %s of kind %q with a body of %d bytes holds no original", r.Key, r.Kind, len(r.Body))
	}
	key, err := topology.ParseKey(r.Key)
	if err != nil {
		return Original{}, err
	}
	return Original{
		Path:                 Path(namespace, name, key),
		Key:                  key,
		LiveSynchronization:  owner.LiveSynchronization,
		SourceCluster:        owner.SourceUID,
		Version:              r.Version,
		UID:                  r.UID,
		NamespaceLabels:      r.NamespaceLabels,
		NamespaceAnnotations: r.NamespaceAnnotations,
		SyncedAt:             r.AppendedAt,
		Body:                 r.Body,
	}, nil
}

// ETagOf content is the ETag that a store gives it: the MD5, in hex. A store
// that encrypts with keys of its own has other ETags; see [Bucket.PutKnown].
func ETagOf(content []byte) string {
	sum := md5.Sum(content)
	return hex.EncodeToString(sum[:])
}

// Names of the metadata (x-amz-meta-…) of an object. With them a version can be
// compared, and damage be found, without reading the content.
const (
	metaSchema  = "afterimage-schema"
	metaSum     = "afterimage-sha256"
	metaMD5     = "afterimage-md5"
	metaVersion = "afterimage-version"
	metaKey     = "afterimage-key"
)

// SchemaVersion of what is stored. What is of a newer one is not read.
const SchemaVersion = 1

func checksum(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

func (o *Original) metadata(content []byte) map[string]string {
	return map[string]string{
		metaSchema:  strconv.Itoa(SchemaVersion),
		metaSum:     checksum(content),
		metaMD5:     ETagOf(content),
		metaVersion: toASCII(o.Version.String()),
		metaKey:     toASCII(o.Key.String()),
	}
}

// checkSchema tells whether metadata is ours and can be read.
func checkSchema(metadata map[string]string) error {
	text := metadata[metaSchema]
	if text == "" || metadata[metaSum] == "" {
		return ErrForeign
	}
	schema, err := strconv.Atoi(text)
	if err != nil || schema < 1 {
		return fmt.Errorf("%w: schema %q", ErrForeign, text)
	}
	if schema > SchemaVersion {
		return fmt.Errorf("schema %d is newer than %d: upgrade Afterimage before it reads this bucket", schema, SchemaVersion)
	}
	return nil
}

// toASCII writes what a header cannot carry, and %, as %XX.
func toASCII(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func fromASCII(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", fmt.Errorf("%q ends within an escape", s)
		}
		c, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", fmt.Errorf("%q: %w", s, err)
		}
		b.WriteByte(byte(c))
		i += 2
	}
	return b.String(), nil
}
