package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/afterimage-dr/afterimage/topology"
)

// format is the first byte of every value. A value of another format is an
// error on reading: the stage drops its state and compares (guarantee 7).
const format = 1

const (
	flagDeleted = 1 << iota
	flagHeld
	flagWithheld
)

var errTruncated = errors.New("value is truncated")

// A value is the format byte and then, in a fixed order, signed varints and
// strings with their length before them. Times are Unix nanoseconds, 0 for none.
func (p Position) encode() []byte {
	b := []byte{format}
	b = binary.AppendVarint(b, p.Offset)
	b = binary.AppendVarint(b, int64(p.LeaderEpoch))
	return appendTime(b, p.CommittedAt)
}

func decodePosition(b []byte) (Position, error) {
	d := decoder{b: b}
	d.format()
	p := Position{Offset: d.int(), LeaderEpoch: int32(d.int()), CommittedAt: d.time()}
	return p, d.done("position")
}

func (e *Entry) encode() []byte {
	b := make([]byte, 0, 64+len(e.UID)+len(e.Hash)+len(e.DestinationUID)+len(e.FieldsHash)+len(e.Mark))
	var flags byte
	if e.Deleted {
		flags |= flagDeleted
	}
	if e.Held {
		flags |= flagHeld
	}
	if e.Withheld {
		flags |= flagWithheld
	}
	b = append(b, format, flags)
	b = appendVersion(b, e.Version)
	b = binary.AppendVarint(b, e.Offset)
	for _, s := range [...]string{e.UID, e.Hash, e.DestinationUID, e.DestinationRV, e.FieldsHash, e.Mark} {
		b = appendString(b, s)
	}
	return b
}

func decodeEntry(b []byte) (Entry, error) {
	d := decoder{b: b}
	d.format()
	flags := d.byte()
	e := Entry{Deleted: flags&flagDeleted != 0, Held: flags&flagHeld != 0, Withheld: flags&flagWithheld != 0}
	e.Version = d.version()
	e.Offset = d.int()
	for _, s := range [...]*string{&e.UID, &e.Hash, &e.DestinationUID, &e.DestinationRV, &e.FieldsHash, &e.Mark} {
		*s = d.string()
	}
	return e, d.done("entry")
}

func (q *Quarantine) encode() []byte {
	b := []byte{format}
	b = appendVersion(b, q.Version)
	b = binary.AppendVarint(b, q.Offset)
	b = binary.AppendVarint(b, int64(q.Attempts))
	b = appendTime(b, q.Since)
	b = appendTime(b, q.NextTry)
	b = appendString(b, q.Reason)
	return appendString(b, q.Message)
}

func decodeQuarantine(b []byte) (Quarantine, error) {
	d := decoder{b: b}
	d.format()
	q := Quarantine{Version: d.version()}
	q.Offset, q.Attempts = d.int(), int(d.int())
	q.Since, q.NextTry = d.time(), d.time()
	q.Reason, q.Message = d.string(), d.string()
	return q, d.done("quarantine")
}

func appendVersion(b []byte, v topology.Version) []byte {
	b = binary.AppendVarint(b, v.Epoch)
	b = appendString(b, v.RV)
	b = appendString(b, v.NamespaceRV)
	return binary.AppendVarint(b, v.Generation)
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return binary.AppendVarint(b, 0)
	}
	return binary.AppendVarint(b, t.UnixNano())
}

// decoder reads a value; after the first error it returns zeros.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.b = nil
}

func (d *decoder) format() {
	if f := d.byte(); d.err == nil && f != format {
		d.fail(fmt.Errorf("format %d, want %d", f, format))
	}
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail(errTruncated)
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail(errTruncated)
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) string() string {
	l, n := binary.Uvarint(d.b)
	if n <= 0 || l > uint64(len(d.b)-n) {
		d.fail(errTruncated)
		return ""
	}
	s := string(d.b[n : n+int(l)])
	d.b = d.b[n+int(l):]
	return s
}

func (d *decoder) time() time.Time {
	n := d.int()
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

func (d *decoder) version() topology.Version {
	return topology.Version{Epoch: d.int(), RV: d.string(), NamespaceRV: d.string(), Generation: d.int()}
}

func (d *decoder) done(what string) error {
	if d.err == nil && len(d.b) != 0 {
		d.err = errors.New("value has a rest")
	}
	if d.err != nil {
		return fmt.Errorf("state: %s: %w", what, d.err)
	}
	return nil
}
