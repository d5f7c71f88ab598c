package topology

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/resourceversion"
)

// Version orders the states of one key. What is applied for a key never goes
// down (guarantee 3). The order is lexicographic over the fields.
type Version struct {
	// Epoch rises when the source's resourceVersions were seen to go back
	// (its etcd was restored). Unix seconds at opening, at least the previous + 1.
	Epoch int64
	// RV is the resourceVersion of the object in the source; of a delete, the
	// resourceVersion at which it was deleted or was seen to be absent.
	RV string
	// NamespaceRV is the resourceVersion of the namespace whose labels the
	// record is stamped with; empty for a cluster-scoped object.
	NamespaceRV string
	// Generation is that of the configuration that computed a desired state;
	// 0 in the change log, whose records do not depend on a configuration.
	Generation int64
}

// Compare returns -1, 0 or 1. ok is false when a resourceVersion is not
// comparable (an aggregated API server may use opaque ones): the caller falls
// back to the order of the log, and counts it.
func (v Version) Compare(o Version) (order int, ok bool) {
	if c := cmp.Compare(v.Epoch, o.Epoch); c != 0 {
		return c, true
	}
	c, ok := compareRV(v.RV, o.RV)
	if !ok || c != 0 {
		return c, ok
	}
	if c, ok = compareRV(v.NamespaceRV, o.NamespaceRV); !ok || c != 0 {
		return c, ok
	}
	return cmp.Compare(v.Generation, o.Generation), true
}

// Older tells whether v is provably older than o. Equal is not older, and what
// cannot be compared is not older either: the order of the log decides then.
func (v Version) Older(o Version) bool {
	c, ok := v.Compare(o)
	return ok && c < 0
}

// IsZero tells whether nothing is known.
func (v Version) IsZero() bool { return v == Version{} }

func compareRV(a, b string) (int, bool) {
	// Nothing is known of either: neither is older.
	unknown := func(s string) bool { return s == "" || s == "0" }
	switch {
	case a == b || unknown(a) && unknown(b):
		return 0, true
	case unknown(a):
		return -1, true
	case unknown(b):
		return 1, true
	}
	c, err := resourceversion.CompareResourceVersion(a, b)
	return c, err == nil
}

// A resourceVersion is opaque, and may hold the dot that separates the parts.
var (
	escapeRV   = strings.NewReplacer("%", "%25", ".", "%2E")
	unescapeRV = strings.NewReplacer("%2E", ".", "%25", "%")
)

// String is the form kept in a header and in the version annotation of a
// destination object: <epoch>.<rv>.<namespace rv>.<generation>, where the
// resourceVersions have % and . written as %25 and %2E.
func (v Version) String() string {
	return strconv.FormatInt(v.Epoch, 10) + "." + escapeRV.Replace(v.RV) + "." + escapeRV.Replace(v.NamespaceRV) + "." + strconv.FormatInt(v.Generation, 10)
}

// ParseVersion is the inverse of [Version.String]. It refuses everything String
// cannot have produced.
func ParseVersion(s string) (Version, error) {
	p := strings.Split(s, ".")
	if len(p) != 4 {
		return Version{}, fmt.Errorf("version %q: want <epoch>.<resourceVersion>.<namespace resourceVersion>.<generation>", s)
	}
	epoch, err := strconv.ParseInt(p[0], 10, 64)
	if err != nil {
		return Version{}, fmt.Errorf("version %q: epoch: %w", s, err)
	}
	gen, err := strconv.ParseInt(p[3], 10, 64)
	if err != nil {
		return Version{}, fmt.Errorf("version %q: generation: %w", s, err)
	}
	v := Version{Epoch: epoch, RV: unescapeRV.Replace(p[1]), NamespaceRV: unescapeRV.Replace(p[2]), Generation: gen}
	if v.String() != s {
		return Version{}, fmt.Errorf("version %q: not in the form it is written in, %s", s, v)
	}
	return v, nil
}
