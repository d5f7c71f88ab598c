package ensemble

import (
	"encoding/binary"
	"errors"
)

// What of ZooKeeper's protocol a bulk connection speaks, as
// zookeeper.jute and MultiOperationRecord of Apache ZooKeeper define it.
const (
	opGetData     = 4
	opGetChildren = 8
	opSync        = 9
	opPing        = 11
	opMultiRead   = 22
	opAuth        = 100
	opClose       = -11
	opError       = -1

	xidPing = -2
	xidAuth = -4
)

// errMalformed: an answer is not what the protocol says.
var errMalformed = errors.New("the server's answer is malformed")

// request is a packet being made: its length comes first.
type request []byte

func newRequest(xid, op int32) request {
	return request(nil).int32(0).int32(xid).int32(op)
}

func (r request) int32(v int32) request { return binary.BigEndian.AppendUint32(r, uint32(v)) } //nolint:gosec // bits
func (r request) int64(v int64) request { return binary.BigEndian.AppendUint64(r, uint64(v)) } //nolint:gosec // bits

func (r request) bool(v bool) request {
	if v {
		return append(r, 1)
	}
	return append(r, 0)
}

func (r request) string(s string) request {
	return append(r.int32(int32(len(s))), s...) //nolint:gosec // paths and passwords
}

// multi is the header of one request among many.
func (r request) multi(op int32, done bool) request { return r.int32(op).bool(done).int32(-1) }

// packet with its length.
func (r request) packet() []byte {
	binary.BigEndian.PutUint32(r, uint32(len(r)-4)) //nolint:gosec // of a few hundred paths
	return r
}

// answer is a packet being read. What it gives is part of it, and is nothing once it
// is broken.
type answer struct {
	b      []byte
	broken bool
}

func (a *answer) take(n int) []byte {
	if n < 0 || n > len(a.b) {
		a.broken, a.b = true, nil
		return nil
	}
	out := a.b[:n:n]
	a.b = a.b[n:]
	return out
}

func (a *answer) int32() int32 {
	if b := a.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b)) //nolint:gosec // bits
	}
	return 0
}

func (a *answer) int64() int64 {
	if b := a.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b)) //nolint:gosec // bits
	}
	return 0
}

func (a *answer) bool() bool {
	b := a.take(1)
	return b != nil && b[0] != 0
}

// buffer is nil where it is null.
func (a *answer) buffer() []byte {
	n := a.int32()
	if n == -1 {
		return nil
	}
	return a.take(int(n))
}

func (a *answer) strings() []string {
	n := a.int32()
	if n <= 0 {
		return nil
	}
	if int(n) > len(a.b)/4 { // each has its length
		a.broken, a.b = true, nil
		return nil
	}
	out := make([]string, n)
	for i := range out {
		out[i] = string(a.buffer())
	}
	return out
}

func (a *answer) stat() *Stat {
	return &Stat{
		Czxid: a.int64(), Mzxid: a.int64(), Ctime: a.int64(), Mtime: a.int64(),
		Version: a.int32(), Cversion: a.int32(), Aversion: a.int32(), EphemeralOwner: a.int64(),
		DataLength: a.int32(), NumChildren: a.int32(), Pzxid: a.int64(),
	}
}

// multi is the header of one answer among many: the code of its error, 0 for none.
func (a *answer) multi(op int32) (code int32) {
	got, done, _ := a.int32(), a.bool(), a.int32()
	switch {
	case a.broken || done || got != op && got != opError:
		a.broken, a.b = true, nil
	case got == opError:
		return a.int32()
	}
	return 0
}
