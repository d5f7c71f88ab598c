// Package manifest reads the manifests of standalone mode: the very manifests a
// cluster with the operator will take, from files, directories or standard input.
//
// It guarantees that what [Load] returns is complete and right as far as that
// can be known without contacting a cluster: every document passed the schema,
// defaults and rules of the CRDs that the operator installs, with unknown and
// duplicate fields refused, and everything a LiveSynchronization names exists in
// the set and can be used. Otherwise Load returns all that is wrong at once, each
// error with its file, line, object, field path and what was expected, and no
// set at all.
//
// [Watch] keeps the last good set: an invalid, half-written, empty or vanished
// manifest changes nothing but what status shows.
//
// It does not ask whether clusters can be reached: that is no property of a
// manifest, and is retried while running.
package manifest
