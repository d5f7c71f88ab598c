// Package owned is what Afterimage knows an object of a destination by: the marks
// it writes on every object of its own, whose an object is by its marks, whether
// it already is as desired, and why a destination refuses a write.
//
// Whoever writes to a destination (consumers/synchronizer, consumers/restorer)
// writes through it, so that each knows the other's objects again. It decides
// nothing and sends nothing but reads.
package owned
