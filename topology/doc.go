// Package topology is the vocabulary of the pipeline: the topics of a
// LiveSynchronization, their keys and records, versions, the configuration that
// travels in the log, and the filter and patch rules. It is pure: the same
// record and configuration give the same result on every machine, at any time,
// with every cluster gone.
//
// A record's way: producers/eventslistener appends it to changes,
// consumers/processor turns it into desired, consumers/synchronizer writes it to
// the destination and notes the outcome in outcomes. Whoever doubts a key
// (producers/reconciler, consumers/synchronizer) asks in requests, and the
// eventslistener, the only one to write changes, looks at the source and answers
// in changes.
package topology
