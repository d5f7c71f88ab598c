// Package synchronization runs Synchronizations: those of the manifests once each, as
// Jobs are run, and those of SynchronizationPlans by their schedules, as a CronJob
// runs its Jobs. What is synchronized, and how, is a Plugin's.
//
// What became of a run, and how far a schedule is, is in the log (topology.RunsTopic)
// and nowhere else. So:
//
//   - A run begins only after the log says that it runs, and has ended only when the
//     log says so. One that a crash has cut off is made again under its name, which
//     attempts allow, and never forgotten.
//   - Of several processes that were given the same plan or Synchronization one runs
//     it, elected by the consumer group topology.RunsGroup; another goes on where that
//     one was. A time of a schedule is run at most once, whichever process or restart
//     comes upon it: its name says which time it is.
//   - A process that lost the election while it was stopped may write one more record
//     when it is continued; the one that is elected writes its own again.
//
// A plan or Synchronization taken out of the manifests is run no further; what runs is
// stopped, and goes on if it is named again. If the topic is deleted, what has been
// run is forgotten: Synchronizations that the manifests still name are run again, which
// is safe, and schedules begin anew.
package synchronization
