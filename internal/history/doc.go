// Package history tells from the log what the source was at a moment.
//
// # What it guarantees
//
//   - Within [Window], the state of a key at a moment is that of the last record
//     of it whose moment is not later. A record's moment is when the eventslistener
//     learned of the state ([topology.Record.Moment]), so that what had to wait for
//     an unreachable broker belongs to the time at which it was seen.
//   - What a zombie wrote behind a newer record does not count (guarantees 3, 4):
//     among the records up to the moment a provably older one never replaces a newer.
//   - The labels a record says of its namespace are those the namespace had at the
//     moment, even where the object itself was stamped again only later.
//   - A moment outside of the window is refused with its bounds; one at which
//     nobody watched the source is told apart ([GapError]).
//   - It keeps a hash, an offset and a version of each key of the partitions being
//     read (about 100 bytes), later 8 bytes, and no body.
//
// # What it does not
//
// It writes nothing, applies no filter and no patch, and says nothing of resources
// that were not covered at the time ([Window.Incomplete]). A change is known from
// the moment at which it was seen, milliseconds after it was made; a delete that
// was concluded from absence, from the moment at which it was noticed.
package history
