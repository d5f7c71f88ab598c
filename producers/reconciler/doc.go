// Package reconciler is the subtractive resynchronization: it compares what a
// LiveSynchronization has put into the destination with what the source holds,
// and asks for a second opinion on every object that exists only in the
// destination.
//
// # What it guarantees
//
//   - It deletes nothing and appends nothing to changes: it appends the keys it
//     doubts to requests, and the elected eventslistener looks at the source,
//     passes the breaker and appends the tombstone (guarantees 4, 8). So deletes
//     reach the destination that no log remembers: those of a time whose changes
//     were lost with a topic (guarantee 6).
//   - It doubts only what this LiveSynchronization put there for this source, by
//     label and by annotations, under the key that the object itself carries
//     (guarantee 9). Adopted objects, namespaces that forceNamespaceCreation made
//     and objects moved by hand are left alone and counted.
//   - A listing of either cluster that failed, was cut or came out of order
//     concludes nothing: the resource is abandoned and tried again later. The
//     destination is listed before the source, so an object created meanwhile is
//     never missing; what was deleted meanwhile is looked at again before it is
//     asked for.
//   - Another cluster behind the source's kubeconfig halts it until a person
//     confirms.
//   - Memory does not grow with the clusters: both are listed in pages, metadata
//     only, and joined in key order.
//
// # What it does not
//
// It adds and repairs nothing (the eventslistener and the synchronizer do), and
// it does not look at resources that the configuration does not name any more:
// their objects leave by the change of the configuration itself.
package reconciler
