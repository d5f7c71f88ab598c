// Package archiver keeps a bucket of originals equal to the change log: for every
// object that the filters of the configuration take, the bucket holds the body of
// its last record in changes, untransformed. It is a consumer group of its own
// beside the processor's, so that whatever becomes of the bucket delays nothing
// at the destination, and it knows no cluster: what was lost of the bucket comes
// back from the log alone.
//
// What it guarantees, per partition:
//   - A position is committed only when everything before it is acknowledged by
//     the bucket or stands in the quarantine that the same transaction commits
//     (guarantees 1 and 2).
//   - The version of an original never goes down: memory drops what is older, and
//     the bucket's client refuses it by what the stored object says of itself
//     (guarantee 3).
//   - Operations of one key run in the order of the log, different keys in
//     parallel. An object that the bucket refuses is tried again by itself and
//     delays no other; a bucket that fails as a whole stops everything, keeps the
//     partitions, and quarantines nothing (guarantee 5).
//   - A tombstone of changes is followed at once. What is concluded, because a
//     configuration leaves it out or because nothing in the log stands for it, is
//     removed by the comparison alone, behind the limit of internal/breaker
//     (guarantee 8), and only what the object itself says is ours (guarantee 9).
//   - Losing the state costs a read of changes and one listing of the bucket
//     (guarantee 7).
//
// It does not guarantee that the bucket and the destination show the same moment.
//
// A partition's life: fold what is to be read of changes, so that only each key's
// last record counts, then follow. A configuration of a higher generation begins
// again from the start of changes. Once everything is done, and again each
// resyncPeriod, the bucket is listed and compared.
//
// Files: archiver.go (membership, options), health.go (whether the bucket can be
// used), pace.go (giving way to replication), partition.go, config.go and
// stretch.go (a partition's life), lanes.go and track.go (order and position),
// effect.go (what a record does), census.go (what is there while nothing is
// remembered), quarantine.go (what failed), memory.go (what is remembered),
// compare.go, listing.go and judge.go (the comparison), report.go (status).
package archiver
