// Package breaker is the limit of what may be deleted at once without a person's
// word (guarantee 8): by the eventslistener, of what it finds missing in the
// source, and by the processor, of what a change of the configuration leaves out.
package breaker

// Limit of deletes.
type Limit struct {
	// Few objects may always go; more only while they are at most half of what is
	// tracked.
	Few int64
	// Whole: a resource may not go to nothing if it had as many objects.
	Whole int64
}

// Default is what everyday work stays below: fewer objects than a whole resource
// has are deleted together now and then, and where more is lost, other resources
// are lost too.
func Default() Limit { return Limit{Few: 10, Whole: 5} }

// Share is the limit for one who sees part of so many equal parts of everything:
// keys are spread uniformly, so his part of the deletes stands for the whole. It
// is rounded up, to at least 1.
func (l Limit) Share(part, of int) Limit {
	if part <= 0 || of <= 0 || part >= of {
		return l
	}
	scale := func(n int64) int64 { return (n*int64(part) + int64(of) - 1) / int64(of) }
	return Limit{Few: scale(l.Few), Whole: scale(l.Whole)}
}

// Tally is what would go of a resource, or of a whole LiveSynchronization.
type Tally struct {
	// Gone objects, of those that are Tracked.
	Gone, Tracked int64
}

// Excess is why deletes must wait for a person.
type Excess int

// The reasons.
const (
	// Within the limit: nothing has to wait.
	Within Excess = iota
	// Resource: more than half of a resource.
	Resource
	// All: more than half of everything.
	All
	// Whole: everything there is of a resource.
	Whole
)

// Judge compares what would go of a resource, and of everything, with the limit.
func (l Limit) Judge(resource, all Tally) Excess {
	switch {
	case l.most(resource):
		return Resource
	case l.most(all):
		return All
	case resource.Gone > 0 && resource.Gone >= l.Whole && resource.Gone >= resource.Tracked:
		return Whole
	}
	return Within
}

func (l Limit) most(t Tally) bool { return t.Gone > l.Few && 2*t.Gone > t.Tracked }
