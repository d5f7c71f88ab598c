package history

import (
	"bytes"
	"cmp"
	"hash/maphash"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/topology"
)

// hash of a key. Two seeds: two of a million keys share one with a probability
// of about 1 in 10^27.
type hash [2]uint64

// seeds of a process are as good as those of a scan.
var seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

func hashOf(key []byte) hash {
	return hash{maphash.Bytes(seeds[0], key), maphash.Bytes(seeds[1], key)}
}

// chosen is the record of a key that counts so far.
type chosen struct {
	version version
	pick    pick
}

// pick is the offset of a record, and whether it says that its key is gone.
type pick int64

func pickOf(offset int64, deleted bool) pick {
	p := pick(offset) << 1
	if deleted {
		p |= 1
	}
	return p
}

func (p pick) offset() int64 { return int64(p >> 1) }
func (p pick) deleted() bool { return p&1 != 0 }

// choice finds, in one partition, the record of each key that holds at a moment.
type choice struct {
	at   int64 // Unix nanoseconds
	keys map[hash]chosen
	// odd versions of keys in full.
	odd    map[hash]topology.Version
	stamps stamps
}

func newChoice(at int64) *choice {
	return &choice{at: at, keys: map[hash]chosen{}, odd: map[hash]topology.Version{}, stamps: stamps{}}
}

func (c *choice) take(k *kgo.Record, g *topology.Glance) {
	if g.Moment > c.at {
		return
	}
	v := parseVersion(g.Version)
	if !g.Deleted {
		c.stamps.take(k, g, v)
	}
	h := hashOf(k.Key)
	last, known := c.keys[h]
	if known && c.older(h, g, v, last.version) {
		return // Guarantee 3: a zombie's record sets nothing back.
	}
	if v.odd {
		c.odd[h], _ = topology.ParseVersion(string(g.Version)) // unreadable: nothing is known of it
	}
	c.keys[h] = chosen{version: v, pick: pickOf(k.Offset, g.Deleted)}
}

func (c *choice) older(h hash, g *topology.Glance, v, last version) bool {
	if !v.odd && !last.odd {
		return v.older(last)
	}
	before := last.full()
	if last.odd {
		before = c.odd[h]
	}
	now, err := topology.ParseVersion(string(g.Version))
	return err == nil && now.Older(before)
}

// picks are the chosen records in the order of the log.
func (c *choice) picks() (picks []pick, live int) {
	picks = make([]pick, 0, len(c.keys))
	for _, k := range c.keys {
		picks = append(picks, k.pick)
		if !k.pick.deleted() {
			live++
		}
	}
	slices.SortFunc(picks, func(a, b pick) int { return cmp.Compare(a, b) })
	return picks, live
}

// stamps are what records say of namespaces: by namespace, that of the newest.
type stamps map[string]*stamp

type stamp struct {
	version             version // epoch and ns only
	labels, annotations []byte
}

// take notes the stamp of a record. Nothing is kept of resourceVersions that have
// no order: such a record keeps its own.
func (s stamps) take(k *kgo.Record, g *topology.Glance, v version) {
	if v.odd || v.ns == 0 || g.NamespaceLabels == nil {
		return
	}
	v.rv = 0
	namespace := namespaceOf(k.Key)
	st, ok := s[string(namespace)]
	switch {
	case !ok:
		st = &stamp{}
		s[string(namespace)] = st
	case !st.version.older(v):
		return
	}
	st.version, st.labels, st.annotations = v, bytes.Clone(g.NamespaceLabels), bytes.Clone(g.NamespaceAnnotations)
}

// merge takes in those of another partition.
func (s stamps) merge(other stamps) {
	for namespace, st := range other {
		if mine, ok := s[namespace]; !ok || mine.version.older(st.version) {
			s[namespace] = st
		}
	}
}

// namespaceOf is the fourth part of a record key.
func namespaceOf(key []byte) []byte {
	for range 3 {
		i := bytes.IndexByte(key, '/')
		if i < 0 {
			return nil
		}
		key = key[i+1:]
	}
	namespace, _, _ := bytes.Cut(key, []byte{'/'})
	return namespace
}
