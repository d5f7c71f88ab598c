package eventslistener

import "fmt"

// The limits of the breaker (guarantee 8). At most this many objects may be
// missing of anything; above it, at most half of what is tracked. A resource may
// not go to nothing if it had as many as wholeResource objects: fewer are deleted
// together in everyday work, and a source that is lost loses other resources too.
const (
	fewObjects    = 10
	wholeResource = 5
)

// tally is what is missing of a resource, or of the whole LiveSynchronization.
type tally struct {
	name string
	// missing objects, what a missing Namespace or CustomResourceDefinition
	// would take with it included.
	missing int64
	// tracked objects: live in the log, the missing ones among them.
	tracked int64
}

// trip decides whether deletes concluded from absence must wait for a person,
// and says why.
func trip(resource, all tally) (reason string, tripped bool) {
	for _, t := range [...]tally{resource, all} {
		if t.missing > fewObjects && 2*t.missing > t.tracked {
			return fmt.Sprintf("%d of %d objects of %s are missing in the source", t.missing, t.tracked, t.name), true
		}
	}
	if resource.missing >= wholeResource && resource.missing >= resource.tracked {
		return fmt.Sprintf("all %d objects of %s are missing in the source", resource.missing, resource.name), true
	}
	return "", false
}
