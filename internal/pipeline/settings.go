// Package pipeline builds the components of a LiveSynchronization and runs them.
package pipeline
