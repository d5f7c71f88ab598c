// Package pipeline builds the components of LiveSynchronizations and runs them
// in one process: every one of them from its topics to its status, several side
// by side over one log and one memory.
//
// It guarantees that a component that ends is started again and shown as not
// ready meanwhile, that a new configuration reaches the components that run
// without a restart where it can, and that two processes never share a data
// directory. What the components do with the records is theirs alone.
package pipeline
