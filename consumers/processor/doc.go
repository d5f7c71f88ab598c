// Package processor turns the change log into the desired log: for every record
// of changes it computes, with the configuration it read in that same partition,
// what the destination must hold, and appends what differs from what it appended
// before. It knows no cluster: record and configuration are all it needs, so
// replaying a partition gives the same desired log with the source long gone.
//
// What it guarantees, per partition:
//   - A position is committed only after every record computed from what lies
//     before it was acknowledged by the log, in one transaction with the memory
//     of them (guarantees 1 and 2).
//   - The version of a key in desired never goes down, and the last record of a
//     key is its newest: when a record of another incarnation landed behind ours,
//     ours is appended again, marked repair (guarantees 3 and 4).
//   - It never concludes a delete from absence. A key that desired holds and a
//     complete changes does not is asked for in requests, and only the
//     eventslistener, which can look at the source, answers.
//   - Equal output is not appended again; losing the state costs a read of both
//     logs and no record (guarantee 7).
//
// A partition's life: read desired up to its end (so that the memory says what it
// holds), fold what is to be read of changes, so that only each key's last record
// counts, then follow. A configuration of a higher generation in changes begins
// again from the start of changes.
//
// Files: processor.go (membership, options, report), partition.go (a partition's
// life), stretch.go (what is folded before it is followed), memory.go (what desired holds, and zombies), compute.go (a record's
// desired record), control.go (control records, the configuration, sweeps),
// limit.go and judge.go (what a change of the configuration may delete at once),
// withheld.go (what is kept for a recovery), commit.go (append, acknowledge, commit).
package processor
