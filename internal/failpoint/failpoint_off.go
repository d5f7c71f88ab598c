//go:build !failpoints

// Package failpoint marks the steps at which tests kill the process. It is
// compiled in only with the build tag failpoints; otherwise Hit is nothing.
package failpoint

// Hit does nothing in this build.
func Hit(string) {}
