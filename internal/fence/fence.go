// Package fence is the protocol by which a recovery takes a destination over and
// keeps it: a Lease in the destination cluster itself, so that it works with every
// other cluster gone, and holds whoever writes, from wherever.
//
//   - The Lease is afterimage-system/[Name] of the LiveSynchronization.
//   - Whoever wants to write puts its name into it first ([Fence.Register]), and
//     writes only after it has read its name there and that nothing is fenced; one
//     successful read allows that for [Valid], and no request takes longer than
//     [RequestTimeout].
//   - A recovery raises the term ([Fence.Raise]). While the term is above what was
//     lifted, the destination is fenced: nobody but the recovery begins a write.
//     Each writer that has none under way says so ([Fence.Acknowledge]).
//   - The recovery writes when every writer in the Lease has said so, or when
//     [Settled] is over, after which a writer that follows this protocol writes no
//     more, whatever it is doing ([Fence.Await]).
//   - Only a person lifts the fence ([Fence.Resume]). Recoveries until then share
//     the term.
//
// One recovery at a time holds the Lease; another may take it over when it was
// not renewed for [HoldFor].
package fence

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/topology"
)

// The times of the protocol.
const (
	// ReadEvery is how often a writer reads the Lease.
	ReadEvery = 3 * time.Second
	// Valid is how long a successful read allows writes, from its beginning.
	Valid = 10 * time.Second
	// RequestTimeout of a writer's requests to the destination.
	RequestTimeout = 8 * time.Second
	// Settled is how long a recovery waits for writers that do not acknowledge:
	// Valid and RequestTimeout, and a good part more for clocks that run unevenly.
	Settled = 30 * time.Second
	// HoldFor is how long a recovery that does not renew keeps others out: several
	// times what it takes to renew, and more than any of its requests may take.
	// RenewEvery is how often it renews.
	HoldFor    = 20 * time.Second
	RenewEvery = 3 * time.Second
)

// Where the Lease is and what it says.
const (
	Namespace = "afterimage-system"
	// TermAnnotation is the term of the recovery that raised the fence.
	TermAnnotation = topology.MarkPrefix + "term"
	// ResumeAnnotation is the highest term that a person has lifted. On a
	// LiveSynchronization it asks for that.
	ResumeAnnotation = topology.MarkPrefix + "resume"

	writerPrefix       = topology.MarkPrefix + "writer-"
	acknowledgedPrefix = topology.MarkPrefix + "acknowledged-"
)

// Name of the Lease of a LiveSynchronization.
func Name(namespace, name string) string {
	sum := sha256.Sum256([]byte(namespace + "/" + name))
	return hex.EncodeToString(sum[:16])
}

// WriterAnnotation and AcknowledgedAnnotation are those of one writer.
func WriterAnnotation(instance string) string { return writerPrefix + short(instance) }

// AcknowledgedAnnotation holds the term that a writer has acknowledged.
func AcknowledgedAnnotation(instance string) string { return acknowledgedPrefix + short(instance) }

func short(instance string) string {
	sum := sha256.Sum256([]byte(instance))
	return hex.EncodeToString(sum[:8])
}

// Resource of the Lease.
var Resource = kube.Resource{
	GroupVersionResource: schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"},
	Kind:                 "Lease", Namespaced: true,
}

// Fence of one LiveSynchronization in one destination. Safe for concurrent use.
type Fence struct {
	client *kube.Client
	key    topology.Key
}

// New makes a fence; it does not connect yet.
func New(destination *kube.Client, namespace, name string) *Fence {
	return &Fence{client: destination, key: topology.Key{
		Group: Resource.Group, Version: Resource.Version, Resource: Resource.Resource, Namespace: Namespace, Name: Name(namespace, name),
	}}
}

// Key of the Lease.
func (f *Fence) Key() topology.Key { return f.key }

// State is what one read of the Lease told. The zero State is that of a Lease
// that is not there: a fence nobody has raised, and nobody has registered at.
type State struct {
	// Term that was raised last, and the highest that was lifted.
	Term, Lifted int64
	// Holder is the recovery that holds the Lease; RenewedAt its last word, by its
	// own clock.
	Holder    string
	RenewedAt time.Time
	// Writers by instance, with the term each has acknowledged.
	Writers map[string]int64

	uid, rv string
	bare    bool // it has no annotations yet
}

// Fenced tells whether a recovery holds the destination.
func (s State) Fenced() bool { return s.Term > s.Lifted }

// Registered tells whether an instance may write while nothing is fenced.
func (s State) Registered(instance string) bool { _, ok := s.Writers[instance]; return ok }

// Waiting are the writers that have not acknowledged the term, in order.
func (s State) Waiting() []string {
	var out []string
	for _, w := range slices.Sorted(maps.Keys(s.Writers)) {
		if s.Writers[w] < s.Term {
			out = append(out, w)
		}
	}
	return out
}

// read the annotations of a Lease.
func (s *State) annotations(m map[string]string) {
	s.Writers = map[string]int64{}
	s.Term, s.Lifted = number(m[TermAnnotation]), number(m[ResumeAnnotation])
	for k, instance := range m {
		if strings.HasPrefix(k, writerPrefix) {
			s.Writers[instance] = number(m[AcknowledgedAnnotation(instance)])
		}
	}
}

// number reads a term; anything else is none.
func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
