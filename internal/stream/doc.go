// Package stream reaches the log: Kafka, Redpanda or the embedded broker.
//
// It gives a component four things: reading a stretch of a partition (Read, Fold,
// At), following a partition from an offset of its own (Tail), appending
// (Writer), and membership in a consumer group (Group). Positions are never taken
// from the broker: components keep theirs in package state (guarantees 1 and 2).
//
// What it promises:
//
//   - Passing trouble (a broker down, a leader moved) is retried inside, for as
//     long as the context lives. Client.Healthy says whether there is any.
//   - An offset that is not in the log is an error (ErrOffsetOutOfRange), never a
//     silent reset. A topic that was deleted and made anew is an error
//     (ErrTopicRecreated), never a silent continuation.
//   - Writers are idempotent and wait for all in-sync replicas; records of one
//     partition are appended in the order of Append.
//   - An Assignment is alive only while the group answered a heartbeat that was
//     sent within the last half session (guarantee 4): a process that was stopped
//     and continued is not alive until the group says so again.
package stream
