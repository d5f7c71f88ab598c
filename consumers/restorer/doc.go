// Package restorer brings the applications up at the destination once the source
// is gone: it never contacts the source.
//
// It guarantees that
//   - nobody else writes the destination while it does: it raises the fence there
//     and waits for every writer first (package fence), and the fence stays raised
//     when it ends;
//   - it may be killed at any moment and run again: nothing is done twice, a patch
//     that is not repeatable included, and nothing is forgotten. What it did is
//     marked on each object in the very write (topology.RecoveredAnnotation);
//   - nothing foreign is written or deleted (guarantee 9), and an older state
//     replaces a newer one only where a moment was asked for (guarantee 3);
//   - it deletes nothing but at a moment that was asked for, and then behind the
//     breaker (guarantee 8);
//   - it is complete only if every object was found in the destination afterwards.
//
// A record's way through the files: originals.go reads it from the log or the
// bucket, decide.go decides what is to be done with it, write.go does that,
// pass.go tries again what depends on something else, prune.go deletes what is
// later than the moment asked for, verify.go looks at everything once more, and
// outcome.go notes the result in outcomes.
//
// The same code rehearses (a server-side dry run, or in another cluster) and
// replays (what is logged is applied again, without a fence): see Mode.
package restorer
