// Package compare proves, or disproves, that a destination holds what it should:
// it reads both clusters by itself, computes from the rules of a configuration
// what the destination must hold, and compares object by object, field by field.
//
// It shares the rules with the pipeline and nothing else: not its client, its
// log, its memory, nor what it knows of what was written. It holds both clusters'
// covered objects in memory, so it is for demonstrations and tests.
package compare
