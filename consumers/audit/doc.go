// Package audit tells from the log what changed in the source: what, field by
// field, by whom, when it was observed and appended, and what became of it at the
// destination.
//
// # What it guarantees
//
//   - Every record of an object that is in changes and fits the query is told, in
//     the order in which the log took them; those of one partition in the order of
//     their offsets.
//   - Of a Secret nothing but names, labels and its type is ever told in clear: every
//     value else is a hash, in annotations too.
//   - Memory holds offsets of keys, results of outcomes and a bounded cache of
//     bodies, however long the log is.
//
// # What it does not
//
// It writes nothing and joins no consumer group. It knows what the log knows: who
// deleted an object the API server does not say; versions the cleaner has removed
// are gone, and the first one left is compared with nothing; states that came and
// went while no eventslistener ran show as a gap.
package audit
