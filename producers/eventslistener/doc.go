// Package eventslistener reads the source cluster and is the only writer of the
// changes topic.
//
// # What it guarantees
//
//   - One member of its consumer group is elected: the owner of the single
//     partition of requests. Only that one appends, and only while it hears from
//     its group (guarantee 4). Records of another writer that land between its
//     own show as holes in the offsets its appends are acknowledged with; they
//     are read, and what they set back is appended again, marked repair.
//   - For a key nothing older than what the log already holds is ever appended
//     (guarantee 3), and what is equal is not appended at all.
//   - Before it compares, it reads changes to its end, so that a record whose
//     acknowledgement a crash swallowed is not written twice and a delete that
//     happened while nothing ran is found (guarantees 6, 7, 10).
//   - A delete concluded from absence needs a complete consistent listing, a
//     second look at least ten seconds later, the same cluster behind the
//     kubeconfig, and the breaker (guarantee 8).
//   - Another cluster behind the same kubeconfig stops everything until a person
//     confirms it; a source whose resourceVersions went back opens an epoch.
//   - Nothing is cached: an object is bytes on their way from the source to the
//     log. What is remembered of a key is a version, a uid and a hash, on disk.
//   - While the brokers are unreachable appends wait: nothing is dropped, and
//     no resourceVersion is taken for passed before its record is handed over.
//
// # What it does not
//
// It knows nothing of filters and patches (the processor applies them to what is
// in changes), and it never reads or writes the destination.
//
// # Files
//
// A reader begins with listener.go (election), term.go (what an elected listener
// does, in order) and resource.go (the life of one resource).
package eventslistener
