// Package state remembers, on local disk, what has been done: per partition its
// position, per key the version that was applied, and the objects that could not
// be. All of it is disposable (guarantee 7): a database that is lost, damaged or
// in doubt is moved aside, and what it held is found again by comparing a
// stage's whole input with its whole output.
//
// # Promises
//
//   - Entries, quarantine and position of a partition change in one Badger
//     transaction (guarantee 2). A change that does not fit one transaction is
//     split; the stage's own values and the position go last, so that a crash in
//     between only repeats work.
//   - What was committed survives SIGKILL at any instruction: Badger writes its
//     log into mapped files, which the kernel keeps when a process dies. A power
//     loss may lose the newest commits, entries and position together in commit
//     order, which rewinds the stage and repeats work, never skips it.
//   - One process at a time uses a folder; a second one is refused.
//
// # Layout
//
// A folder holds `lock` (taken with flock) and `badger/`. Keys, where <p> is the
// topic ID (16 bytes) and the partition number (4 bytes, big endian):
//
//	<stage> 00 'o' <p>          position
//	<stage> 00 's' <p> <key>    entry of a key
//	<stage> 00 'q' <p> <key>    quarantine entry of a key
//	<stage> 00 'm' <p> <name>   small value of the stage's own
//	00 'd' <stage> 00 <p>       a Drop that has begun; finished by the next Open
//
// Values begin with a format version byte; see codec.go.
package state
