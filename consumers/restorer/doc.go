// Package restorer is the place of recovery: the reader of changes (or of the
// bucket) that brings the applications up at the destination once the source is
// gone. It is not built yet; the fence it will raise is honoured already, see
// consumers/synchronizer/fence.go.
package restorer
