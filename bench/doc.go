// Command bench measures Afterimage beside a bare client that does the least
// any tool would have to do, in one run, alternating, on real API servers, and
// checks that both ended equal. Quote its ratios, not its seconds: both sides
// share the machine with two API servers, and machines differ.
//
//	go run ./bench [-rounds 3] [-objects 5000] [-memory 10000,50000] [-only cold,bucket,recover,lag,resync,history,memory,zookeeper] [-trees '20 ms']
//
// The rows:
//
//   - cold: from starting until the destination holds every object. Afterimage
//     (the whole process, embedded log on disk, from its first instruction) over
//     a client that lists the source in pages and creates with 32 workers.
//   - bucket: cold convergence while the originals are stored in a bucket, over the
//     same without one. The bucket is a server in this process that discards
//     bodies, so that what is measured is ours. Off that clock, until it was given
//     every original.
//   - recover: afterimage recover, the whole process, into an empty destination, from
//     the log and from a bucket on a real S3 server, over a client that applies the
//     same objects from memory with 32 workers.
//   - lag: from the source's answer to a write until the destination's watch
//     shows it, p50 and p99, at half the rate the bare watch-and-write loop can
//     sustain, Afterimage over that loop.
//   - resync: writes to the destination during full comparisons that find
//     nothing to do; the goal is 0.
//   - history: computing the source's state at a moment, bodies included, from
//     100,000 events over 10,000 keys in the embedded log, over one LIST of 10,000
//     such objects; and, in seconds, the audit of one object in a log of 1,000,000
//     changes and as many outcomes.
//   - zookeeper: copying trees between two ZooKeeper servers, at loopback and 20 ms
//     away. Afterimage (afterimage sync, the whole process, its log on disk) over a
//     client that creates the same nodes in the same transactions, once from memory
//     ("bare creations", which leaves out that a copy has to read its source) and
//     once after reading the source ("bare copy"); how many times as fast it is as
//     zk-shell's recursive cp; and a run that finds nothing to do over reading both
//     trees once. The bare clients are the ordinary library, which cannot read many
//     nodes with one request. There is no row for zkcopy
//     (github.com/ksprojects/zkcopy): Maven Central has no com.github.ksprojects:zkcopy.
//     zk-shell is what PyPI has; it asks for one node after the other, so it is no
//     substitute: zkcopy has many requests in flight.
//   - memory: anonymous resident memory (RssAnon) with 50,000 objects over 10,000.
package main
