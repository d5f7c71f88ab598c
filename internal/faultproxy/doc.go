// Package faultproxy causes the faults of networks, brokers and API servers on
// purpose. [TCP] passes bytes and can cut, refuse, delay, hang or slow them;
// [HTTP] understands the Kubernetes API and injects faults by request and by
// watch event.
//
// Without a rule a proxy changes nothing that a client could notice. Every
// setting takes effect at once, for open connections too, unless its
// documentation says otherwise. Methods are safe for concurrent use.
//
// Not here: packet loss and reordering (a TCP peer never sees them, only delay)
// and changing what objects contain.
package faultproxy
