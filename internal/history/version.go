package history

import (
	"bytes"
	"strconv"

	"github.com/afterimage-dr/afterimage/topology"
)

// version is a topology.Version without its generation, which the change log does
// not use, in 24 bytes. A resourceVersion that is no such number makes it odd: its
// full form is kept elsewhere.
type version struct {
	epoch  int64
	rv, ns uint64
	odd    bool
}

// parseVersion reads the text form.
func parseVersion(b []byte) version {
	epoch, rest, ok1 := bytes.Cut(b, []byte{'.'})
	rv, rest, ok2 := bytes.Cut(rest, []byte{'.'})
	ns, _, ok3 := bytes.Cut(rest, []byte{'.'})
	if !ok1 || !ok2 || !ok3 {
		return version{odd: true}
	}
	e, ok1 := number(epoch)
	r, ok2 := number(rv)
	n, ok3 := number(ns)
	if !ok1 || !ok2 || !ok3 || e > 1<<62 {
		return version{odd: true}
	}
	return version{epoch: int64(e), rv: r, ns: n}
}

// number reads a decimal as the API server writes it; empty is 0, which says that
// nothing is known.
func number(b []byte) (n uint64, ok bool) {
	if len(b) > 19 || len(b) > 1 && b[0] == '0' {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + uint64(c-'0')
	}
	return n, true
}

func (v version) older(o version) bool {
	switch {
	case v.epoch != o.epoch:
		return v.epoch < o.epoch
	case v.rv != o.rv:
		return v.rv < o.rv
	}
	return v.ns < o.ns
}

// full is the version as topology knows it.
func (v version) full() topology.Version {
	return topology.Version{Epoch: v.epoch, RV: strconv.FormatUint(v.rv, 10), NamespaceRV: strconv.FormatUint(v.ns, 10)}
}
