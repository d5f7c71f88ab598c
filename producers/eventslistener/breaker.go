package eventslistener

import (
	"fmt"

	"github.com/afterimage-dr/afterimage/internal/breaker"
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
// and says why (guarantee 8).
func trip(resource, all tally) (reason string, tripped bool) {
	of := func(t tally) breaker.Tally { return breaker.Tally{Gone: t.missing, Tracked: t.tracked} }
	switch breaker.Default().Judge(of(resource), of(all)) {
	case breaker.Resource:
		all = resource
		fallthrough
	case breaker.All:
		return fmt.Sprintf("%d of %d objects of %s are missing in the source", all.missing, all.tracked, all.name), true
	case breaker.Whole:
		return fmt.Sprintf("all %d objects of %s are missing in the source", resource.missing, resource.name), true
	}
	return "", false
}
