// Package demo shows Afterimage at work: the real program between two real
// control planes that are thrown away afterwards. What it claims at the end was
// found by reading both clusters, not by asking Afterimage.
package demo
