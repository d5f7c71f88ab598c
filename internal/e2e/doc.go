// Package e2e holds the tests that run the real binary between two real API
// servers, and between two real ZooKeeper servers: scenarios (scenarios/*.txtar, one
// per promised behaviour), kills at random points and at every step, and the faults
// that need the whole pipeline. It has no code of its own outside tests.
package e2e
